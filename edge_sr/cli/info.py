"""`edge-sr info`: what a bundle is, what it was made from, how good it is, and what it is not for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from edge_sr.bundle import Bundle, find_bundle
from edge_sr.cli.common import BUNDLE, tell
from edge_sr.cli.trtexec import BY_HAND, trtexec_lines
from edge_sr.errors import DeviceError
from edge_sr.manifest import Classes, Diffusion, Latent, Manifest
from edge_sr.roofline import PEAKS, cost_of, floor_ms
from edge_sr.spec import Component, Precision

__all__ = ["info"]

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
ASSUMPTIONS = (
    "peak rates, dense, at the highest clock of the power mode",
    "convolutions and matrix products alone, the rest fused into them at no cost",
    "weights and what passes between those are each moved once, as if nothing stayed in a cache",
    "no launches, no host work; it is a floor and no forecast, and small graphs come nowhere near it",
)


@click.command()
@click.argument("bundle", type=BUNDLE, required=False)
@click.option("--verify", is_flag=True, help="Hash every file.")
@click.option(
    "--device", type=click.Choice(list(PEAKS)), help="The floor under the bundle's times on this device."
)
@click.option("--trtexec", "by_hand", is_flag=True, help="The commands that build its engines by hand.")
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as JSON, and what was asked for.")
def info(bundle: Path | None, verify: bool, device: str | None, by_hand: bool, as_json: bool) -> None:
    """Describe a bundle: a folder, or a shipped one by name; cxr-x4 where none is named."""
    opened = Bundle.open(find_bundle(bundle))
    if verify:
        opened.verify()
    manifest = opened.manifest
    floor = _floor(manifest, device) if device else None
    commands = list(trtexec_lines(opened)) if by_hand else []
    if by_hand:
        tell([BY_HAND])
    if as_json:
        asked = ({"floor": floor} if floor else {}) | ({"trtexec": commands} if by_hand else {})
        facts = {"digest": opened.digest, "verified": verify, **manifest.model_dump(mode="json"), **asked}
        click.echo(json.dumps(facts))
    elif floor or by_hand:
        click.echo("\n".join([*(_floor_lines(floor, manifest.components) if floor else ()), *commands]))
    else:
        click.echo("\n".join(_lines(manifest, opened.digest, verify=verify)))


def _floor(manifest: Manifest, device: str) -> dict[str, Any]:
    """The times below which a device cannot be, by precision and stage."""
    preset, peak = manifest.default_preset, PEAKS[device]
    steps = preset.steps if preset else 0
    return {
        "device": device,
        "name": peak.name,
        "source": peak.source,
        "steps": steps,
        "ms": {str(p): _stages(manifest, device, p, steps) for p in PRECISIONS},
        "assumptions": list(ASSUMPTIONS),
    }


def _stages(manifest: Manifest, device: str, precision: Precision, steps: int) -> dict[str, float] | None:
    """One run of each graph, and of a whole tile; None where the device has no such arithmetic."""
    form = Precision.INT8_FP16 if precision is Precision.INT8 else precision
    costs = {c: cost_of(manifest, c, form) for c in manifest.components}
    try:
        times = {c: floor_ms(cost, device, precision=form) for c, cost in costs.items()}
    except DeviceError:
        return None
    tile = sum(ms * (steps if c is Component.STEP else 1) for c, ms in times.items())
    return {str(c): round(ms, 4) for c, ms in times.items()} | {"tile": round(tile, 4)}


def _floor_lines(floor: dict[str, Any], components: Sequence[Component]) -> list[str]:
    columns = "".join(f"{name:>10}" for name in (*map(str, components), "tile"))
    lines = [f"{floor['name']}: no tile can take less than", f"  {'ms':<10}{columns}"]
    for precision, stages in floor["ms"].items():
        times = "".join(f"{ms:>10.3f}" for ms in stages.values()) if stages else "  not in hardware"
        lines.append(f"  {precision:<10}{times}")
    once = [f"{floor['steps']} steps" if c is Component.STEP else str(c) for c in components]
    lines.append(f"  tile: {', '.join(once)}, for a batch of one")
    return [*lines, f"  peaks: {floor['source']}", *(f"  assumed: {what}" for what in floor["assumptions"])]


def _loop_lines(latent: Latent, diffusion: Diffusion) -> Iterator[str]:
    """How the loop was trained, and its presets."""
    yield f"  latent       {latent.channels} channels at 1/{latent.factor} of the output"
    trained = f"{diffusion.prediction}, {diffusion.noise_schedule}, {diffusion.timesteps} timesteps"
    yield f"  diffusion    {trained}"
    for name, preset in diffusion.presets.items():
        mark = " (default)" if name == diffusion.default else ""
        plural = "s" if preset.samples > 1 else ""
        yield (
            f"  preset       {name}{mark}: {preset.sampler}, {preset.steps} steps, "
            f"noise x{preset.noise_scale:g}, {preset.samples} sample{plural}"
        )


def _class_line(classes: Classes) -> str:
    """What it can be told."""
    names = ", ".join(name for name in classes.names if name != classes.null)
    return (
        f"  classes      {names}; guidance {classes.guidance:g}, at most {classes.most_guidance:g}: "
        "draws what it is told, also where it is not"
    )


def _lines(manifest: Manifest, digest: str, *, verify: bool) -> list[str]:
    p = manifest.provenance
    lines = [
        f"{manifest.name} {manifest.version}: {manifest.description}",
        f"  digest       {digest[:16]}{'  every file verified' if verify else ''}",
        f"  task         {manifest.task} x{manifest.scale}, {'gray' if manifest.channels == 1 else 'RGB'}, "
        f"tile {manifest.tile}, overlap {manifest.overlap}, trained for {manifest.degradation} downsampling",
    ]
    if manifest.latent and manifest.diffusion:
        lines += _loop_lines(manifest.latent, manifest.diffusion)
        lines += [_class_line(manifest.classes)] if manifest.classes else []
    else:
        lines.append("  loop         none: one pass, no noise, the same result for every seed")
    for component, graphs in manifest.graphs.items():
        sizes = ", ".join(f"{precision} {entry.bytes / 1e6:.1f} MB" for precision, entry in graphs.items())
        lines.append(f"  {component!s:<12} {sizes}")
    for row in manifest.quality:
        figures = ", ".join(f"{name} {value:g}" for name, value in row.metrics.items())
        lines.append(f"  measured     {row.row} on {row.data} ({row.degradation}): {figures}")
    if known := manifest.consistency:
        lines.append(
            f"  consistency  alarm below {known.alarm_db:g} dB by {known.operator}, which "
            f"{1 - known.quantile:.0%} of {known.images} true images reach ({known.data})"
        )
    lines += [
        f"  data         {p.data}",
        f"  licence      data: {p.data_licence}; weights: {p.weights_licence}",
    ]
    lines += [f"  made by      {command}" for command in p.commands]
    lines += [f"  for          {manifest.intended_use}"]
    lines += [f"  limit        {limit}" for limit in manifest.limits]
    return lines
