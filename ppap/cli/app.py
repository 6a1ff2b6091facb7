"""The command line as a whole: its folders, and how it ends."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ppap import __version__
from ppap.cli.arguments import Started, app
from ppap.utils import failures
from ppap.utils.failures import Stopped, stop_on_signals


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def start(
    context: typer.Context,
    results: Annotated[Path, typer.Option(help="where results/PRESET lies")] = Path("results"),
    scratch: Annotated[Path, typer.Option(help="where unfinished jobs keep checkpoints")] = Path("scratch"),
    downloads: Annotated[
        Path, typer.Option(envvar="PPAP_DOWNLOADS", help="where downloaded files lie, for all presets")
    ] = Path("downloads"),
    replicate: Annotated[
        int | None, typer.Option(min=0, help="the replicate of the preset to work on, one of its `replicates`")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="print the version and end")
    ] = False,
) -> None:
    Started.step = context.invoked_subcommand or ""
    Started.results, Started.scratch, Started.downloads = results, scratch, downloads
    Started.replicate = replicate


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    # The libraries' imports make objects by the million, all of which stay. To search them for garbage at the default
    # rate, and to free them one by one at the end, takes a third of a step's start: so the process ends without.
    gc.set_threshold(100_000)
    for stream in filter(None, (sys.stdout, sys.stderr)):  # one may be closed
        stream.reconfigure(errors="backslashreplace")
    stop_on_signals()
    os._exit(run())


def run() -> int:
    """Run the command line, and say on standard error what ends it early.

    Exit codes: 0; 2, with one line, for what a user can put right; 128 + N, with one line, for signal N; 1, with a
    traceback, for anything else.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    for transport in ("httpx", "httpx2"):  # which tell of every request to the hub
        logging.getLogger(transport).setLevel(logging.WARNING)
    Started.step = ""
    try:
        app()
        code: object = 0
    except Stopped as stopped:
        failures.say(f"{Started.step}: stopped by {stopped.signal.name}".removeprefix(": "))
        code = stopped.code
    except SystemExit as end:  # as every command ends under typer
        code = end.code
    except Exception as error:
        code = failures.report(error, Started.step)
    try:
        print(end="", flush=True)
    except BrokenPipeError:  # as in `ppap ... | head -1`
        pass
    except OSError as error:
        code = code or failures.report(error, "standard output")
    return code if isinstance(code, int) else int(code is not None)
