"""`edge-sr install-service`: units for systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import click

from edge_sr.errors import OutputError, UsageError
from edge_sr.service.installation import (
    Action,
    Choices,
    Deed,
    check_python,
    do,
    plan_install,
    plan_uninstall,
    systemctl_lines,
)

__all__ = ["install_service"]


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--uninstall", is_flag=True, help="Stop the service and take away what was installed.")
@click.option("--token", "has_token", is_flag=True, help="Ask clients for a token; makes /etc/edge-sr/token.")
@click.option(
    "--allow-from",
    multiple=True,
    metavar="NETWORK",
    help="A network that can reach the service, as in 10.1.2.0/24; repeatable. [default: this machine alone]",
)
@click.option(
    "--socket",
    "listen",
    default="",
    metavar="ADDRESS:PORT",
    help="Have systemd hold this address open, so that no connection is refused while the service restarts.",
)
@click.option(
    "--node",
    "has_node",
    is_flag=True,
    help="Install the DICOM network node too; it starts once /etc/edge-sr/node.toml says to whom it sends.",
)
@click.option(
    "--gpu/--no-gpu", "has_gpu", default=None, help="Open the GPU's devices. [default: if there is one]"
)
@click.option("--python", help="Interpreter that has edge-sr. [default: this one]")
@click.option("--no-start", is_flag=True, help="Install only.")
@click.option("--replace", is_flag=True, help="Replace files that somebody else wrote; each is kept beside.")
@click.option(
    "--root",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path("/"),
    help="Install into an image of a system; nothing is started. [default: /]",
)
def install_service(
    *, dry_run: bool, uninstall: bool, no_start: bool, python: str | None, **options: Any
) -> None:
    """Install edge-sr as a service of systemd, and start it.

    Says each file and each command first. Run again, it updates what it wrote, and keeps settings, the token,
    and what was chosen before. Needs root.
    """
    choices = Choices(**options) if python is None else Choices(python=python, **options)
    if uninstall:
        _uninstall(choices, dry_run=dry_run)
    else:
        _install(choices, dry_run=dry_run, starts=not no_start)


def _install(choices: Choices, *, dry_run: bool, starts: bool) -> None:
    check_python(choices.python)
    deeds = plan_install(choices)
    lines = systemctl_lines(deeds, starts=starts)
    _show(deeds, lines)
    refused = [str(deed.path) for deed in deeds if deed.action is Action.REFUSE]
    if refused:
        raise UsageError(
            f"not written by edge-sr, or changed since: {', '.join(refused)}; nothing was done",
            hint="--replace puts them aside, or move what you changed into a drop-in of its own",
        )
    if not dry_run:
        _check_root(choices)
        do(deeds, choices)
        _run(lines, choices)


def _uninstall(choices: Choices, *, dry_run: bool) -> None:
    deeds = plan_uninstall(choices)
    before = systemctl_lines(deeds, starts=False, removes=True)
    after = [["daemon-reload"]] if before else []
    _show(deeds, [*before, *after])
    if not deeds:
        click.echo("edge-sr is not installed as a service")
    if not dry_run:
        _check_root(choices)
        _run(before, choices)
        do(deeds, choices)
        _run(after, choices)
    click.echo(
        "engines stay in /var/lib/edge-sr, what can be made again in /var/cache/edge-sr; "
        "a node's images that were not sent in /var/lib/edge-sr-node",
        err=True,
    )


def _show(deeds: list[Deed], lines: list[list[str]]) -> None:
    for deed in deeds:
        click.echo(str(deed))
    for line in lines:
        click.echo(f"{'run':8}systemctl {' '.join(line)}")


def _check_root(choices: Choices) -> None:
    if choices.root == Path("/") and os.geteuid() != 0:
        raise UsageError(
            "install-service writes to /etc and needs root; nothing was done", hint="sudo, with the full path"
        )


def _run(lines: list[list[str]], choices: Choices) -> None:
    """Has systemd notice, where one runs."""
    if choices.root != Path("/") or not Path("/run/systemd/system").is_dir():
        if lines:
            click.echo("systemd does not run here: the commands above are for you to run", err=True)
        return
    for line in lines:
        try:
            done = subprocess.run(["systemctl", *line], check=False)
        except OSError as error:
            raise OutputError(f"systemctl cannot be run: {error.strerror}") from error
        if done.returncode:
            raise OutputError(
                f"systemctl {' '.join(line)} failed with {done.returncode}",
                hint=f"journalctl -u {line[-1]} -e says why; the files are installed",
            )
