"""The preset that Snakemake is given: found, checked, and refused if a shell would read its path otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.utils import failures
from ppap.utils.errors import ConfigError, PPAPError
from ppap.workflow import fork_server

_UNSAFE = re.compile(r"[^\w ./+@,=%~:-]|^[-~]")


def load_preset(options: dict[str, Any]) -> tuple[str, Preset]:
    """Load the preset that `--config preset=` names: its file and itself; one line and exit code 2 if it is wrong."""
    try:
        path = preset_file(options.get("preset", "digits"))
        return str(path), presets.load(path)
    except PPAPError as error:
        failures.say(str(error))
        os._exit(2)  # Snakemake would print a traceback, and end with 1


def preset_file(named: Any) -> Path:
    """Find the file of the preset that Snakemake's configuration names; ConfigError if it is no plain path.

    Snakemake hands its configuration on to the shells of jobs that it starts elsewhere (Slurm, conda), in
    quotes that do not hold every character.
    """
    unsafe = _UNSAFE.search(str(named))
    if unsafe:
        raise ConfigError(f"preset {str(named)!r}: {unsafe[0]!r} is no character for the path of a preset; rename it")
    return presets.find(str(named))


def prepare_first_job(workflow: Any, file: str, preset: Preset) -> None:
    """Have Snakemake check a preset in full before the first job of a run, in a process of its own.

    It ends with the check's lines and exit code if something is wrong. Dry runs have no such hook, nor have
    the processes that Snakemake starts for single jobs. Snakemake runs the `onstart:` of the outermost
    Snakefile only, and this workflow is a module of that, in a clone and wherever it is deployed: hence not
    the directive. What such a Snakefile does in its own `onstart:` comes after.

    Jobs on this machine's processor start by a fork server. CUDA does not outlive a fork, and jobs on a GPU are long.
    """
    after = workflow._onstart

    def prepare(log: Any) -> None:
        if not workflow.touch:
            if workflow.local_exec and preset.runtime.device == "cpu":
                os.environ.update(fork_server.environment())
            ppap = ["ppap"] if "PPAP_FORK_SERVER" in os.environ else [sys.executable, "-P", "-m", "ppap"]
            done = subprocess.run([*ppap, "config", "check", file, "--files"], stdout=subprocess.DEVNULL, check=False)
            if done.returncode:
                raise SystemExit(done.returncode)  # gives the folder's lock back on its way
        after(log)

    workflow._onstart = prepare
