"""Judges the facts of a machine. Each check yields what it finds; none of them touches the machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from edge_sr.device import Board, Device, Gpu, Soc
from edge_sr.doctor.report import BACKENDS, DoctorReport, Finding, architecture

__all__ = ["CHECKS", "MINIMUM_TENSORRT", "trtexec_line"]

MINIMUM_TENSORRT = (10, 3)
MINIMUM_PYTHON = (3, 10)
LOW_MEMORY_MIB = 2048  # CUDA and TensorRT take 300 to 600 MiB before the first layer; a build takes more
FALLBACK = "cxr-x4-cnn"  # the shipped bundle for boards too weak for diffusion
HOT_C = 90.0  # Orin slows down a little above this; the zones' own trip points are not readable everywhere


def trtexec_line(
    graph: str, plan: str, *, shapes: str = "", tensorrt: str | None = None, command: str = "trtexec"
) -> str:
    """The command that turns one graph into an engine by hand, where edge-sr's own builder cannot run.

    Args:
        graph: The ONNX file.
        plan: The engine to write.
        shapes: Of its inputs, "image:1x1x64x64,..."; empty where none is free.
        tensorrt: The version that is installed, "8.2.1"; None takes the newest form.
        command: Where trtexec lies.
    """
    is_old = tensorrt is not None and _numbers(tensorrt) < MINIMUM_TENSORRT
    flags = "--fp16 --workspace=1024" if is_old else "--stronglyTyped --memPoolSize=workspace:1024"
    free = f" --shapes={shapes}" if shapes else ""
    return f"{command} --onnx={graph} --saveEngine={plan}{free} {flags}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _check_python(facts: DoctorReport) -> Iterator[Finding]:
    have = facts.device.process.python
    if have < MINIMUM_PYTHON:
        yield Finding(
            "blocker", "python", f"Python {have[0]}.{have[1]}; edge-sr needs 3.10", "", blocks=BACKENDS
        )


def _check_onnxruntime(facts: DoctorReport) -> Iterator[Finding]:
    library, is_jetson = facts.libraries["onnxruntime"], facts.device.kind == "jetson"
    if not library.is_found:
        # The cpu extra brings an OpenCV, which would shadow JetPack's.
        fix = "pip install onnxruntime" if is_jetson else "pip install 'edge-sr[cpu]'"
        yield Finding("blocker", "onnxruntime", "not installed", fix, blocks=("onnxruntime",))
    elif len(library.distributions) > 1:
        both = " and ".join(f"{name} {version}" for name, version in library.distributions.items())
        yield Finding(
            "warning",
            "onnxruntime",
            f"{both} are both installed; they overwrite each other's files",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install the one that is wanted",
        )
    else:
        version, providers = library.version or "of unknown version", ", ".join(library.providers)
        yield Finding("ok", "onnxruntime", f"{version} with {providers}")


def _check_openvino(facts: DoctorReport) -> Iterator[Finding]:
    """Told only where it is: it is an alternative that nobody has to have."""
    library = facts.libraries["openvino"]
    if library.is_found:
        yield Finding("ok", "openvino", f"{library.version or 'of unknown version'}, for --backend openvino")


def _check_opencv(facts: DoctorReport) -> Iterator[Finding]:
    library, is_jetson = facts.libraries["cv2"], facts.device.kind == "jetson"
    if not library.is_found:
        fix = "sudo apt install python3-opencv" if is_jetson else "pip install opencv-python-headless"
        yield Finding("warning", "opencv", "not installed; image files are read and written with it", fix)
    elif is_jetson and library.distributions and not facts.device.container:  # an image brings its own
        name = next(iter(library.distributions))
        yield Finding("warning", "opencv", f"{name} from pip shadows JetPack's", f"pip uninstall {name}")


def _check_cpu(facts: DoctorReport) -> Iterator[Finding]:
    cpu = facts.device.cpu
    if cpu.has_int8:
        which = ", ".join(flag for flag in cpu.flags if flag not in ("avx2", "avx512f", "asimdhp"))
        yield Finding("ok", "cpu", f"INT8 instructions: {which}")
    else:
        yield Finding("note", "cpu", "no INT8 instructions: INT8 on this CPU gains little over FP32")


def _check_gpu(facts: DoctorReport) -> Iterator[Finding]:
    device = facts.device
    if device.gpu is None:
        yield _no_gpu(device)
    elif device.board is None:
        driver = device.software.driver or "unknown"
        yield Finding("ok", "gpu", f"{device.gpu.name}, driver {driver}")
    elif device.board.soc is None:
        yield Finding(
            "blocker", "gpu", f"{device.board.model}: a chip that edge-sr does not know", blocks=("tensorrt",)
        )
    elif device.board.soc.last_jetpack:
        yield _ended(device.board, device.board.soc, device.gpu)
    else:
        yield Finding("ok", "gpu", f"{architecture(device.gpu)}, INT8 and FP16 in hardware")


def _no_gpu(device: Device) -> Finding:
    if device.has_nvidia_card:
        message, fix = "an NVIDIA card, but no driver for it", "install the NVIDIA driver and restart"
        return Finding("blocker", "gpu", message, fix, blocks=("tensorrt",))
    inside = " in this container" if device.container else ""
    fix = "start it with --gpus all (Jetson: --runtime nvidia), if the machine has a GPU" if inside else ""
    message = f"no NVIDIA GPU{inside}: everything runs on the CPU"
    return Finding("note", "gpu", message, fix, blocks=("tensorrt",))


def _ended(board: Board, soc: Soc, gpu: Gpu) -> Finding:
    """A board whose last JetPack is older than what edge-sr needs."""
    has = "TensorRT 8.5 and Python 3.8" if soc.has_int8 else "TensorRT 8.2 and Python 3.6"
    int8 = "" if soc.has_int8 else " has no INT8 hardware, and"
    name = board.module or board.model
    return Finding(
        "blocker",
        "gpu",
        f"{name}:{int8 or ' it'} ends at JetPack {soc.last_jetpack} with {has} "
        f"({architecture(gpu)}); edge-sr needs TensorRT 10.3 and Python 3.10",
        "what still works: the CPU (--backend onnxruntime, with a Python 3.10 of your own), with the small "
        f"network that needs no loop (--bundle {FALLBACK}) or fewer steps of the default one (--steps 4); "
        f"FP16 engines made by hand, untested (edge-sr info {FALLBACK} --trtexec has the lines)",
        blocks=("tensorrt",),
    )


def _may_use_gpu(device: Device) -> bool:
    """Whether there is a GPU, and not one of a board that has ended: the rest need not be asked then."""
    soc = device.board.soc if device.board else None
    return device.gpu is not None and not (soc and soc.last_jetpack)


def _check_tensorrt(facts: DoctorReport) -> Iterator[Finding]:
    device, full = facts.device, facts.libraries["tensorrt"]
    rtx = facts.libraries["tensorrt_rtx"]
    if not _may_use_gpu(device):
        if rtx.is_found and device.board is None:
            message = f"TensorRT-RTX {rtx.version}: builds portable engines here, which cannot run here"
            yield Finding("note", "tensorrt", message)
        return
    version = full.version or device.software.tensorrt
    if version and _numbers(version) < MINIMUM_TENSORRT:
        yield _too_old(device, version)
    elif full.is_found:
        yield Finding("ok", "tensorrt", f"TensorRT {version or 'of unknown version'}")
    elif rtx.is_found and device.board is None:
        yield Finding("ok", "tensorrt", f"TensorRT-RTX {rtx.version}")
    else:
        yield _not_importable(device)


def _too_old(device: Device, version: str) -> Finding:
    jetpack = device.software.jetpack
    where = f" of JetPack {jetpack}" if jetpack else ""
    fix = "flash JetPack 6.2 or 7.2" if device.board else "pip install tensorrt-rtx-cu13"
    message = f"TensorRT {version}{where}; edge-sr needs 10.3 (JetPack 6.1)"
    return Finding("blocker", "tensorrt", message, fix, blocks=("tensorrt",))


def _not_importable(device: Device) -> Finding:
    """TensorRT's Python module is not found; on a Jetson it may only be out of sight."""
    package = device.software.tensorrt
    if device.board is None:
        message, fix = "no TensorRT for Python", "pip install tensorrt-rtx-cu13"
    elif package is None:
        image = "use an image that has it: l4t-tensorrt (JetPack 6), NVIDIA's arm64 tensorrt (JetPack 7.2)"
        fix = image if device.container else "sudo apt install nvidia-jetpack"
        message = "TensorRT is not installed"
    elif not device.process.sees_system_packages:
        message = f"TensorRT {package} is installed, but this virtual environment does not see it"
        fix = "make it again: /usr/bin/python3 -m venv --system-site-packages DIR"
    else:
        python = ".".join(map(str, device.process.python))
        message = f"TensorRT {package} is installed, but not for this Python {python}"
        fix = "use /usr/bin/python3, and sudo apt install python3-libnvinfer"
    return Finding("blocker", "tensorrt", message, fix, blocks=("tensorrt",))


def _check_cuda_python(facts: DoctorReport) -> Iterator[Finding]:
    if not _may_use_gpu(facts.device):
        return
    bindings, pycuda = facts.libraries["cuda.bindings"], facts.libraries["pycuda"]
    if bindings.is_found:
        yield Finding("ok", "cuda", f"cuda-bindings {bindings.version or 'of unknown version'}")
    elif pycuda.is_found:
        message = f"PyCUDA {pycuda.version or ''} has no CUDA graphs: each step is enqueued by itself"
        yield Finding("note", "cuda", message, "pip install cuda-bindings")
    else:
        fix = "pip install 'edge-sr[jetson]'" if facts.device.board else "pip install cuda-bindings"
        yield Finding("blocker", "cuda", "neither cuda-bindings nor PyCUDA", fix, blocks=("tensorrt",))


def _check_access(facts: DoctorReport) -> Iterator[Finding]:
    device = facts.device
    if not _may_use_gpu(device):
        return
    missing = ", ".join(f"/{node}" for node, is_usable in device.nodes.items() if not is_usable)
    if device.missing_groups:
        names = ",".join(device.missing_groups)
        fix = f"sudo usermod -aG {names} $USER, and log in again"
        if device.container:
            fix = "start the container with --group-add and the numeric groups of the host"
        message = f"not in {' or '.join(device.missing_groups)}, which own the GPU's device nodes"
        yield Finding("blocker", "access", message, fix, blocks=("tensorrt",))
    elif missing and device.container:
        fix = "start the container with --runtime nvidia (JetPack 7, PC: --gpus all)"
        message = f"inside {device.container}, without {missing}"
        yield Finding("blocker", "access", message, fix, blocks=("tensorrt",))
    elif missing:
        fix = "check that the NVIDIA driver is loaded, and who may open the nodes (ls -l)"
        yield Finding("blocker", "access", f"cannot open {missing}", fix, blocks=("tensorrt",))


def _check_memory(facts: DoctorReport) -> Iterator[Finding]:
    device, memory = facts.device, facts.device.memory
    if memory is None or not device.board:
        return
    if memory.available_mib is not None and memory.available_mib < LOW_MEMORY_MIB:
        desktop = (
            "stop the desktop (sudo systemctl isolate multi-user.target); " if device.has_desktop else ""
        )
        fix = f"{desktop}add a swap file on NVMe; disable zram (sudo systemctl disable nvzramconfig)"
        message = f"{memory.available_mib} of {memory.total_mib} MiB available; building engines wants more"
        yield Finding("warning", "memory", message, fix)
    elif device.has_desktop:
        message = f"a desktop runs; it takes some 800 of {memory.total_mib} MiB"
        yield Finding("note", "memory", message, "sudo systemctl set-default multi-user.target, restart")


def _check_heat(facts: DoctorReport) -> Iterator[Finding]:
    state = facts.state
    # PMIC-Die reads a constant 100 °C on some boards.
    hot = {n: t for n, t in state["temperatures_c"].items() if t >= HOT_C and "PMIC" not in n}
    if hot:
        name, degrees = max(hot.items(), key=lambda item: item[1])
        yield Finding("warning", "heat", f"{name} at {degrees:.0f} °C", "let it cool; check the fan")
    if state["active_throttles"]:
        yield Finding("warning", "heat", f"slowed down now by {', '.join(state['active_throttles'])}")
    events = {name: count for name, count in state["throttle_counters"].items() if count}
    if events:
        counts = ", ".join(f"{name} {count}" for name, count in events.items())
        message = f"slowed down since it booted: {counts}"
        fix = "oc3 is usual in MAXN modes; compare before and after a run, and check the power supply"
        yield Finding("note", "throttling", message, fix)


def _check_power(facts: DoctorReport) -> Iterator[Finding]:
    """The ids say nothing: mode 0 is the fastest of the original Nano and not of the Orin Nano."""
    mode, modes = facts.state["power_mode"], facts.state["power_modes"]
    fastest = next((other for other in modes if other["name"].startswith("MAXN")), None)
    if mode and fastest and mode["id"] != fastest["id"]:
        message = f"power mode {mode['name'] or mode['id']}; {fastest['name']} is the fastest"
        yield Finding("note", "power", message, f"sudo nvpmodel -m {fastest['id']} (some changes restart)")
    elif mode:
        yield Finding("ok", "power", f"power mode {mode['name'] or mode['id']}")


def _check_clocks(facts: DoctorReport) -> Iterator[Finding]:
    clock = facts.state["clocks_mhz"].get("gpu")
    if clock and clock["min_mhz"] != clock["max_mhz"]:
        message = f"the GPU's clock is free between {clock['min_mhz']:.0f} and {clock['max_mhz']:.0f} MHz"
        yield Finding(
            "note", "clocks", message, "for steady timings: sudo jetson_clocks, after each nvpmodel"
        )


CHECKS: tuple[Callable[[DoctorReport], Iterator[Finding]], ...] = (
    _check_python,
    _check_onnxruntime,
    _check_openvino,
    _check_opencv,
    _check_cpu,
    _check_gpu,
    _check_tensorrt,
    _check_cuda_python,
    _check_access,
    _check_memory,
    _check_heat,
    _check_power,
    _check_clocks,
)
