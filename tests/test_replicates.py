"""Replicates of a preset: the same run with other seeds, by the same rules, and tables with error bars over all."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ppap import open_run
from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.config.runs import all_runs, table_runs
from ppap.evaluation.metrics import summarise
from ppap.report.replicates import ASKED
from ppap.workflow.layout import Layout
from ppap.workflow.stages import by_stage
from ppap.workflow.steps import all_jobs, jobs_of_all_runs
from ppap.workflow.steps.figure import Figure
from ppap.workflow.steps.study import Study
from ppap.workflow.steps.study_figure import StudyFigure
from tests.conftest import DIGITS, IMAGENET, ROOT, SMOKE, ppap, refused
from tests.recorder import run_jobs, undeclared
from tests.repository import snakemake


def repeated(*numbers: int, path: Path = SMOKE) -> Preset:
    return presets.validate(yaml.safe_load(path.read_text()) | {"replicates": list(numbers)}, path)


def told(layout: Layout) -> dict[str, tuple]:
    """What Snakemake is told of each job of a run, by its name."""
    return {
        job.name(layout): (job.rule(), job.arguments(), job.fingerprint(layout.preset), job.outputs(layout))
        for job in all_jobs(layout)
        if not isinstance(job, Study)
    }


def test_study_questions_and_scales_are_digits_several_times_with_more_rows() -> None:
    digits = presets.load(DIGITS)
    for name, replicates, tables in (("study", 5, digits.tables), ("questions", 5, {}), ("scales", 3, {})):
        preset = presets.load(ROOT / "config" / f"{name}.yaml")
        assert preset.replicates == tuple(range(replicates)) and preset.seed == digits.seed
        for section in ("dataset", "diffusion", "evaluator"):
            assert getattr(preset, section) == getattr(digits, section), section
        for section in ("guides", "samplers", "methods"):
            named, known = getattr(preset, section), getattr(digits, section)
            shared = named.keys() & known.keys()
            assert [named[key] for key in shared] == [known[key] for key in shared], section
        assert all(set(table_runs(digits, table)) <= set(table_runs(preset, table)) for table in tables)
    study, questions, scales = (
        presets.load(ROOT / "config" / f"{name}.yaml") for name in ("study", "questions", "scales")
    )
    for preset in (study, questions):
        assert preset.sampling == digits.sampling and preset.figures == digits.figures
    one = {"seeds": digits.sampling.seeds[:1], "shard_size": digits.sampling.samples}
    assert scales.sampling == digits.sampling.model_copy(update=one)
    for preset in (study, scales):
        assert preset.clean_images == digits.clean_images and preset.experts == digits.experts
    assert questions.clean_images == digits.clean_images.model_copy(update={"count": 20_000})
    assert questions.experts == digits.experts.model_copy(update={"images": digits.clean_images.count})


def test_a_presets_own_run_has_the_same_jobs_with_replicates_as_without(smoke: Preset) -> None:
    with_others = Layout(repeated(0, 3))
    assert told(with_others) == told(Layout(smoke))
    assert [job for run, job in jobs_of_all_runs(Layout(smoke))] == list(all_jobs(Layout(smoke)))
    assert with_others.runs[0] == with_others


def test_a_replicate_has_other_seeds_and_files_and_is_the_same_else() -> None:
    own, third, fourth = map(told, Layout(repeated(0, 3, 4)).runs)
    assert {name: job[:2] for name, job in third.items()} == {name: job[:2] for name, job in own.items()}
    for name in own:
        if name.startswith(("models/", "judges/", "clean/", "samples/", "experts/")):
            assert len({job[name][2] for job in (own, third, fourth)}) == 3, name
    files = [{path for job in run.values() for path in job[3]} for run in (own, third, fourth)]
    assert len(set.union(*files)) == sum(map(len, files))
    assert all(path.is_relative_to("results/smoke/replicates/3") for path in files[1])


def test_another_replicate_or_another_key_makes_no_other_stale() -> None:
    own, third = map(told, Layout(repeated(0, 3)).runs)
    assert [own, third] == [told(run) for run in Layout(repeated(0, 3, 4)).runs[:2]]
    plain = yaml.safe_load(SMOKE.read_text()) | {"replicates": [0, 3]}
    plain["guides"]["vit"]["train"]["steps"] = 31
    changed = [told(run) for run in Layout(presets.validate(plain, SMOKE)).runs]
    stale = [{name for name in old if old[name] != new[name]} for old, new in zip((own, third), changed, strict=True)]
    assert stale == [{"models/vit"}] * 2


def test_what_comes_from_others_is_taken_once() -> None:
    own, other = Layout(repeated(0, 3, path=IMAGENET)).runs
    for name in ("diffusion", "resnet50", "evaluator"):
        assert other.model(name) == own.model(name)
    made = [(run, job.rule()) for run, job in jobs_of_all_runs(own)]
    assert {rule for run, rule in made if run == other}.isdisjoint({"download", "table", "figure", "study"})
    assert {stage for stage, jobs in by_stage(other).items() if jobs} == {"replicates"}
    imported = other.preset.methods["ppap_5"].model_copy(update={"imported": True})
    methods = {"methods": other.preset.methods | {"ppap_5": imported}}
    taken = Layout(other.preset.model_copy(update=methods))
    assert taken.experts("resnet50", "ppap_5") == own.experts("resnet50", "ppap_5")
    assert other.experts("resnet50", "ppap_5")[0].is_relative_to(other.root)


def test_a_dry_run_has_the_jobs_of_both_replicates(tmp_path: Path, preset_file) -> None:
    path = preset_file(replicates=[0, 3])
    done = snakemake(tmp_path, "--dry-run", preset=path)
    counts = dict(line.split() for line in done.stdout.splitlines() if re.fullmatch(r"\w+ +\d+", line))
    jobs = Counter(job.rule() for _, job in jobs_of_all_runs(Layout(presets.load(path))))
    assert {rule: int(counts[rule]) for rule in jobs} == jobs
    assert jobs["pretrain"] == 2 * 4 and jobs["study"] == jobs["table"] == 3
    assert "results/smoke/replicates/3/experts/resnet/ppap_5/expert_1.safetensors" in done.stdout


# -- tables ----------------------------------------------------------------------------------------


@pytest.fixture
def where(tmp_path: Path, preset_file) -> Path:
    """A folder with metrics of two replicates of the smoke preset, made up: `preset.yaml` is their preset."""
    layout = Layout(presets.load(preset_file(replicates=[0, 3])), tmp_path / "results")
    for number, run in enumerate(layout.runs):
        for place, row in enumerate(all_runs(layout.preset)):
            path = run.metrics(row.sampler, row.guide)
            content = json.loads(path.read_text()) if path.exists() else about(run, row)
            fid = 10 + place * (1 + number)
            content["methods"][row.method] = dict.fromkeys(
                ("is", "precision", "recall", "target_rate"), summarise([0.5, 0.5])
            )
            content["methods"][row.method]["fid"] = summarise([fid - 0.5, fid + 0.5])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
    return tmp_path


def about(run: Layout, row) -> dict:
    seeds = list(run.preset.sampling.seeds)
    return {"sampler": row.sampler, "guide": row.guide, "samples_per_seed": 20, "seeds": seeds, "methods": {}}


def test_tables_have_errors_over_replicates_and_paired_intervals(where: Path) -> None:
    """Row k of all has the FID 10 + k in one replicate and 10 + 2 k in the other."""
    ppap("study", "preset.yaml", "main", cwd=where)
    study = where / "results" / "smoke" / "study"
    preset = presets.load(where / "preset.yaml")
    means = pd.read_csv(study / "main.csv").set_index(["sampler", "guide", "method"])
    places = {tuple(run): place for place, run in enumerate(all_runs(preset))}
    for row, place in places.items():
        if row in means.index:
            assert means.loc[row, ["fid", "fid_error"]].tolist() == pytest.approx([10 + 1.5 * place, place / 2])
    asked = means.loc[[("ddim25", "resnet", method) for method in ("naive", "x0_gradient")], ASKED]
    assert asked.to_numpy().tolist() == [[5, 0, 5], [5, 5, 5]] and set(means["scale"].dropna()) == {4.0}
    assert means["fid_seeds"].tolist() == pytest.approx([0.5**0.5] * 9, abs=1e-5)
    pairs = pd.read_csv(study / "main_differences.csv")
    pair = pairs[(pairs["first"] == "naive") & (pairs["second"] == "ppap_5") & (pairs["first_guide"] == "resnet")]
    apart = places["ddim25", "resnet", "naive"] - places["ddim25", "resnet", "ppap_5"]
    half = 12.7062 * abs(apart) / 2  # t with one degree of freedom, and the standard error of apart and 2 apart
    wanted = [1.5 * apart, 1.5 * apart - half, 1.5 * apart + half]
    assert pair[["fid", "fid_low", "fid_high"]].to_numpy().tolist() == [pytest.approx(wanted, rel=1e-4)]
    unguided = pairs[(pairs["first"] == "none") & (pairs["second"] == "none")]
    assert unguided.empty and set(pairs["sampler"]) == {"ddim25"}
    elsewhere = pairs[pairs["second_sampler"] == "ddpm250"]
    assert set(elsewhere["first"]) == {preset.tables["main"][0].methods[0]} and len(elsewhere) == 1
    text = (study / "main.md").read_text()
    assert "over 2 replicates" in text and "| 10.00 ± 0.00 | 0.71 " in text


def test_a_job_reads_the_files_that_it_declares_and_no_undeclared_keys(where: Path) -> None:
    preset = presets.load(where / "preset.yaml")
    layout, job = Layout(preset, where / "results"), Study("main")
    made_of = {"clean_images.seed"}  # a replicate's preset is, whatever it is asked for
    assert undeclared(layout, run_jobs(layout, [job])) == {str(job): (made_of, set())}


def test_a_figure_over_replicates_is_drawn_beside_their_tables(where: Path, preset_file) -> None:
    row = {"guides": ["resnet"], "samplers": ["ddim25"], "methods": ["naive", "ppap_5"]}
    preset = presets.load(preset_file(replicates=[0, 3], tables__scales=[row]))
    layout = Layout(preset, where / "results")
    assert [job.figure for job in StudyFigure.jobs(layout)] == ["scales", "tradeoff"]
    assert not {"scales", "tradeoff"} & {job.figure for job in Figure.jobs(layout)}
    made_of = {"clean_images.seed"}
    for job in StudyFigure.jobs(layout):
        assert undeclared(layout, run_jobs(layout, [job])) == {str(job): (made_of, set())}
        assert all(path.is_file() and path.parent == layout.root / "study" for path in job.outputs(layout))


def test_published_are_the_study_and_every_replicates_metrics(where: Path) -> None:
    preset = presets.load(where / "preset.yaml")
    layout = Layout(preset, where / "results")
    for name in preset.tables:
        ppap("study", "preset.yaml", name, cwd=where)
    for path in (path for job in StudyFigure.jobs(layout) for path in job.outputs(layout)):
        path.touch()
    ppap("publish", "preset.yaml", cwd=where)
    published = where / "published" / "smoke"
    made = {path.relative_to(layout.root) for path in layout.root.rglob("*") if path.is_file()}
    assert {path.relative_to(published) for path in published.rglob("*") if path.is_file()} == made
    assert Path("replicates/3/metrics/ddim25/resnet.json") in made and Path("study/main.md") in made
    table = layout.table("main", "csv", "study")
    table.write_text(table.read_text().replace("naive", "none", 1))
    assert "study/main.csv: older than the metrics" in refused("publish", "preset.yaml", cwd=where)


# -- slips -----------------------------------------------------------------------------------------


def lose(path: Path) -> None:
    path.unlink()


def take_another_presets(path: Path) -> None:
    path.write_text(path.read_text().replace('"samples_per_seed": 20', '"samples_per_seed": 500'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose, "replicate 3 has no naive yet; snakemake --config preset=smoke -- replicates"),
        (take_another_presets, "of samples_per_seed 500, not 20"),
    ],
)
def test_a_replicate_without_results_or_with_those_of_another_preset_is_named(where: Path, damage, message) -> None:
    path = Path("results/smoke/replicates/3/metrics/ddim25/resnet.json")
    damage(where / path)
    assert refused("study", "preset.yaml", "main", cwd=where).startswith(f"ppap: {path}: {message}")


def test_a_replicate_that_a_preset_has_not_is_refused(where: Path) -> None:
    line = refused("--replicate", 7, "metrics", "preset.yaml", "ddim25", "resnet", cwd=where)
    assert line == "ppap: replicates: preset smoke has no 7 (it has 0, 3)"
    assert refused("--replicate", 3, "publish", "preset.yaml", cwd=where).startswith("ppap: --replicate: ")
    assert refused("study", SMOKE, "main", cwd=where) == "ppap: preset smoke has no `replicates`"


def test_a_replicate_opens_in_python(where: Path) -> None:
    path, results = where / "preset.yaml", where / "results"
    assert open_run(path, results, 3).layout.root == results / "smoke" / "replicates" / "3"
    assert open_run(path, results, 0).layout == open_run(path, results).layout
