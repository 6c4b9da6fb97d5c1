"""Networks and configurations in diffusers' folder layout. Nothing is downloaded, no code there is run.

A component is a folder with `config.json` and `diffusion_pytorch_model.safetensors` or `.bin`; a pipeline is
a folder of components with `model_index.json`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from edge_sr.errors import ConfigError

CONFIG = "config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # the first that is there


def is_diffusers_folder(folder: Path) -> bool:
    """Whether a folder is one component in diffusers' layout, rather than a run of ours."""
    return (folder / CONFIG).is_file()


def read_config(path: Path) -> dict[str, Any]:
    """A configuration.

    Raises:
        ConfigError: It cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no JSON object")
    return content


def read_network(folder: Path, classes: Collection[str], *, hint: str) -> Any:
    """The network of a folder with all of its weights, frozen, in FP32; diffusers would make up missing ones.

    Args:
        folder: The component.
        classes: What it may be, as diffusers names its classes.
        hint: What to do where it is something else.

    Raises:
        ConfigError: diffusers is not installed, the folder lacks a file, the class is another, or the weights
            are damaged or do not fit the configuration.
    """
    kind = read_config(folder / CONFIG).get("_class_name")
    if kind not in classes:
        raise ConfigError(
            f"{folder / CONFIG} is of class {kind}, wanted {' or '.join(sorted(classes))}", hint=hint
        )
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ConfigError(f"no weights in {folder}: wanted {' or '.join(WEIGHTS)}")
    try:
        network, found = getattr(import_diffusers(folder), str(kind)).from_pretrained(
            folder,
            local_files_only=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
            use_safetensors=(folder / WEIGHTS[0]).is_file(),  # a .bin is read with weights_only=True
            output_loading_info=True,
        )
    except ConfigError:
        raise
    except Exception as error:  # whatever it makes of values and files that it does not expect
        problem = " ".join(str(error).split())[:300]
        raise ConfigError(f"{folder} cannot be loaded as {kind}: {problem}") from error
    if amiss := [f"{len(names)} {what}" for what, names in found.items() if names]:
        raise ConfigError(f"the weights in {folder} do not fit its {CONFIG}: {', '.join(amiss)}")
    return network.requires_grad_(requires_grad=False).eval()


def import_diffusers(folder: Path) -> Any:
    """The library.

    Raises:
        ConfigError: It cannot be imported.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ConfigError(
            f"{folder} is in diffusers' layout, and diffusers cannot be imported: {error}",
            hint="pip install diffusers safetensors",
        ) from error
    return diffusers
