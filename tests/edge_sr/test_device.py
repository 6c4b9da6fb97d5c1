"""What `describe` makes of real machines' files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sr.device import MODULES, SOCS, Process, describe
from tests.edge_sr import trees
from tests.edge_sr.trees import CONTAINER, NANO, ORIN_NANO_JP62, ORIN_NANO_JP72, PC_PLAIN, PC_RTX


def test_an_orin_nano_is_known_by_its_part_number(tmp_path: Path) -> None:
    board = describe(trees.make(ORIN_NANO_JP62, tmp_path)).board
    assert board is not None and board.soc is SOCS["tegra234"]
    assert (board.part, board.module) == ("p3767-0005", "Jetson Orin Nano 8GB (developer kit)")
    assert board.model.endswith("Developer Kit Super") and board.is_super


def test_an_orin_has_int8_and_fp16_and_the_original_nano_has_no_int8(tmp_path: Path) -> None:
    orin = describe(trees.make(ORIN_NANO_JP62, tmp_path / "orin")).gpu
    nano = describe(trees.make(NANO, tmp_path / "nano")).gpu
    assert orin is not None and nano is not None
    assert (orin.compute_capability, orin.has_int8, orin.has_fp16) == ((8, 7), True, True)
    assert (nano.compute_capability, nano.has_int8, nano.has_fp16) == ((5, 3), False, True)


@pytest.mark.parametrize(
    ("soc", "capability", "has_int8"),
    [
        ("tegra210", (5, 3), False),
        ("tegra186", (6, 2), False),
        ("tegra194", (7, 2), True),
        ("tegra234", (8, 7), True),
        ("tegra264", (11, 0), True),
    ],
)
def test_each_chip_has_its_compute_capability(soc: str, capability: tuple[int, int], has_int8: bool) -> None:
    assert (SOCS[soc].compute_capability, SOCS[soc].has_int8) == (capability, has_int8)


@pytest.mark.parametrize(
    ("tree", "l4t", "jetpack", "cuda", "tensorrt", "driver"),
    [
        (NANO, "32.7.1", "4.6.1", "10.2.300", "8.2.1", None),
        (ORIN_NANO_JP62, "36.4.7", "6.2.1", "12.6.11", "10.3.0.30", "540.4.0"),
        (ORIN_NANO_JP72, "39.2.1", "7.2.1", "13.2.2", "10.16.2.10", None),
        (PC_RTX, None, None, None, None, "595.91.07"),
        (PC_PLAIN, None, None, None, None, None),
    ],
)
def test_versions_are_read_from_the_machines_files(
    tree: str,
    l4t: str | None,
    jetpack: str | None,
    cuda: str | None,
    tensorrt: str | None,
    driver: str | None,
    tmp_path: Path,
) -> None:
    software = describe(trees.make(tree, tmp_path)).software
    assert (software.l4t, software.jetpack, software.cuda) == (l4t, jetpack, cuda)
    assert (software.tensorrt, software.driver) == (tensorrt, driver)


def test_where_the_release_file_is_missing_the_package_tells_the_release(tmp_path: Path) -> None:
    root = trees.make(ORIN_NANO_JP62, tmp_path)
    (root / "etc/nv_tegra_release").unlink()
    assert describe(root).software.l4t == "36.4.7"


def test_where_there_is_no_toolkit_the_runtime_package_tells_the_cuda_version(tmp_path: Path) -> None:
    root = trees.write(tmp_path, trees.packages(cuda_cudart_12_6="12.6.68-1"))
    assert describe(root).software.cuda == "12.6.68"


def test_a_package_that_was_removed_does_not_count(tmp_path: Path) -> None:
    assert describe(trees.write(tmp_path, trees.packages())).software.tensorrt is None


def test_memory_tells_real_swap_from_zram(tmp_path: Path) -> None:
    memory = describe(trees.make(NANO, tmp_path)).memory
    assert memory is not None
    assert (memory.total_mib, memory.available_mib) == (3964, 3096)
    assert (memory.swap_mib, memory.zram_mib) == (1982, 1982)


@pytest.mark.parametrize(
    ("tree", "kind"),
    [
        (NANO, "jetson"),
        (ORIN_NANO_JP72, "jetson"),
        (PC_RTX, "pc-nvidia"),
        (PC_PLAIN, "cpu"),
        (CONTAINER, "jetson"),
    ],
)
def test_each_machine_is_of_its_kind(tree: str, kind: str, tmp_path: Path) -> None:
    assert describe(trees.make(tree, tmp_path)).kind == kind


def test_a_geforce_rtx_is_known_by_its_series(tmp_path: Path) -> None:
    device = describe(trees.make(PC_RTX, tmp_path))
    assert device.gpu is not None and device.has_nvidia_card
    assert device.gpu.name == "NVIDIA GeForce RTX 5090 Laptop GPU"
    assert (device.gpu.compute_capability, device.gpu.has_int8) == ((12, 0), True)


def test_of_a_card_that_is_not_in_the_table_only_cuda_can_tell(tmp_path: Path) -> None:
    information = {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t Tesla P40\n"}
    gpu = describe(trees.write(tmp_path, information)).gpu
    assert gpu is not None and gpu.name == "Tesla P40"
    assert gpu.compute_capability is None and gpu.has_int8 is None


def test_a_cpu_with_vnni_has_int8_and_one_with_avx2_alone_has_not(tmp_path: Path) -> None:
    vnni = describe(trees.make(PC_PLAIN, tmp_path / "vnni")).cpu
    avx2 = describe(trees.make(PC_RTX, tmp_path / "avx2")).cpu
    assert vnni.flags == ("avx2", "avx512f", "avx512_vnni", "avx_vnni") and vnni.has_int8
    assert avx2.flags == ("avx2",) and not avx2.has_int8
    assert (vnni.cores, vnni.name) == (2, "Intel(R) Xeon(R) Processor")


def test_an_orins_cpu_has_the_dot_product_and_the_nanos_has_not(tmp_path: Path) -> None:
    assert describe(trees.make(ORIN_NANO_JP62, tmp_path / "orin")).cpu.has_int8
    assert not describe(trees.make(NANO, tmp_path / "nano")).cpu.has_int8


@pytest.mark.parametrize(
    ("files", "container"),
    [
        ({"proc/1/cgroup": "0::/init.scope\n"}, None),
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": ""}, "podman"),
        ({"proc/1/cgroup": "11:devices:/kubepods/besteffort/pod1\n"}, "kubernetes"),
        ({"proc/1/cgroup": "1:name=systemd:/docker/0123\n"}, "docker"),
        ({"proc/1/cgroup": "0::/lxc.payload.box\n"}, "container"),
    ],
)
def test_a_container_is_told_by_its_marks(
    files: dict[str, str], container: str | None, tmp_path: Path
) -> None:
    assert describe(trees.write(tmp_path, files)).container == container


def test_a_desktop_is_told_by_its_processes(tmp_path: Path) -> None:
    assert describe(trees.make(ORIN_NANO_JP72, tmp_path / "desktop")).has_desktop
    assert not describe(trees.make(ORIN_NANO_JP62, tmp_path / "headless")).has_desktop


def test_the_nodes_that_are_needed_are_those_of_the_driver_in_use(tmp_path: Path) -> None:
    orin = describe(trees.make(ORIN_NANO_JP62, tmp_path / "orin")).nodes
    nano = describe(trees.make(NANO, tmp_path / "nano")).nodes
    card = describe(trees.make(PC_RTX, tmp_path / "card")).nodes
    assert orin == {"dev/nvmap": True, "dev/nvgpu/igpu0/ctrl": True, "dev/dri/renderD128": True}
    assert nano == {"dev/nvmap": True, "dev/nvhost-ctrl-gpu": True}
    assert card == {"dev/nvidiactl": True, "dev/nvidia0": True, "dev/nvidia-uvm": True}
    assert describe(trees.make(PC_PLAIN, tmp_path / "plain")).nodes == {}


def test_a_container_without_device_nodes_lacks_them(tmp_path: Path) -> None:
    nodes = describe(trees.make(CONTAINER, tmp_path)).nodes
    assert nodes == {"dev/nvmap": False, "dev/nvhost-ctrl-gpu": False}


@pytest.mark.parametrize(
    ("gids", "missing"), [({44, 104}, ()), ({44}, ("render",)), ({1000}, ("video", "render"))]
)
def test_a_user_is_told_the_groups_that_are_missing(
    gids: set[int], missing: tuple[str, ...], tmp_path: Path
) -> None:
    process = trees.technician(gids=frozenset(gids))
    assert describe(trees.make(ORIN_NANO_JP62, tmp_path), process=process).missing_groups == missing


def test_an_empty_root_is_a_machine_of_which_nothing_is_known(tmp_path: Path) -> None:
    device = describe(tmp_path)
    assert (device.kind, device.board, device.gpu, device.memory) == ("cpu", None, None, None)
    assert device.cpu.cores == 0 and device.software.l4t is None and device.trtexec is None


def test_an_unknown_tegra_is_still_a_jetson(tmp_path: Path) -> None:
    device = describe(trees.write(tmp_path, {"proc/device-tree/compatible": "nvidia,tegra999\0"}))
    assert device.board is not None and device.board.soc is None and device.kind == "jetson"
    assert device.gpu is not None and device.gpu.has_int8 is None


@pytest.mark.parametrize("tree", [NANO, ORIN_NANO_JP62, PC_RTX])
@pytest.mark.parametrize("by_folder", [True, False])
def test_no_file_that_cannot_be_read_raises(tree: str, by_folder: bool, tmp_path: Path) -> None:
    for root in trees.damaged(tree, tmp_path, by_folder=by_folder):
        describe(root)


def test_part_numbers_are_spelled_as_in_the_device_tree() -> None:
    assert all(len(part) == 10 and part[0] == "p" and part[5] == "-" for part in MODULES)


def test_this_process_describes_itself() -> None:
    process = Process.current()
    assert process.python >= (3, 10)
    assert process.is_venv or process.sees_system_packages
