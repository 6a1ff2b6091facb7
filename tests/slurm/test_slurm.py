"""The workflow under a real Slurm, by the profile as it stands: `snakemake --profile slurm`."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import ppap
from tests.slurm.cluster import Cluster
from tests.slurm.running import RESULTS, Snakemake, change, environment, slurm_only, wait_for

pytestmark = slurm_only


def test_a_run_whose_controller_was_away_gives_an_undisturbed_ones_results(
    whole_run, cluster: Cluster, tmp_path: Path
) -> None:
    assert cluster.jobs() == []
    shutil.copytree(whole_run.where / "config", tmp_path / "config")
    for step in (
        ["pretrain", "smoke", "diffusion"],
        ["pretrain", "smoke", "resnet"],
        *(["generate", "smoke", "--shard", shard] for shard in (0, 1)),
        ["label", "smoke", "resnet", "--part", 0],
        ["warm-start", "smoke", "resnet", "teacher_adapter"],
        *(["train-expert", "smoke", "resnet", "ppap_5", expert] for expert in (1, 2)),
        ["sample", "smoke", "ddim25", "resnet", "ppap_5", "--shard", 0],
    ):
        ppap(*step, cwd=tmp_path)
    made = sorted((tmp_path / RESULTS).rglob("*.npy"))
    made += sorted((tmp_path / RESULTS).rglob("*.safetensors"))
    assert len(made) >= 9
    for path in made:
        same = whole_run.where / path.relative_to(tmp_path)
        assert same.read_bytes() == path.read_bytes(), path


def test_a_cluster_without_accounts_brings_no_alarming_lines(whole_run) -> None:
    assert "account" not in whole_run.printed


def test_gpu_jobs_get_one_gpu_each_and_cpu_jobs_none(whole_run) -> None:
    chosen = re.findall(r"Auto-selected partition '(\w+)' for job (\w+)", whole_run.printed)
    partitions = {job: partition for partition, job in chosen}
    on_gpu = ("pretrain", "generate", "label", "train_expert", "sample", "features", "figure")
    assert {partitions[rule] for rule in on_gpu} == {"gpu"}
    assert {partitions[rule] for rule in ("table", "metrics")} == {"cpu"}
    for job in whole_run.jobs:
        wanted = "gres:gpu:1" if job["Partition"] == "gpu" else None
        assert job.get("TresPerJob") == wanted


@pytest.mark.parametrize(
    ("setting", "field"), [("{gpu_model: h100}", "TresPerJob"), ('{gpu: 0, gres: "gpu:h100:1"}', "TresPerNode")]
)
def test_a_site_sets_partitions_and_gpu_model_or_gres_in_the_profile(clone: Path, cluster, setting, field) -> None:
    profile = clone / "slurm" / "config.yaml"
    text, site = profile.read_text().split("# set-resources:")
    lines = f"# set-resources:{site}".replace("{gpu_model: h100}", setting).splitlines()
    profile.write_text(text + "\n".join(line.removeprefix("# ") for line in lines) + "\n")
    partitions = {
        "short": {"max_runtime": "4h", "max_mem_mb": 64000, "max_gpu": 0},
        "accelerated": {"max_runtime": "2-00:00", "max_gpu": 2, "available_gpu_models": ["h100"]},
    }
    (clone / "slurm" / "partitions.yaml").write_text(yaml.safe_dump({"partitions": partitions}))
    label, metrics = ("results/smoke/labels/resnet/0000.safetensors", RESULTS / "metrics/ddim25/resnet.json")
    rules = ("--forcerun", "label", "metrics", "--allowed-rules", "label", "metrics", "--")
    Snakemake(cluster, clone, *rules, label, str(metrics)).finish()
    by_rule = {job["Comment"].split("_")[1]: job for job in cluster.history()[-2:]}
    assert by_rule["metrics"]["Partition"] == "short"
    assert by_rule["label"]["Partition"] == "accelerated"
    assert by_rule["label"][field] == "gres:gpu:h100:1"


@pytest.fixture
def first(cluster: Cluster) -> int:
    """The number of the first job to come."""
    return max((int(job["JobId"]) for job in cluster.history()), default=0) + 1


@pytest.fixture
def drawing(clone: Path, cluster: Cluster, first: int) -> Snakemake:
    """Snakemake drawing clean images in four jobs, of which some run, some wait, one at least is done."""
    change(clone, "clean_images", count=200, shard_size=50, batch_size=10)
    change(clone, "samplers.ddim25", steps=500)
    change(clone, "sampling", checkpoint_every=20)
    shutil.rmtree(clone / RESULTS / "clean")
    running = Snakemake(cluster, clone, "--", "clean")
    running.wait_for(lambda: len(drawn(clone)) >= 1)
    assert len(cluster.jobs()) >= 2
    return running


def drawn(clone: Path) -> list[Path]:
    return sorted((clone / RESULTS / "clean").glob("[0-9]*.npy"))


def completed(cluster: Cluster, first: int) -> list[str]:
    """Rule and wildcards of the jobs, from number `first` on, that ran to their end."""
    jobs = (job for job in cluster.history() if int(job["JobId"]) >= first)
    return [job["Comment"] for job in jobs if job["JobState"] == "COMPLETED"]


def finished_shards(printed: str) -> set[str]:
    """The shards of clean images whose jobs Snakemake has seen to end."""
    named = dict(re.findall(r"^Job (\d+): Drawing clean images, shard (\d+)$", printed, re.MULTILINE))
    ended = re.findall(r"^Finished jobid: (\d+) ", printed, re.MULTILINE)
    return {named[job] for job in ended if job in named}


def make_unlock(cluster: Cluster, clone: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--assume-old=install", "unlock", "PRESET=smoke"],
        cwd=clone, env=environment(cluster), capture_output=True, text=True,
    )  # fmt: skip


def test_snakemake_killed_and_started_again_loses_and_doubles_no_work(
    clone: Path, cluster: Cluster, first: int, drawing: Snakemake, tmp_path: Path
) -> None:
    drawing.process.kill()
    drawing.process.wait()
    recorded = finished_shards(drawing.printed)
    assert len(cluster.jobs()) >= 2  # which Slurm goes on with
    refused = Snakemake(cluster, clone, "--", "clean")
    assert refused.process.wait() == 1 and "cannot be locked" in refused.printed

    cluster.run("scancel", "--me")
    wait_for(lambda: cluster.jobs() == [])
    unlocked = make_unlock(cluster, clone)
    assert unlocked.returncode == 0, unlocked.stderr
    kept = {path: path.stat().st_ino for path in drawn(clone)}
    Snakemake(cluster, clone, "--", "clean").finish()

    # what Snakemake had seen to end is not repeated; what ended after it was killed may be
    repeated = {path for path, inode in kept.items() if path.stat().st_ino != inode}
    assert not {path.stem for path in repeated} & recorded
    finally_done = completed(cluster, first)
    assert all(finally_done.count(f"rule_generate_wildcards_{shard}") == 1 for shard in recorded)
    assert len(drawn(clone)) == 4
    unended = {p for p in drawn(clone) if f"rule_generate_wildcards_{p.stem}" not in finally_done}
    assert unended <= kept.keys() - repeated
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(clone / RESULTS / "models", undisturbed / RESULTS / "models")
    shutil.copytree(clone / "config", undisturbed / "config")
    for path in (drawn(clone)[0], drawn(clone)[-1]):
        ppap("generate", "smoke", "--shard", int(path.stem), cwd=undisturbed)
        assert np.array_equal(np.load(undisturbed / path.relative_to(clone)), np.load(path))


def test_interrupting_snakemake_leaves_no_job_behind(cluster: Cluster, drawing: Snakemake) -> None:
    drawing.process.send_signal(signal.SIGINT)
    drawing.process.wait(timeout=120)
    wait_for(lambda: cluster.jobs() == [], seconds=30)
