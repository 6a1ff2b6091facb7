"""The workflow under a real Slurm, by the profile as it stands: `snakemake --profile slurm`."""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from ppap import files
from tests.conftest import SMOKE, ppap
from tests.repository import copy_project
from tests.slurm.cluster import Cluster, missing

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        bool(missing()), reason=f"this machine has no Slurm: {', '.join(missing())} not found"
    ),
]
RESULTS = Path("results", "smoke")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # munged refuses folders that others may write to above its socket; sockets want short paths
    with (
        tempfile.TemporaryDirectory(prefix="slurm", dir=Path.home()) as folder,
        Cluster(Path(folder)) as running,
    ):
        yield running


def clone_to(where: Path) -> Path:
    """What a fresh clone holds, and a preset that asks for a GPU where there is one."""
    copy_project(where)
    preset = SMOKE.read_text().replace("device: cpu", "device: auto")
    (where / "config" / "smoke.yaml").write_text(preset)
    return where


def start(
    cluster: Cluster, where: Path, *arguments: str, path: Path | None = None
) -> subprocess.Popen[str]:
    """`snakemake --profile slurm` in a clone; only the first look at jobs comes sooner than it says."""
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--config", "preset=smoke"]
    command += ["--slurm-init-seconds-before-status-checks", "2", *arguments]
    return subprocess.Popen(
        command, cwd=where, env=environment(cluster, path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def environment(cluster: Cluster, path: Path | None = None) -> dict[str, str]:
    """A user's shell, the project's environment active; programs in `path` come first."""
    own = [*([path] if path else []), Path(sys.executable).parent, cluster.environment["PATH"]]
    return cluster.environment | {"PATH": ":".join(map(str, own)), "OMP_NUM_THREADS": "1"}


def finish(running: subprocess.Popen[str]) -> str:
    """Wait for Snakemake; what it printed."""
    printed, _ = running.communicate()
    assert running.returncode == 0, printed[-5000:]
    return printed


def wait_for(what: Callable[[], object], seconds: int = 120) -> None:
    for _ in range(5 * seconds):
        if what():
            return
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s in vain")


@pytest.fixture(scope="module")
def finished(cluster: Cluster, tmp_path_factory) -> tuple[Path, str]:
    """A clone after a whole run under Slurm, and what Snakemake printed."""
    where = clone_to(tmp_path_factory.mktemp("clone") / "ppap")
    return where, finish(start(cluster, where))


@pytest.fixture
def clone(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the finished clone, to do something to."""
    return Path(shutil.copytree(finished[0], tmp_path / "ppap"))


def change(where: Path, section: str, **values: object) -> None:
    """Change keys of a section ("guides.resnet.experts") of the clone's preset."""
    path = where / "config" / "smoke.yaml"
    preset = yaml.safe_load(path.read_text())
    found = preset
    for key in section.split("."):
        found = found[key]
    found.update(values)
    path.write_text(yaml.safe_dump(preset))


def test_the_profile_runs_the_smoke_preset_end_to_end(finished, cluster: Cluster) -> None:
    where, _ = finished
    for table in ("main", "capacity", "data_free"):
        assert (where / RESULTS / "tables" / f"{table}.md").stat().st_size > 100
    assert cluster.jobs() == []


def test_gpu_jobs_get_one_gpu_each_and_cpu_jobs_none(finished, cluster: Cluster) -> None:
    _, printed = finished
    chosen = re.findall(r"Auto-selected partition '(\w+)' for job (\w+)", printed)
    partitions = {job: partition for partition, job in chosen}
    on_gpu = ("pretrain", "generate", "label", "train_expert", "sample", "features", "figure")
    assert {partitions[rule] for rule in on_gpu} == {"gpu"}
    assert {partitions[rule] for rule in ("table", "metrics")} == {"cpu"}
    for job in cluster.history():
        wanted = "gres:gpu:1" if job["Partition"] == "gpu" else None
        assert job.get("TresPerJob") == wanted


@pytest.mark.parametrize(
    ("setting", "field"),
    [("{gpu_model: h100}", "TresPerJob"), ('{gpu: 0, gres: "gpu:h100:1"}', "TresPerNode")],
)
def test_a_site_sets_gpu_model_or_gres_in_the_profile(clone: Path, cluster, setting, field) -> None:
    profile = clone / "slurm" / "config.yaml"
    text, site = profile.read_text().split("# set-resources:")
    lines = f"# set-resources:{site}".replace("{gpu_model: h100}", setting).splitlines()
    profile.write_text(text + "\n".join(line.removeprefix("# ") for line in lines) + "\n")
    finish(start(cluster, clone, "--forcerun", "label", "--", "labels"))
    job = cluster.history()[-1]
    assert job["Partition"] == "gpu" and job[field] == "gres:gpu:h100:1"


def test_a_failed_job_is_tried_again_with_more_memory(clone: Path, cluster, tmp_path) -> None:
    shim, flag = tmp_path / "bin" / "ppap", tmp_path / "failed"
    shim.parent.mkdir()
    real = Path(sys.executable).parent / "ppap"
    shim.write_text(
        f'#!/bin/sh\nif [ "$1" = label ] && [ ! -e {flag} ]; then touch {flag}; exit 137; fi\n'
        f'exec {real} "$@"\n'
    )
    shim.chmod(0o755)
    before = len(cluster.history())
    finish(start(cluster, clone, "--forcerun", "label", "--", "labels", path=shim.parent))
    tries = cluster.history()[before:]
    assert [job["JobState"] for job in tries] == ["FAILED", "COMPLETED"]
    assert [job["MinMemoryNode"] for job in tries] == ["2000M", "4000M"]


def test_an_expert_requeued_in_mid_training_ends_as_an_undisturbed_one(clone, cluster) -> None:
    change(clone, "guides.resnet.experts", steps=1500, checkpoint_every=50)
    expert = RESULTS / "experts" / "resnet" / "single_noise_aware" / "expert_1.safetensors"
    ppap("train-expert", "smoke", "resnet", "single_noise_aware", "1", cwd=clone)
    undisturbed = files.read_tensors(clone / expert)
    (clone / expert).unlink()
    running = start(cluster, clone, "--allowed-rules", "train_expert", "--", str(expert))
    wait_for(lambda: list((clone / "scratch").rglob("*.ckpt")))
    (job,) = cluster.jobs()
    cluster.run("scontrol", "requeue", job.split()[0])
    wait_for(lambda: "PENDING" in cluster.jobs()[0])
    cluster.run("scontrol", "update", f"jobid={job.split()[0]}", "StartTime=now")
    finish(running)
    assert cluster.history()[-1]["Restarts"] == "1"
    log = (clone / RESULTS / "logs/experts/resnet/single_noise_aware/expert_1.log").read_text()
    assert "resumed from" in log
    requeued = files.read_tensors(clone / expert)
    assert requeued.keys() == undisturbed.keys()
    assert all(bool((requeued[name] == undisturbed[name]).all()) for name in requeued)


@pytest.fixture
def drawing(clone: Path, cluster: Cluster) -> subprocess.Popen[str]:
    """Snakemake drawing clean images in seven jobs, of which some run, some wait, one at least is done."""
    return start_drawing(clone, cluster)


def start_drawing(clone: Path, cluster: Cluster) -> subprocess.Popen[str]:
    change(clone, "clean_images", count=350, shard_size=50, batch_size=10)
    change(clone, "samplers.ddim25", steps=500)
    change(clone, "sampling", checkpoint_every=20)
    shutil.rmtree(clone / RESULTS / "clean")
    running = start(cluster, clone, "--", "clean_images")
    wait_for(lambda: len(drawn(clone)) >= 1)
    assert len(cluster.jobs()) > 2
    return running


def drawn(clone: Path) -> list[Path]:
    return sorted((clone / RESULTS / "clean").glob("[0-9]*.npy"))


def completed(cluster: Cluster, first: int) -> list[str]:
    """Rule and wildcards of the jobs, from number `first` on, that ran to their end."""
    jobs = (job for job in cluster.history() if int(job["JobId"]) >= first)
    return [job["Comment"] for job in jobs if job["JobState"] == "COMPLETED"]


def test_snakemake_killed_and_started_again_loses_and_doubles_no_work(
    clone: Path, cluster: Cluster, drawing: subprocess.Popen[str], tmp_path: Path
) -> None:
    first = min(int(job.split()[0]) for job in cluster.jobs()) - len(drawn(clone))
    drawing.kill()
    drawing.wait()
    assert len(cluster.jobs()) > 2  # orphans
    refused = start(cluster, clone, "--", "clean_images")
    printed, _ = refused.communicate()
    assert refused.returncode == 1 and "cannot be locked" in printed

    unlocked = subprocess.run(
        ["make", "--assume-old=install", "unlock", "PRESET=smoke"],
        cwd=clone, env=environment(cluster), capture_output=True, text=True,
    )  # fmt: skip
    assert unlocked.returncode == 0, unlocked.stderr
    assert cluster.jobs() == []
    kept = {path: path.stat().st_ino for path in drawn(clone)}
    done = completed(cluster, first)
    finish(start(cluster, clone, "--", "clean_images"))

    # finished jobs are not repeated; of those stopped, all but what had been recorded is made again
    repeated = {path for path, inode in kept.items() if path.stat().st_ino != inode}
    assert not {f"rule_generate_wildcards_{path.stem}" for path in repeated} & set(done)
    finally_done = completed(cluster, first)
    assert len(finally_done) == len(set(finally_done)) and len(drawn(clone)) == 7
    unended = {p for p in drawn(clone) if f"rule_generate_wildcards_{p.stem}" not in finally_done}
    assert unended <= kept.keys() - repeated
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(clone / RESULTS / "models", undisturbed / RESULTS / "models")
    shutil.copytree(clone / "config", undisturbed / "config")
    for path in (drawn(clone)[0], drawn(clone)[-1]):
        ppap("generate", "smoke", "--shard", int(path.stem), cwd=undisturbed)
        assert np.array_equal(np.load(undisturbed / path.relative_to(clone)), np.load(path))


def test_interrupting_snakemake_leaves_no_job_behind(
    cluster: Cluster, drawing: subprocess.Popen[str]
) -> None:
    drawing.send_signal(signal.SIGINT)
    drawing.communicate(timeout=120)
    wait_for(lambda: cluster.jobs() == [], seconds=30)
