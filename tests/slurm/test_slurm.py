"""The workflow under a real Slurm, by the profile as it stands: `snakemake --profile slurm`."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMOKE
from tests.slurm.cluster import Cluster, missing

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        bool(missing()), reason=f"this machine has no Slurm: {', '.join(missing())} not found"
    ),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # munged refuses folders that others may write to above its socket; sockets want short paths
    with (
        tempfile.TemporaryDirectory(prefix="slurm", dir=Path.home()) as folder,
        Cluster(Path(folder)) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What a fresh clone holds, and a preset that asks for a GPU where there is one."""
    where = tmp_path_factory.mktemp("clone") / "ppap"
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in tracked.stdout.splitlines():
        if not name.startswith("results/"):
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, where / name)
    preset = SMOKE.read_text().replace("device: cpu", "device: auto")
    (where / "config" / "smoke.yaml").write_text(preset)
    return where


@pytest.fixture(scope="module")
def finished(cluster: Cluster, clone: Path) -> tuple[Path, str]:
    """The clone after a whole run under Slurm, and what Snakemake printed."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--profile", "slurm", "--config", "preset=smoke"],
        cwd=clone, env=cluster.environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return clone, done.stderr


@pytest.mark.timeout(1200)
def test_the_profile_runs_the_smoke_preset_end_to_end(finished) -> None:
    clone, _ = finished
    for table in ("main", "capacity", "data_free"):
        assert (clone / "results" / "smoke" / "tables" / f"{table}.md").stat().st_size > 100


def test_gpu_jobs_got_one_gpu_each_and_cpu_jobs_none(finished, cluster: Cluster) -> None:
    _, printed = finished
    chosen = re.findall(r"Auto-selected partition '(\w+)' for job (\w+)", printed)
    partitions = {job: partition for partition, job in chosen}
    assert {partitions[rule] for rule in ("pretrain", "generate", "train_expert", "sample")} == {
        "gpu"
    }
    assert {partitions[rule] for rule in ("table", "metrics_ddim25_resnet")} == {"cpu"}
    allocated = cluster.run("scontrol", "show", "job", "--oneliner").stdout.splitlines()
    assert allocated
    for job in allocated:
        partition = re.search(r"Partition=(\w+)", job)
        assert partition is not None
        assert ("TresPerJob=gres:gpu:1" in job) == (partition.group(1) == "gpu")


def test_no_job_is_left_behind(finished, cluster: Cluster) -> None:
    assert cluster.jobs() == []
