"""The whole graph, on the smoke preset, under the real Snakemake and the real DVC."""

import contextlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ppap import open_run
from ppap.config import reading as presets
from ppap.utils import files
from ppap.utils.errors import ConfigError
from ppap.workflow.layout import Layout
from ppap.workflow.plan.costs import Costs
from ppap.workflow.preset_file import preset_file as find_preset
from ppap.workflow.stages import STAGES
from ppap.workflow.steps import STEPS, all_jobs
from tests.conftest import ROOT, SMOKE, ppap
from tests.repository import Repository, snakemake

# `finished` is a repository in which `dvc repro` has built the smoke preset (tests/conftest.py).


@pytest.fixture
def fresh(tmp_path) -> Repository:
    return Repository.create(tmp_path / "ppap")


def test_the_smoke_preset_makes_every_table_and_figure(finished: Repository) -> None:
    root = finished.results
    for table in ("main", "capacity", "data_free"):
        for suffix in ("csv", "md", "tex", "html", "json"):
            assert (root / "tables" / f"{table}.{suffix}").stat().st_size > 100
    main = open_run(SMOKE, finished.where / "results").table("main")
    assert main.equals(pd.read_csv(root / "tables" / "main.csv"))
    assert len(main) == 9
    assert main[["fid", "is", "precision", "recall", "paper_fid"]].notna().all(axis=None)
    assert main["target_rate"].between(0, 1).all()
    experts = main[main["method"].isin(["single_noise_aware", "multi_experts_5", "ppap_5"])]
    assert experts["steps"].tolist() == [40, 40, 40]
    shares = dict(zip(experts["method"], experts["trainable_share"], strict=True))
    assert shares["single_noise_aware"] == 1 and shares["multi_experts_5"] == 2
    assert shares["ppap_5"] < 1
    assert experts[["held_out_loss", "off_the_shelf_loss", "worse_experts"]].notna().all(axis=None)
    names = {path.name for path in (root / "figures").glob("*.png")}
    of_guides = {f"{kind}_{guide}" for kind in ("samples", "gradients") for guide in ("resnet", "vit")}
    figures = of_guides | {"metrics", "parameters", "confidence", "noisy_inputs"}
    assert names == {f"{name}.png" for name in figures}
    assert {path.stem for path in (root / "pdf").glob("*.pdf")} == figures


def test_jobs_leave_logs_benchmarks_and_no_checkpoints(finished: Repository) -> None:
    root = finished.results
    assert len(list((root / "benchmarks").rglob("*.tsv"))) == len(list((root / "logs").rglob("*.log")))
    assert not [path for path in (finished.where / "scratch").rglob("*") if path.is_file()]
    assert not list(root.rglob("*.part*"))


def stored(path: Path) -> int:
    """Bytes of the numbers in a file or folder of results, headers left out."""
    if path.is_dir():
        return sum(stored(file) for file in path.glob("*.npz"))
    if path.suffix == ".safetensors":
        return sum(t.numel() * t.element_size() for t in files.read_tensors(path).values())
    arrays = np.load(path)
    return arrays.nbytes if path.suffix == ".npy" else sum(a.nbytes for a in arrays.values())


def test_the_plan_lists_the_jobs_that_ran_and_what_they_wrote(finished: Repository) -> None:
    config = presets.load(SMOKE)
    layout = Layout(config, finished.where / "results")
    jobs, costs = list(all_jobs(layout)), Costs(layout)
    benchmarks = finished.results / "benchmarks"
    ran = {str(p.relative_to(benchmarks).with_suffix("")) for p in benchmarks.rglob("*.tsv")}
    assert ran == {job.name(layout) for job in jobs}
    for job in jobs:
        planned = costs.of(job).bytes
        if planned is not None:
            assert planned == sum(map(stored, job.outputs(layout))), job
    plan = json.loads(ppap("plan", SMOKE, "--json", cwd=finished.where).stdout)
    assert {row["source"] for row in plan["stages"]} == {"measured"}
    assert 0 < plan["chain_hours"] < plan["total"]["hours"]


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="this machine has no Chromium")
def test_the_report_opens_at_the_main_table_and_every_figure(finished: Repository, tmp_path: Path) -> None:
    finished.snakemake("--report", "results/smoke/report.html")
    report = (finished.results / "report.html").read_text()
    figures = {
        "Samples": ["samples resnet", "samples vit"],
        "Analysis": ["confidence", "gradients resnet", "gradients vit", "metrics", "noisy inputs", "parameters"],
    }  # fmt: skip
    clicks = (ROOT / "tests" / "report_clicks.js").read_text()
    page = tmp_path / "clicked.html"
    script = f"<script>const FIGURES = {json.dumps(figures)};\n{clicks}</script>"
    before, end, after = report.rpartition("</body>")
    page.write_text(before + script + end + after)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000",
               "--dump-dom", page.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    seen = json.loads(html.unescape(re.search(r"<body[^>]*>(.*)</body>", dom, re.DOTALL)[1]))
    shown = pd.DataFrame(seen["rows"][1:], columns=seen["rows"][0])
    markdown = (finished.results / "tables" / "main.md").read_text()
    rows = [line.strip("|").split("|") for line in markdown.splitlines() if line[:1] == "|"]
    assert seen["rows"] == [[cell.strip() for cell in row] for row in (rows[0], *rows[2:])]
    assert len(shown) == 9 and shown["FID ↓"].str.contains("±").all()
    assert set(seen["figures"]) == {label for labels in figures.values() for label in labels}
    assert all(width > 500 for width in seen["figures"].values())


def test_a_second_run_does_nothing_wherever_the_same_preset_lies(finished: Repository, tmp_path: Path) -> None:
    assert "Nothing to be done" in finished.snakemake().stderr
    whole, copied = finished.where / "config" / "smoke.yaml", tmp_path / "copied.yaml"
    shutil.copy(whole, copied)
    for spelling in ("./config/../config/smoke.yaml", str(whole), str(copied)):
        assert "Nothing to be done" in finished.snakemake("--dry-run", preset=spelling).stdout


@pytest.mark.parametrize(
    ("changes", "rerun", "kept"),
    [
        ({"guides__resnet__experts__steps": 60}, "train_expert", "generate"),
        ({"sampling__batch_size": 7, "runtime__device": "auto"}, None, "sample"),
    ],
)
def test_snakemake_goes_by_the_keys_that_jobs_declare(untouched: Repository, preset_file, changes, rerun, kept) -> None:
    """Which keys those are: tests/test_staleness.py."""
    (untouched.where / "config" / "smoke.yaml").write_text(preset_file(**changes).read_text())
    done = untouched.snakemake("--dry-run")
    planned = (done.stdout + done.stderr).splitlines()
    counts = {line.split()[0] for line in planned if re.fullmatch(r"\w+ +\d+", line)}
    assert kept not in counts
    total = json.loads(ppap("status", "smoke", "--json", cwd=untouched.where).stdout)["total"]
    if rerun:
        assert rerun in counts
        planned = int(re.search(r"^total +(\d+)$", done.stdout, re.M)[1]) - 1  # `all` makes nothing
        assert total["jobs_left"] == planned and total["files"] + total["stale"] == total["wanted"]
    else:
        assert "Nothing to be done" in done.stdout  # where a dry run says so
        assert total["jobs_left"] == total["stale"] == 0


def test_committed_tables_do_not_pass_for_finished_work(finished: Repository, fresh) -> None:
    for kept in ("tables", "figures", "metrics"):
        shutil.copytree(finished.results / kept, fresh.results / kept)
    planned = fresh.snakemake("--dry-run").stdout
    for rule in ("pretrain", "train_expert", "sample", "table"):
        assert re.search(rf"^{rule} +\d+$", planned, re.MULTILINE)


def test_rules_are_the_steps_and_the_stages(fresh) -> None:
    listed = fresh.run("snakemake", "--list-rules", "--config", "preset=smoke").stdout.split()
    assert set(listed) == {step.rule() for step in STEPS} | STAGES.keys() | {"all"}


@pytest.mark.parametrize("name", ["ünïcode of mine/a,b=c+d@e%f.yaml"])
def test_a_preset_may_have_spaces_and_such_in_its_path(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir()
    shutil.copy(SMOKE, tmp_path / name)
    target = "results/smoke/models/vit.safetensors"
    done = snakemake(tmp_path, target, preset=name)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / target).exists()


@pytest.mark.parametrize("name", ["$()", ";", "{a}", "~/x", "*", "-x"])
def test_a_path_that_a_shell_would_read_otherwise_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    shutil.copy(SMOKE, tmp_path / name)
    with contextlib.chdir(tmp_path), pytest.raises(ConfigError, match="rename it"):
        find_preset(name)


def test_a_refused_path_runs_nothing(tmp_path: Path) -> None:
    name = "x$(touch pwned).yaml"
    shutil.copy(SMOKE, tmp_path / name)
    done = snakemake(tmp_path, "results/smoke/models/vit.safetensors", preset=name)
    assert done.returncode == 2, done.stderr
    assert "rename it" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("pwned*")) and not (tmp_path / "results").exists()
