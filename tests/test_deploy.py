"""The workflow as a module of another folder, as snakedeploy and the Snakemake Workflow Catalog use it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import warm
from tests.conftest import ROOT, SMOKE

# What `snakedeploy deploy-workflow` writes (its template use_module.smk.jinja), for a local copy.
DEPLOYED = f"""
from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yaml"


module ppap:
    snakefile:
        "{ROOT / "workflow" / "Snakefile"}"
    config:
        config


use rule * from ppap
"""


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """A folder with its own config/, and a Snakefile that uses this workflow as a module."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(SMOKE, tmp_path / "config")
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "Snakefile").write_text(DEPLOYED)
    return tmp_path


def dry_run(where: Path, *options: str) -> dict[str, int]:
    """How many jobs each rule would have."""
    command, env = ["snakemake", "--dry-run", *options], os.environ | warm.environment()
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return {k: int(n) for k, n in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)}


def test_a_deployed_workflow_plans_what_a_clone_does(deployed: Path, tmp_path: Path) -> None:
    here = dry_run(deployed, "--config", "preset=smoke")
    clone = ["--snakefile", str(ROOT / "Snakefile"), "--config", f"preset={SMOKE}"]
    assert here == dry_run(deployed, *clone)
    assert here["sample"] == 8 and here["all"] == 1


def test_a_deployed_workflow_runs_what_its_own_config_names(deployed: Path) -> None:
    (deployed / "config" / "config.yaml").write_text("preset: smoke\n")
    preset = deployed / "config" / "smoke.yaml"
    preset.write_text(preset.read_text().replace("samples: 20", "samples: 40"))
    assert dry_run(deployed)["sample"] == 16  # 80 samples in shards of 40, for eight sample sets
