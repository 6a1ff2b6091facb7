"""The workflow under the real DVC: what is stale, where artifacts go, metrics, plots and parameters."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from ppap.config import reading as presets
from ppap.workflow.layout import Layout
from ppap.workflow.stages import STAGES, by_stage
from ppap.workflow.steps import STEPS
from tests.conftest import ROOT, SMOKE, SMOKE_TASKS
from tests.repository import Repository

# `finished` is a repository in which `dvc repro` has built the smoke preset (tests/conftest.py).

DVC_STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
EXPERT_STEPS = "config/smoke.yaml:guides.resnet.experts.steps"


def test_dvc_and_snakemake_agree_that_all_is_up_to_date(finished: Repository) -> None:
    assert (finished.results / "tables" / "main.md").exists()
    assert "Nothing to be done" in finished.snakemake("--dry-run").stdout
    assert "up to date" in finished.run("dvc", "status").stdout
    again = finished.run("dvc", "repro")
    assert "up to date" in again.stdout + again.stderr and "Running" not in again.stdout


def test_a_second_clone_gets_every_artifact_and_has_nothing_to_do(untouched: Repository, tmp_path: Path) -> None:
    untouched.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    untouched.commit("remote")
    untouched.run("dvc", "push")
    untouched.run("git", "clone", "-q", str(untouched.where), str(tmp_path / "second"))
    second = Repository(tmp_path / "second")
    # the environment is there already
    second.run("make", "--assume-old=install", "pull", "PRESET=smoke")
    assert "Nothing to be done" in second.snakemake("--dry-run").stdout
    assert "up to date" in second.run("dvc", "status").stdout
    kinds = ("models", "clean", "labels", "experts", "samples", "features", "archives")
    kinds += ("metrics", "tables", "figures", "pdf")
    for kind in kinds:
        made = {p.relative_to(untouched.results) for p in (untouched.results / kind).rglob("*.*")}
        pulled = {p.relative_to(second.results) for p in (second.results / kind).rglob("*.*")}
        assert made and made == pulled


def test_a_run_leaves_git_and_what_is_published_alone(untouched: Repository) -> None:
    """Published results are renewed by a command of its own; then `ppap compare` finds them again."""
    untouched.snakemake()
    assert not untouched.run("git", "status", "--short").stdout
    untouched.run("make", "--assume-old=install", "publish", "PRESET=smoke")
    published = untouched.where / "published" / "smoke"
    kinds = {path.name for path in published.iterdir()}
    assert kinds == {"figures", "metrics", "pdf", "tables"}
    untouched.commit("published")
    quiet = ["--no-print-directory", "--assume-old=install"]
    done = untouched.run("make", *quiet, "tables", "PRESET=smoke")
    assert done.stdout.endswith(" rows agree with the published table; no difference\n")
    assert not untouched.run("git", "status", "--short").stdout


@pytest.fixture(scope="module")
def retrained(finished: Repository, tmp_path_factory) -> tuple[Repository, str]:
    """After `dvc exp run` with more expert steps, and what it printed."""
    where = tmp_path_factory.mktemp("retrained") / "ppap"
    repository = Repository(Path(shutil.copytree(finished.where, where, symlinks=True)))
    done = repository.run("dvc", "exp", "run", "-S", f"{EXPERT_STEPS}=60")
    return repository, done.stdout + done.stderr


def test_a_changed_training_parameter_reruns_what_depends_on_it_and_no_more(retrained) -> None:
    repository, printed = retrained
    ran = {stage for stage in DVC_STAGES if f"Running stage '{stage}'" in printed}
    assert ran == {"stages", "experts", "samples", "evaluation", "tables", "replicates"}
    assert "Nothing to be done" in repository.snakemake("--dry-run").stdout
    assert "up to date" in repository.run("dvc", "status").stdout


def test_metrics_params_and_plots_are_what_a_dvc_user_expects(retrained) -> None:
    repository, _ = retrained
    shown = json.loads(repository.run("dvc", "metrics", "show", "--json").stdout)
    metrics = shown[""]["data"]["results/smoke/tables/main.json"]["data"]
    assert metrics["resnet"]["ddim25"]["ppap_5"]["fid"] > 0
    moved = json.loads(repository.run("dvc", "metrics", "diff", "--json").stdout)
    changed = moved["results/smoke/tables/main.json"]
    assert any(key.startswith("resnet.ddim25.ppap_5") for key in changed)
    assert not any(key.startswith("resnet.ddim25.naive") for key in changed)
    params = json.loads(repository.run("dvc", "params", "diff", "--json").stdout)
    assert params == {"config/smoke.yaml": {"guides.resnet.experts.steps": {"old": 40, "new": 60, "diff": 20}}}
    repository.run("dvc", "plots", "show", "--out", "plots")
    page = (repository.where / "plots" / "index.html").read_text()
    assert "Inception Score against FID" in page and "metrics.png" in page


def test_what_snakemake_remade_is_committed_to_dvc(untouched: Repository) -> None:
    preset = untouched.where / "config" / "smoke.yaml"
    text = preset.read_text().replace("target_class: 3", "target_class: 4")
    preset.write_text(text)
    untouched.snakemake()
    assert "up to date" not in untouched.run("dvc", "status").stdout
    untouched.run("ppap", "config", "stages", "smoke")
    untouched.run("dvc", "commit", "--force")
    assert "up to date" in untouched.run("dvc", "status").stdout
    assert "Nothing to be done" in untouched.snakemake("--dry-run").stdout


PRESETS = [
    SMOKE,
    SMOKE_TASKS,
    *(ROOT / "config" / f"{name}.yaml" for name in ("digits", "imagenet256", "cifar10", "glide")),
]


@pytest.fixture(scope="module", params=PRESETS, ids=lambda path: path.stem)
def layout(request: pytest.FixtureRequest) -> Layout:
    return with_replicate(request.param)


def with_replicate(path: Path) -> Layout:
    preset = presets.load(path)
    return Layout(preset.model_copy(update={"replicates": (preset.seed, 99)}))


def in_stage(path: Path, layout: Layout) -> str:
    """A file of results, as dvc.yaml names it."""
    return f"results/${{preset}}/{path.relative_to(layout.root)}"


def snakemake_of(stage: str) -> str:
    """The command of a stage that runs the jobs, its last."""
    commands = DVC_STAGES[stage]["cmd"]
    return commands if isinstance(commands, str) else commands[-1]


def test_there_is_a_stage_for_each_of_the_workflows() -> None:
    assert list(DVC_STAGES) == ["stages", *STAGES]
    for stage, folders in STAGES.items():
        assert DVC_STAGES[stage]["outs"] == [f"results/${{preset}}/{folder}" for folder in folders]
        assert snakemake_of(stage).split()[-2:] == ["--", stage]


def test_stages_allow_the_rules_of_their_steps_and_no_others() -> None:
    """Those of any preset: a stage is the steps that write to its folders, and the rule of its own name."""
    written: dict[str, set[str]] = {stage: {stage} for stage in STAGES}
    for path in [*PRESETS, ROOT / "config" / "latents.yaml"]:
        for stage, jobs in by_stage(with_replicate(path)).items():
            written[stage] |= {job.rule() for _, job in jobs}
    for stage, rules in written.items():
        allowed = snakemake_of(stage).split("--allowed-rules ")[1].split(" -- ")[0].split()
        assert set(allowed) == rules and len(allowed) == len(rules)
    assert set().union(*written.values()) - {*STAGES} == {step.rule() for step in STEPS}


def test_stages_that_may_have_no_jobs_make_their_folders_themselves() -> None:
    """DVC asks for each folder, also where an evaluator has no file and no row has experts."""
    plain = yaml.safe_load(SMOKE.read_text())
    row = {"guides": ["resnet"], "samplers": ["ddim25"], "methods": ["naive"]}
    plain |= {"evaluator": {"kind": "user:judge.Judge"}, "tables": {"main": [row]}}
    least = by_stage(Layout(presets.validate(plain, SMOKE)))
    makers = {
        stage: [f"mkdir -p 'results/${{preset}}/{folder}'" for folder in STAGES[stage]]
        for stage, jobs in least.items()
        if not jobs
    }
    assert makers.keys() == {"judges", "labels", "experts", "replicates"}
    assert all(DVC_STAGES[stage]["cmd"][:-1] == made for stage, made in makers.items())


def test_a_stage_waits_for_all_that_its_jobs_read(layout: Layout) -> None:
    for stage, jobs in by_stage(layout).items():
        made = {path for run, job in jobs for path in job.outputs(run)}
        read = {path for run, job in jobs for path in job.inputs(run)} - made
        read -= {*layout.dataset}  # which a stage before `judges` has downloaded for all
        deps = DVC_STAGES[stage]["deps"]
        for path in (*read, layout.stage(stage)):
            named = in_stage(path, layout)
            assert any(named == dep or named.startswith(f"{dep}/") for dep in deps), (stage, path)
