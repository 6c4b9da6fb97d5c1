"""A worker process on a machine that is not there: `python -m tests.edge_sr.fake_worker MACHINE FD`.

On "orin" and "no-gpu" it is the real worker with a fake TensorRT and a fake CUDA to import; the other
machines do to it what happens to workers.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import types

from edge_sr.build import worker
from edge_sr.cuda.fake import FakeCuda
from tests.edge_sr.cuda.fake_libraries import FakeDriverApi, FakeRuntime
from tests.edge_sr.fake_tensorrt import make_tensorrt


def main(machine: str, descriptor: str) -> None:
    job = sys.stdin.read()
    is_probe = json.loads(job)["do"] == "probe"
    if machine == "silent":
        return
    if machine == "mute-failure":
        raise RuntimeError("the last words")
    if machine == "killed" and not is_probe:
        os.kill(os.getpid(), signal.SIGKILL)
    if machine == "crashing" and not is_probe:
        os.kill(os.getpid(), signal.SIGSEGV)
    _install(has_gpu=machine != "no-gpu")
    worker.main([descriptor], job)


def _install(*, has_gpu: bool) -> None:
    bindings = types.ModuleType("cuda.bindings")
    failures = {} if has_gpu else {"cudaGetDeviceCount": 100}
    bindings.runtime, bindings.driver = FakeRuntime(failures), FakeDriverApi()  # type: ignore[attr-defined]
    sys.modules |= {
        "tensorrt": make_tensorrt(FakeCuda())[0],
        "cuda": types.ModuleType("cuda"),
        "cuda.bindings": bindings,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
