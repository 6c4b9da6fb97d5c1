"""`edge-sr doctor`: what this machine is, what it can run, and what stands in the way."""

from __future__ import annotations

import json

import click

from edge_sr.doctor import examine, human_lines

__all__ = ["doctor"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def doctor(as_json: bool) -> int:
    """Say what this machine is and can do, what blocks a backend, and what to do about it.

    The exit code is 1 where no backend can run.
    """
    report = examine()
    click.echo(json.dumps(report.to_json()) if as_json else "\n".join(human_lines(report)))
    return 0 if any(report.works.values()) else 1
