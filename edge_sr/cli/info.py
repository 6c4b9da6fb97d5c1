"""`edge-sr info`: what a bundle is, what it was made from, how good it is, and what it is not for."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_sr.bundle import Bundle, default_bundle
from edge_sr.cli.common import BUNDLE
from edge_sr.manifest import Manifest

__all__ = ["info"]


@click.command()
@click.argument("bundle", type=BUNDLE, required=False)
@click.option("--verify", is_flag=True, help="Hash every file.")
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as JSON.")
def info(bundle: Path | None, verify: bool, as_json: bool) -> None:
    """Describe a bundle; the shipped cxr-x4 where none is named."""
    opened = Bundle.open(bundle or default_bundle())
    if verify:
        opened.verify()
    manifest = opened.manifest
    if as_json:
        click.echo(
            json.dumps({"digest": opened.digest, "verified": verify, **manifest.model_dump(mode="json")})
        )
        return
    click.echo("\n".join(_lines(manifest, opened.digest, verify=verify)))


def _lines(manifest: Manifest, digest: str, *, verify: bool) -> list[str]:
    diffusion, latent, p = manifest.diffusion, manifest.latent, manifest.provenance
    lines = [
        f"{manifest.name} {manifest.version}: {manifest.description}",
        f"  digest       {digest[:16]}{'  every file verified' if verify else ''}",
        f"  task         {manifest.task} x{manifest.scale}, {'gray' if manifest.channels == 1 else 'RGB'}, "
        f"tile {manifest.tile}, overlap {manifest.overlap}, trained for {manifest.degradation} downsampling",
        f"  latent       {latent.channels} channels at 1/{latent.factor} of the output",
        f"  diffusion    {diffusion.prediction}, {diffusion.noise_schedule}, {diffusion.timesteps} timesteps",
    ]
    for name, preset in diffusion.presets.items():
        mark = " (default)" if name == diffusion.default else ""
        plural = "s" if preset.samples > 1 else ""
        lines.append(
            f"  preset       {name}{mark}: {preset.sampler}, {preset.steps} steps, "
            f"noise x{preset.noise_scale:g}, {preset.samples} sample{plural}"
        )
    for component, graphs in manifest.graphs.items():
        sizes = ", ".join(f"{precision} {entry.bytes / 1e6:.1f} MB" for precision, entry in graphs.items())
        lines.append(f"  {component!s:<12} {sizes}")
    for row in manifest.quality:
        figures = ", ".join(f"{name} {value:g}" for name, value in row.metrics.items())
        lines.append(f"  measured     {row.row} on {row.data} ({row.degradation}): {figures}")
    lines += [
        f"  data         {p.data}",
        f"  licence      data: {p.data_licence}; weights: {p.weights_licence}",
    ]
    lines += [f"  made by      {command}" for command in p.commands]
    lines += [f"  for          {manifest.intended_use}"]
    lines += [f"  limit        {limit}" for limit in manifest.limits]
    return lines
