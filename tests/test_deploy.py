"""The workflow as a module of another folder, as snakedeploy and the Snakemake Workflow Catalog use it."""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ppap.config import reading as presets
from ppap.workflow.layout import Layout
from ppap.workflow.steps import all_jobs
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


def test_a_deployed_workflow_runs_what_its_own_config_names(deployed: Path) -> None:
    (deployed / "config" / "config.yaml").write_text("preset: smoke\n")
    preset = deployed / "config" / "smoke.yaml"
    preset.write_text(preset.read_text().replace("samples: 20", "samples: 40"))
    env = os.environ | warm.environment()
    done = subprocess.run(["snakemake", "--dry-run"], cwd=deployed, capture_output=True, text=True, env=env)
    planned = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)}
    wanted = Counter(job.rule() for job in all_jobs(Layout(presets.load(preset))))
    assert planned == {**wanted, "all": 1, "total": wanted.total() + 1}, done.stderr
