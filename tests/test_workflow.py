"""The whole graph, on the smoke preset, under the real Snakemake and the real DVC."""

import re
import shutil

import pandas as pd
import pytest

from tests.conftest import DIGITS, SMOKE
from tests.repository import Repository

# `finished` is a repository in which `dvc repro` has built the smoke preset (tests/conftest.py).


@pytest.fixture
def fresh(tmp_path) -> Repository:
    return Repository.create(tmp_path / "ppap")


def test_the_smoke_preset_makes_every_table_and_figure(finished: Repository) -> None:
    root = finished.results
    for table in ("main", "capacity", "data_free"):
        for suffix in ("csv", "md", "tex", "json"):
            assert (root / "tables" / f"{table}.{suffix}").stat().st_size > 100
    main = pd.read_csv(root / "tables" / "main.csv")
    assert len(main) == 12
    assert main[["fid", "is", "precision", "recall", "paper_fid"]].notna().all(axis=None)
    assert (main["target_rate"].isna() == (main["method"] == "none")).all()
    experts = main[main["method"].isin(["single_noise_aware", "multi_experts_5", "ppap_5"])]
    assert experts["steps"].tolist() == [40, 40, 40]
    shares = dict(zip(experts["method"], experts["trainable_share"], strict=True))
    assert shares["single_noise_aware"] == 1 and shares["multi_experts_5"] == 2
    assert shares["ppap_5"] < 1
    names = {path.name for path in (root / "figures").glob("*.png")}
    assert names == {
        "samples_resnet.png",
        "samples_vit.png",
        "metrics.png",
        "confidence.png",
        "gradients.png",
    }


def test_jobs_leave_logs_benchmarks_and_no_checkpoints(finished: Repository) -> None:
    root = finished.results
    assert len(list((root / "benchmarks").rglob("*.tsv"))) == len(
        list((root / "logs").rglob("*.log"))
    )
    assert not [path for path in (finished.where / "scratch").rglob("*") if path.is_file()]
    assert not list(root.rglob("*.part*"))


def test_a_second_run_does_nothing(finished: Repository) -> None:
    assert "Nothing to be done" in finished.snakemake().stderr


@pytest.mark.parametrize(
    ("changes", "rerun", "kept"),
    [
        ({"guides__resnet__experts__steps": 60}, "train_expert", "generate"),
        ({"samplers__ddpm250__scale": 1.0}, "sample", "train_expert"),
        ({"sampling__batch_size": 7, "runtime__device": "auto"}, None, "sample"),
    ],
)
def test_a_changed_key_reruns_what_depends_on_it_and_no_more(
    finished, preset_file, changes, rerun, kept
) -> None:
    edited = finished.where / "config" / "smoke.yaml"
    edited.write_text(preset_file(**changes).read_text())
    done = finished.snakemake("--dry-run")
    edited.write_text(SMOKE.read_text())
    planned = (done.stdout + done.stderr).splitlines()
    counts = {line.split()[0] for line in planned if re.fullmatch(r"\w+ +\d+", line)}
    assert kept not in counts
    if rerun:
        assert rerun in counts
    else:
        assert "Nothing to be done" in done.stdout  # where a dry run says so


def test_committed_tables_do_not_pass_for_finished_work(finished: Repository, fresh) -> None:
    for kept in ("tables", "figures", "metrics"):
        shutil.copytree(finished.results / kept, fresh.results / kept)
    planned = fresh.snakemake("--dry-run").stdout
    for rule in ("pretrain", "train_expert", "sample", "table"):
        assert re.search(rf"^{rule} +\d+$", planned, re.MULTILINE)


def test_a_wrong_preset_stops_before_the_graph_with_one_line(fresh, preset_file) -> None:
    preset = preset_file(sampling__smaples=3)
    done = fresh.snakemake(preset=str(preset), check=False)
    assert done.returncode == 2
    assert f"ppap: {preset}: sampling.smaples: unknown key" in done.stderr
    assert not (fresh.where / "results").exists()


def test_the_digits_graph_has_a_job_per_range_and_all_28_rows(fresh) -> None:
    done = fresh.snakemake("--dry-run", preset=str(DIGITS))
    planned = (done.stdout + done.stderr).splitlines()
    counts = dict(line.split() for line in planned if re.fullmatch(r"\w+ +\d+", line))
    assert counts["train_expert"] == str(2 * (1 + 5 + 5 + 10) + 5 + 1 + 5)
    assert counts["sample"] == str(2 * (1 + 2 * 6) + 1 + 3)


def test_the_workflow_lints(fresh) -> None:
    done = fresh.run("snakemake", "--lint")
    assert "Congratulations" in done.stderr + done.stdout
