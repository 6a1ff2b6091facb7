"""All faults of a cluster in one run: its results are those of an undisturbed run, and it ends by itself."""

import shutil
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.conftest import ppap
from tests.slurm.cluster import Cluster
from tests.slurm.running import RESULTS, Snakemake, change, slurm_only, wait_for

pytestmark = slurm_only
SHARDS = range(5)
Job = dict[str, str]


class Storm:
    """A clone that draws five shards of clean images and labels them, and ways to disturb its jobs."""

    def __init__(self, cluster: Cluster, where: Path) -> None:
        self.cluster, self.where = cluster, where
        change(where, "clean_images", count=250, shard_size=50, batch_size=10)
        change(where, "samplers.ddim25", steps=500)
        change(where, "sampling", checkpoint_every=10)
        change(where, "resources.label", mem_mb=MEMORY)
        shutil.rmtree(where / RESULTS / "clean")
        self.first = len(cluster.history())
        self.snakemake = Snakemake(cluster, where, "--", "labels")

    def tries(self, comment: str) -> list[Job]:
        """The Slurm jobs of one of Snakemake's jobs, oldest first."""
        found = self.cluster.history()[self.first :]
        return [job for job in found if job.get("Comment") == comment]

    def of_shard(self, shard: int) -> list[Job]:
        return self.tries(f"rule_generate_wildcards_{shard:04d}")

    def at_work(self, *shards: int) -> dict[int, str]:
        """Return the number of the job of each shard whose job runs and has kept a checkpoint."""
        found = {}
        for shard in shards:
            tries = self.of_shard(shard)
            kept = {int(path.name[:4]) for path in self.where.glob("scratch/*/clean/*.npy.ckpt")}
            if tries and shard in kept and tries[-1]["JobState"] == "RUNNING":
                found[shard] = tries[-1]["JobId"]
        return found

    def two_at_work(self, *shards: int) -> dict[int, str]:
        """Two of the shards at work, as many as there are GPUs."""
        return self.snakemake.wait_for(lambda: _two(self.at_work(*shards)))


def _two(found: dict[int, str]) -> dict[int, str]:
    return found if len(found) == 2 else {}


MEMORY = 550
"""MB that the labelling asks for first; it takes some 900, its Snakemake included."""


class Befallen(NamedTuple):
    storm: Storm
    cancelled: int
    requeued: int
    preempted: list[str]
    lost: list[str]
    hanging: int


@pytest.fixture(scope="module")
def befallen(whole_run, cluster: Cluster, tmp_path_factory) -> Befallen:
    """The run after all of it, and which shards or jobs met what."""
    clone = tmp_path_factory.mktemp("storm") / "ppap"
    storm = Storm(cluster, Path(shutil.copytree(whole_run.where, clone)))
    (cancelled, job), (requeued, other) = storm.two_at_work(*SHARDS).items()
    cluster.run("scancel", job)
    cluster.run("scontrol", "requeue", other)

    rest = [shard for shard in SHARDS if shard not in (cancelled, requeued)]
    victims = storm.two_at_work(*rest)
    # somebody's urgent job wants both GPUs
    cluster.run("sbatch", "-p", "urgent", "--gpus=2", "-o", "/dev/null", "--wrap", "true")
    preempted = list(victims.values())
    storm.snakemake.wait_for(lambda: not set(preempted) & set(storm.at_work(*SHARDS).values()))

    lost = list(storm.two_at_work(*SHARDS).values())
    cluster.crash_node()
    storm.snakemake.wait_for(lambda: "down" in cluster.run("sinfo", "-h", "-o", "%T").stdout)
    cluster.start_node()

    (hanging,) = set(rest) - victims.keys()  # the last to start
    number = storm.snakemake.wait_for(lambda: storm.at_work(hanging))[hanging]
    for process in wait_for(lambda: steps(clone, "generate", f"--shard {hanging}")):
        process.suspend()
    cluster.run("scontrol", "update", f"JobId={number}", "TimeLimit=1")
    storm.snakemake.finish()
    return Befallen(storm, cancelled, requeued, preempted, lost, hanging)


def steps(folder: Path, *words: str) -> list[psutil.Process]:
    """The processes of a `ppap` step with these words that runs in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if Path(process.cwd()) == folder and "/ppap " in line and all(w in line for w in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_job_that_an_operator_cancels_is_tried_again(befallen: Befallen) -> None:
    states = [job["JobState"] for job in befallen.storm.of_shard(befallen.cancelled)]
    assert states[0] == "CANCELLED" and states[-1] == "COMPLETED"


def test_a_job_that_an_operator_requeues_goes_on_from_its_checkpoint(befallen: Befallen) -> None:
    (job,) = befallen.storm.of_shard(befallen.requeued)
    assert job["JobState"] == "COMPLETED" and int(job["Restarts"]) >= 1
    log = RESULTS / "logs" / "clean" / f"{befallen.requeued:04d}.log"
    assert "resumed" in (befallen.storm.where / log).read_text()


@pytest.mark.parametrize("fate", ["preempted", "lost"])
def test_preempted_jobs_and_those_of_a_lost_node_are_requeued_and_end_well(befallen: Befallen, fate: str) -> None:
    numbers = getattr(befallen, fate)
    history = {job["JobId"]: job for job in befallen.storm.cluster.history()}
    hung = befallen.storm.of_shard(befallen.hanging)[0]["JobId"]
    for number in numbers:
        assert int(history[number]["Restarts"]) >= 1
        assert history[number]["JobState"] == ("TIMEOUT" if number == hung else "COMPLETED")


def test_a_job_that_hangs_meets_its_time_limit_and_is_tried_again_with_more_time(befallen: Befallen) -> None:
    first, second = befallen.storm.of_shard(befallen.hanging)
    assert (first["JobState"], second["JobState"]) == ("TIMEOUT", "COMPLETED")
    assert second["TimeLimit"] == "02:00:00"


def test_a_job_over_its_memory_is_tried_again_with_more(befallen: Befallen) -> None:
    first, *more = befallen.storm.tries("rule_label_wildcards_resnet_0000")
    assert first["JobState"] != "COMPLETED" and first["MinMemoryNode"] == f"{MEMORY}M"
    assert more[-1]["JobState"] == "COMPLETED" and more[0]["MinMemoryNode"] == f"{2 * MEMORY}M"


def test_after_all_that_the_results_are_an_undisturbed_runs(befallen: Befallen, tmp_path: Path) -> None:
    where = befallen.storm.where
    shutil.copytree(where / "config", tmp_path / "config")
    shutil.copytree(where / RESULTS / "models", tmp_path / RESULTS / "models")
    for shard in SHARDS:
        ppap("generate", "smoke", "--shard", shard, cwd=tmp_path)
    ppap("label", "smoke", "resnet", "--part", 0, cwd=tmp_path)
    made = [*(RESULTS / "clean" / f"{shard:04d}.npy" for shard in SHARDS)]
    for path in (*made, RESULTS / "labels" / "resnet" / "0000.safetensors"):
        assert (where / path).read_bytes() == (tmp_path / path).read_bytes(), path
