"""The cluster, and a clone that has run on it while its controller was away twice."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.running import RESULTS, Snakemake, clone_to


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    # munged refuses folders that others may write to above its socket; sockets want short paths
    with tempfile.TemporaryDirectory(prefix="slurm", dir=Path.home()) as folder, Cluster(Path(folder)) as running:
        yield running


class Finished(NamedTuple):
    """A clone, what Snakemake printed in it, and the jobs as `scontrol show job` knows them."""

    where: Path
    printed: str
    jobs: list[dict[str, str]]


@pytest.fixture(scope="session")
def whole_run(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A clone after a whole run; Slurm's controller answers neither at its start nor in mid-run."""
    where = clone_to(tmp_path_factory.mktemp("clone") / "ppap")
    cluster.stop_controller()
    targets = (str(RESULTS / "tables" / "main.md"), str(RESULTS / "figures" / "metrics.png"))
    snakemake = Snakemake(cluster, where, "--", *targets)
    snakemake.wait_to_say("Slurm's controller does not answer")
    cluster.start_controller()
    snakemake.wait_to_say("has been submitted with SLURM jobid")
    cluster.stop_controller()
    snakemake.wait_to_say("Slurm did not say how its jobs are")
    cluster.start_controller()
    printed = snakemake.finish()
    assert (where / RESULTS / "tables" / "main.md").stat().st_size > 100
    return Finished(where, printed, cluster.history())


@pytest.fixture
def clone(whole_run: Finished, tmp_path: Path) -> Path:
    """A copy of the finished clone, to do something to."""
    return Path(shutil.copytree(whole_run.where, tmp_path / "ppap"))
