"""What the doctor finds on real machines, with the libraries that a test installs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sr.device import Process
from edge_sr.doctor import (
    BACKENDS,
    DoctorReport,
    Finding,
    examine,
    human_lines,
    probe_libraries,
    trtexec_line,
)
from tests.edge_sr import trees
from tests.edge_sr.trees import CONTAINER, NANO, ORIN_NANO_JP62, ORIN_NANO_JP72, PC_PLAIN, PC_RTX

Install = Callable[..., None]

FULL = {"onnxruntime": "1.23.2", "tensorrt": "10.3.0", "cuda-bindings": "12.9.2"}
"""What a Jetson has once it is set up, besides JetPack's OpenCV."""

HIDDEN = ("onnxruntime", "openvino", "cv2", "cuda")
MODULES = {"onnxruntime-gpu": "onnxruntime", "opencv-python": "cv2", "cuda-bindings": "cuda/bindings"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of Python packages, the only one that Python sees besides its own library."""
    folder = tmp_path / "site"
    folder.mkdir()
    own = [path for path in sys.path if "-packages" not in path]
    monkeypatch.setattr(sys, "path", [str(folder), *own])
    for name in [name for name in sys.modules if name.partition(".")[0] in HIDDEN]:
        monkeypatch.delitem(sys.modules, name)
    return folder


@pytest.fixture
def install(site: Path) -> Install:
    """Installs distributions by name and version; importing any of their modules fails."""

    def put(versions: dict[str, str]) -> None:
        for name, version in versions.items():
            module = MODULES.get(name, name.replace("-", "_"))
            information = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            trees.write(site, {f"{module}/__init__.py": "raise RuntimeError('imported')\n"})
            trees.write(site, {f"{name.replace('-', '_')}-{version}.dist-info/METADATA": information})

    return put


@pytest.fixture
def jetson_ready(install: Install, site: Path) -> None:
    """A Jetson on which everything is installed; OpenCV is apt's, so pip knows nothing of it."""
    install(FULL)
    trees.write(site, {"cv2/__init__.py": ""})


def diagnose(tree: str, tmp_path: Path, *, process: Process | None = None) -> DoctorReport:
    return examine(trees.make(tree, tmp_path / "root"), process=process or trees.technician())


def found(report: DoctorReport, subject: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.subject == subject]


def the(report: DoctorReport, subject: str) -> Finding:
    (finding,) = found(report, subject)
    return finding


# ---- machines ------------------------------------------------------------


@pytest.mark.usefixtures("jetson_ready")
def test_nothing_stops_an_orin_nano_that_is_set_up(tmp_path: Path) -> None:
    report = diagnose(ORIN_NANO_JP62, tmp_path)
    assert report.works == {"onnxruntime": True, "tensorrt": True}
    assert "sm_87" in the(report, "gpu").message and the(report, "tensorrt").message == "TensorRT 10.3.0"
    assert the(report, "power").message == "power mode MAXN_SUPER"
    assert "oc3_event_cnt 27390" in the(report, "throttling").message


@pytest.mark.usefixtures("site")
def test_the_original_nano_is_told_what_it_lacks_and_what_still_works(tmp_path: Path) -> None:
    report = diagnose(NANO, tmp_path)
    gpu = the(report, "gpu")
    for fact in ("no INT8 hardware", "TensorRT 8.2", "Python 3.6", "sm_53", "JetPack 4.6"):
        assert fact in gpu.message
    for road in ("--backend onnxruntime", "--bundle cxr-x4-cnn", "--steps 4", "info cxr-x4-cnn --trtexec"):
        assert road in gpu.hint
    assert gpu.blocks == ("tensorrt",)
    assert not any(found(report, moot) for moot in ("tensorrt", "cuda", "access"))


@pytest.mark.usefixtures("jetson_ready")
@pytest.mark.parametrize(
    ("soc", "facts", "absent"),
    [
        ("tegra186", ("TensorRT 8.2", "sm_62", "no INT8 hardware"), "Python 3.8"),
        ("tegra194", ("TensorRT 8.5", "sm_72", "Python 3.8"), "no INT8"),
    ],
)
def test_other_boards_that_have_ended_are_told_so(
    soc: str, facts: tuple[str, ...], absent: str, tmp_path: Path
) -> None:
    root = trees.write(
        tmp_path / "root", {"proc/device-tree/compatible": f"nvidia,p0000-0000\0nvidia,{soc}\0"}
    )
    gpu = the(examine(root, process=trees.technician()), "gpu")
    assert gpu.level == "blocker" and all(fact in gpu.message for fact in facts) and absent not in gpu.message


@pytest.mark.usefixtures("jetson_ready")
def test_a_mode_that_is_not_the_fastest_is_named_with_the_one_that_is(tmp_path: Path) -> None:
    power = the(diagnose(ORIN_NANO_JP72, tmp_path), "power")
    assert power.message == "power mode 25W; MAXN_SUPER is the fastest"
    assert "nvpmodel -m 2" in power.hint


@pytest.mark.usefixtures("jetson_ready")
def test_only_a_free_clock_is_noticed(tmp_path: Path) -> None:
    assert (
        "free between 306 and 918 MHz" in the(diagnose(ORIN_NANO_JP72, tmp_path / "free"), "clocks").message
    )
    assert not found(diagnose(ORIN_NANO_JP62, tmp_path / "locked"), "clocks")


@pytest.mark.usefixtures("jetson_ready")
def test_a_desktop_on_a_small_board_is_noticed(tmp_path: Path) -> None:
    memory = the(diagnose(ORIN_NANO_JP72, tmp_path), "memory")
    assert memory.level == "note" and "set-default multi-user.target" in memory.hint


@pytest.mark.usefixtures("jetson_ready")
def test_little_memory_comes_with_what_frees_some(tmp_path: Path) -> None:
    root = trees.make(ORIN_NANO_JP72, tmp_path / "root")
    trees.write(root, {"proc/meminfo": trees.meminfo(7665664, 900000, 0)})
    memory = the(examine(root, process=trees.technician()), "memory")
    assert memory.level == "warning" and memory.message.startswith("878 of 7486 MiB")
    assert all(cure in memory.hint for cure in ("desktop", "NVMe", "zram"))


def test_an_orin_on_an_old_jetpack_is_told_to_flash_a_new_one(
    install: Install, site: Path, tmp_path: Path
) -> None:
    install({"onnxruntime": "1.16.3", "cuda-bindings": "12.9.2"})
    trees.write(site, {"tensorrt/__init__.py": ""})
    root = trees.make(ORIN_NANO_JP62, tmp_path / "root")
    trees.write(root, {"etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 1\n"})
    trees.write(root, trees.packages(libnvinfer8="8.5.2-1+cuda11.4"))
    tensorrt = the(examine(root, process=trees.technician()), "tensorrt")
    assert tensorrt.message.startswith("TensorRT 8.5.2 of JetPack 5.1.2")
    assert tensorrt.blocks == ("tensorrt",) and "flash JetPack" in tensorrt.hint


@pytest.mark.usefixtures("site")
def test_a_container_without_device_nodes_is_told_how_to_start(tmp_path: Path) -> None:
    report = diagnose(CONTAINER, tmp_path)
    access = the(report, "access")
    assert access.message == "inside docker, without /dev/nvmap, /dev/nvhost-ctrl-gpu"
    assert "--runtime nvidia" in access.hint and access.blocks == ("tensorrt",)
    assert "use an image that has it" in the(report, "tensorrt").hint


@pytest.mark.usefixtures("jetson_ready")
def test_a_user_outside_the_groups_is_told_which(tmp_path: Path) -> None:
    process = trees.technician(gids=frozenset({1000, 44}))
    access = the(diagnose(ORIN_NANO_JP62, tmp_path, process=process), "access")
    assert "render" in access.message and "usermod -aG render" in access.hint


@pytest.mark.usefixtures("jetson_ready")
def test_a_missing_node_on_the_machine_itself_is_the_drivers_matter(tmp_path: Path) -> None:
    root = trees.make(ORIN_NANO_JP62, tmp_path / "root")
    (root / "dev/nvmap").unlink()
    access = the(examine(root, process=trees.technician()), "access")
    assert access.message == "cannot open /dev/nvmap" and "driver" in access.hint


def test_a_pc_with_a_card_runs_tensorrt_rtx(install: Install, tmp_path: Path) -> None:
    install({"onnxruntime": "1.23.2", "tensorrt-rtx": "1.2.0", "cuda-bindings": "13.0.3"})
    report = diagnose(PC_RTX, tmp_path)
    assert report.works == {"onnxruntime": True, "tensorrt": True}
    assert "driver 595.91.07" in the(report, "gpu").message
    assert the(report, "tensorrt").message == "TensorRT-RTX 1.2.0"


def test_tensorrt_rtx_does_not_serve_a_jetson(install: Install, tmp_path: Path) -> None:
    install({"onnxruntime": "1.23.2", "tensorrt-rtx": "1.2.0", "cuda-bindings": "12.9.2"})
    assert not diagnose(ORIN_NANO_JP62, tmp_path).works["tensorrt"]


def test_a_pc_without_a_card_runs_on_its_cpu(install: Install, tmp_path: Path) -> None:
    install({"onnxruntime": "1.23.2", "tensorrt-rtx": "1.2.0"})
    report = diagnose(PC_PLAIN, tmp_path)
    assert report.works == {"onnxruntime": True, "tensorrt": False}
    assert the(report, "gpu").level == "note" and "everything runs on the CPU" in the(report, "gpu").message
    assert "portable engines" in the(report, "tensorrt").message
    assert the(report, "cpu").message == "INT8 instructions: avx512_vnni, avx_vnni"


@pytest.mark.usefixtures("site")
def test_a_card_without_its_driver_is_told_from_no_card(tmp_path: Path) -> None:
    root = trees.make(PC_RTX, tmp_path / "root")
    (root / "proc/driver/nvidia/gpus/0000:02:00.0/information").unlink()
    gpu = the(examine(root, process=trees.technician()), "gpu")
    assert gpu.message == "an NVIDIA card, but no driver for it" and "install the NVIDIA driver" in gpu.hint


@pytest.mark.usefixtures("jetson_ready")
def test_heat_and_slowing_down_are_warnings(tmp_path: Path) -> None:
    root = trees.make(ORIN_NANO_JP62, tmp_path / "root")
    trees.write(root, trees.thermal(("tj-thermal", "97500"), ("PMIC-Die", "100000")))
    trees.write(root, {"sys/class/thermal/cooling_device1/cur_state": "1\n"})
    hot, slowed = found(examine(root, process=trees.technician()), "heat")
    assert hot.message == "tj-thermal at 98 °C" and slowed.message == "slowed down now by cpu-throttle-alert"


@pytest.mark.usefixtures("site")
def test_an_old_python_stops_everything(tmp_path: Path) -> None:
    old = Process(1000, frozenset({44}), (3, 6), "/usr/bin/python3", False, True)
    report = diagnose(NANO, tmp_path, process=old)
    assert the(report, "python").blocks == BACKENDS


# ---- libraries ------------------------------------------------------------


@pytest.mark.usefixtures("jetson_ready")
def test_libraries_are_found_without_being_imported(site: Path) -> None:
    libraries = probe_libraries()
    assert libraries["cuda.bindings"].is_found and libraries["cuda.bindings"].version == "12.9.2"
    assert libraries["onnxruntime"].version == "1.23.2" and not libraries["pycuda"].is_found
    assert libraries["cv2"].is_found and libraries["cv2"].distributions == {}
    assert not {"onnxruntime", "cuda", "cuda.bindings"} & set(sys.modules)


def test_onnxruntimes_providers_are_told_by_its_files(install: Install, site: Path) -> None:
    install({"onnxruntime-gpu": "1.23.2"})
    trees.write(site, {"onnxruntime/capi/libonnxruntime_providers_cuda.so": ""})
    assert probe_libraries()["onnxruntime"].providers == ("CUDAExecutionProvider", "CPUExecutionProvider")


def test_both_onnxruntimes_at_once_are_a_warning(install: Install, tmp_path: Path) -> None:
    install({"onnxruntime": "1.23.2", "onnxruntime-gpu": "1.22.0"})
    finding = the(diagnose(PC_PLAIN, tmp_path), "onnxruntime")
    assert finding.level == "warning" and "onnxruntime 1.23.2 and onnxruntime-gpu 1.22.0" in finding.message


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("tree", "fix"), [(PC_PLAIN, "edge-sr[cpu]"), (ORIN_NANO_JP62, "pip install onnxruntime")]
)
def test_without_onnxruntime_the_cpu_road_is_closed(tree: str, fix: str, tmp_path: Path) -> None:
    finding = the(diagnose(tree, tmp_path), "onnxruntime")
    assert finding.blocks == ("onnxruntime",) and fix in finding.hint


def test_openvino_is_told_where_it_is_and_missed_by_nobody(install: Install, tmp_path: Path) -> None:
    install({"onnxruntime": "1.23.2"})
    assert not found(diagnose(PC_PLAIN, tmp_path / "without"), "openvino")
    install({"openvino": "2026.4.1"})
    assert the(diagnose(PC_PLAIN, tmp_path / "with"), "openvino").message.startswith("2026.4.1")


def test_an_opencv_from_pip_shadows_jetpacks(install: Install, tmp_path: Path) -> None:
    install(FULL | {"opencv-python": "4.12.0"})
    assert "shadows JetPack's" in the(diagnose(ORIN_NANO_JP62, tmp_path), "opencv").message


def test_in_a_container_there_is_no_jetpack_opencv_to_shadow(install: Install, tmp_path: Path) -> None:
    install(FULL | {"opencv-python": "4.11.0"})
    assert not found(diagnose(CONTAINER, tmp_path), "opencv")


def test_pycuda_serves_without_graphs(install: Install, tmp_path: Path) -> None:
    install({"onnxruntime": "1.23.2", "tensorrt": "10.3.0", "pycuda": "2024.1.2"})
    report = diagnose(ORIN_NANO_JP62, tmp_path)
    assert report.works["tensorrt"] and "no CUDA graphs" in the(report, "cuda").message


@pytest.mark.parametrize(
    ("process", "hint"),
    [
        (trees.technician(is_venv=True, sees_all=False), "--system-site-packages"),
        (trees.technician(), "python3-libnvinfer"),
    ],
)
def test_a_tensorrt_out_of_sight_is_told_from_a_missing_one(
    process: Process, hint: str, install: Install, tmp_path: Path
) -> None:
    install({"onnxruntime": "1.23.2", "cuda-bindings": "12.9.2"})
    finding = the(diagnose(ORIN_NANO_JP62, tmp_path, process=process), "tensorrt")
    assert "TensorRT 10.3.0.30 is installed" in finding.message and hint in finding.hint


@pytest.mark.usefixtures("site")
def test_a_tensorrt_that_is_not_there_comes_from_jetpack(tmp_path: Path) -> None:
    root = trees.make(ORIN_NANO_JP62, tmp_path / "root")
    (root / "var/lib/dpkg/status").unlink()
    finding = the(examine(root, process=trees.technician()), "tensorrt")
    assert finding.message == "TensorRT is not installed" and "nvidia-jetpack" in finding.hint


# ---- the report ------------------------------------------------------------


@pytest.mark.usefixtures("jetson_ready")
@pytest.mark.parametrize("tree", list(trees.TREES))
def test_every_report_can_be_written_as_json_and_as_lines(tree: str, tmp_path: Path) -> None:
    report = diagnose(tree, tmp_path)
    values = report.to_json()
    assert json.loads(json.dumps(values))["works"] == report.works
    lines = human_lines(report)
    assert all(finding.message in "\n".join(lines) for finding in report.findings)
    assert all(line and "\n" not in line for line in lines)


@pytest.mark.usefixtures("site")
def test_the_json_names_no_user(tmp_path: Path) -> None:
    process = Process(1234, frozenset({4321}), (3, 11), "/home/jane/venv/bin/python", True, False)
    text = json.dumps(diagnose(ORIN_NANO_JP62, tmp_path, process=process).to_json())
    assert not any(personal in text for personal in ("jane", "1234", "4321"))


@pytest.mark.usefixtures("site")
def test_blockers_come_first_and_with_what_to_do(tmp_path: Path) -> None:
    lines = human_lines(diagnose(NANO, tmp_path))
    levels = [line.split("]")[0] for line in lines if line.startswith("[")]
    assert levels == sorted(levels, key=["[blocker", "[warning", "[note", "[ok"].index)
    assert lines[0].startswith("board") and "heat       AO-therm 40, CPU-therm 36" in "\n".join(lines)
    assert any(line.startswith("    do: ") for line in lines)


@pytest.mark.usefixtures("site")
def test_nothing_is_known_of_an_empty_root_and_nothing_raises(tmp_path: Path) -> None:
    report = examine(tmp_path / "nothing", process=trees.technician())
    assert report.device.kind == "cpu" and human_lines(report)


def test_the_line_for_trtexec_has_the_flags_of_its_version() -> None:
    old = trtexec_line("step.onnx", "step.plan", tensorrt="8.2.1", command="/usr/src/tensorrt/bin/trtexec")
    assert (
        old == "/usr/src/tensorrt/bin/trtexec --onnx=step.onnx --saveEngine=step.plan --fp16 --workspace=1024"
    )
    assert "--stronglyTyped --memPoolSize=workspace:1024" in trtexec_line("step.onnx", "step.plan")
