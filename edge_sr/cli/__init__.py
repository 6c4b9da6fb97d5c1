"""The command line: the one place that prints and exits.

Exit codes: 0 done; 1 an error that is understood; 2 wrong usage; 78 bad configuration of a service;
130 interrupted. Progress goes to stderr on a terminal and nowhere otherwise; with --json, stdout holds JSON
alone.
"""

from __future__ import annotations

import os
import sys

import click

from edge_sr import __version__
from edge_sr.cli.bench import bench
from edge_sr.cli.build_engine import build_engine
from edge_sr.cli.compare import compare
from edge_sr.cli.demo import demo
from edge_sr.cli.doctor import doctor
from edge_sr.cli.info import info
from edge_sr.cli.install_service import install_service
from edge_sr.cli.node import node
from edge_sr.cli.selftest import selftest
from edge_sr.cli.serve import serve
from edge_sr.cli.upscale import upscale
from edge_sr.cli.watch import watch
from edge_sr.errors import ConfigError, EdgeSRError

__all__ = ["cli", "main"]

EXIT_ERROR, EXIT_CONFIG, EXIT_INTERRUPTED = 1, 78, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edge-sr")
def cli() -> None:
    """Sharpen medical images by latent diffusion, where they are made.

    Detail above the input's resolution is generated. Research use only; not for diagnosis.
    """


for command in (
    upscale,
    watch,
    serve,
    node,
    install_service,
    demo,
    info,
    doctor,
    selftest,
    build_engine,
    bench,
    compare,
):
    cli.add_command(command)


def main() -> None:
    """Runs a command and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs a command.

    Returns:
        The exit code.
    """
    try:
        code = cli.main(arguments, prog_name="edge-sr", standalone_mode=False)
        sys.stdout.flush()
    except EdgeSRError as error:
        return complain(error)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError as error:  # stdout is full, or its reader went away as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            click.echo(f"error: the output cannot be written: {error.strerror}", err=True)
        return EXIT_ERROR
    return int(code or 0)


def complain(error: EdgeSRError) -> int:
    """Prints an error as one line and a hint; returns the exit code that belongs to it."""
    click.echo(f"error: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_ERROR
