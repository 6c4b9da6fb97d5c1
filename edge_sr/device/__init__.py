"""What this machine is and what it can do: board, GPU, versions, memory, and what may be reached.

`describe` reads plain files under a `root` folder ("/" unless a test says otherwise) and what Python says of
the running process. It starts no program, imports no backend and never raises: what cannot be read is None.
"""

from edge_sr.device.boards import GPUS_OF_PC, JETPACKS, MODULES, SOCS, Soc
from edge_sr.device.facts import Board, Cpu, Device, Gpu, Memory, Process, Software, describe

__all__ = [
    "GPUS_OF_PC",
    "JETPACKS",
    "MODULES",
    "SOCS",
    "Board",
    "Cpu",
    "Device",
    "Gpu",
    "Memory",
    "Process",
    "Soc",
    "Software",
    "describe",
]
