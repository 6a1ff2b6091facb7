"""`ppap publish`: finished results go to published/ and into the README, whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ppap.config import reading as presets
from ppap.config.runs import all_runs
from ppap.evaluation.metrics import summarise
from ppap.workflow.layout import Layout
from ppap.workflow.steps.figure import Figure
from tests.conftest import SMOKE, ppap, refused

LAYOUT = Layout(presets.load(SMOKE))
BEGIN = "<!-- published/smoke/tables/main.md: begin -->"
END = "<!-- published/smoke/tables/main.md: end -->"
EXCERPT = "<!-- published/smoke/tables/main.md guide=resnet sampler=ddim25 Guidance | FID ↓ | Supervision: begin -->"


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """A folder with results of the smoke preset, their values made up, and a README."""
    by_file: dict[Path, dict] = {}
    for number, run in enumerate(all_runs(LAYOUT.preset)):
        values = summarise([0.5 + number / 100, 0.51 + number / 100])
        row = dict.fromkeys(("fid", "is", "precision", "recall"), values)
        about = {"sampler": run.sampler, "guide": run.guide, "samples_per_seed": 20}
        about |= {"seeds": [1, 2], "methods": {}}
        path = tmp_path / LAYOUT.metrics(run.sampler, run.guide)
        by_file.setdefault(path, about)["methods"][run.method] = row
    for path, content in by_file.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    tabulate(tmp_path)
    for job in Figure.jobs(LAYOUT):
        for path in (tmp_path / output for output in job.outputs(LAYOUT)):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(job.figure.encode())
    (tmp_path / "README.md").write_text(f"# Title\n\n{BEGIN}\n{END}\n\nThe end: π.\n", "utf-8")
    return tmp_path


def tabulate(where: Path) -> None:
    for name in LAYOUT.preset.tables:
        ppap("table", SMOKE, name, cwd=where)


def snapshot(where: Path) -> dict[Path, tuple[bytes, int]]:
    """Contents and times of all that may be published."""
    paths = [where / "README.md", *(where / "published").rglob("*")]
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in paths if p.is_file()}


def test_tables_figures_and_metrics_are_published_and_the_readme_renewed(where: Path) -> None:
    printed = ppap("publish", SMOKE, cwd=where).stdout
    published, made = where / "published" / "smoke", where / "results" / "smoke"
    new = {p.relative_to(published) for p in published.rglob("*") if p.is_file()}
    assert new == {p.relative_to(made) for p in made.rglob("*") if p.is_file()}
    assert all((published / p).read_bytes() == (made / p).read_bytes() for p in new)
    assert set(printed.split()) == {"README.md", *(f"published/smoke/{p}" for p in new)}
    title, table, end = (where / "README.md").read_text("utf-8").partition(BEGIN + "\n\n| Guide")
    assert title == "# Title\n\n" and end.endswith(f"{END}\n\nThe end: π.\n")
    shown = (table + end).split(BEGIN)[1].split(END)[0].strip()
    assert shown == (published / "tables" / "main.md").read_text().partition("\n\n")[2].strip()


def test_the_readme_can_ask_for_the_rows_of_a_guide_and_sampler_and_for_some_columns(where: Path) -> None:
    (where / "README.md").write_text(f"{BEGIN}\n{END}\nShort:\n{EXCERPT}\nold\n{END}\n", "utf-8")
    ppap("publish", SMOKE, cwd=where)
    whole, _, short = (where / "README.md").read_text("utf-8").partition("Short:\n")
    rows = [row for row in cells(whole) if row[0].startswith("resnet") and row[1] == "DDIM-25"]
    assert 1 < len(rows) < len(cells(whole)) - 2
    assert short.startswith(f"{EXCERPT}\n\n| Guidance") and short.endswith(f"|\n\n{END}\n")
    assert cells(short)[2:] == [[row[2], row[7], row[4]] for row in rows]
    change_metrics(where)
    tabulate(where)
    assert "README.md" in ppap("publish", SMOKE, cwd=where).stdout
    assert (where / "README.md").read_text("utf-8").count("77.00 ± 0.01") == 2


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_new_results_replace_what_was_published_of_old_ones(where: Path) -> None:
    ppap("publish", SMOKE, cwd=where)
    before = snapshot(where)
    assert "nothing to renew" in ppap("publish", SMOKE, cwd=where).stdout
    assert snapshot(where) == before
    old = where / "published" / "smoke" / "tables" / "of_another_preset.md"
    old.write_text("an old table")
    change_metrics(where)
    tabulate(where)
    printed = ppap("publish", SMOKE, cwd=where).stdout
    assert not old.exists() and "of_another_preset.md" in printed
    assert "README.md" in printed and "figures" not in printed
    assert "77.00 ± 0.01" in (where / "README.md").read_text("utf-8")


def change_metrics(where: Path) -> None:
    path = where / LAYOUT.metrics("ddim25", "resnet")
    content = json.loads(path.read_text())
    content["methods"]["naive"]["fid"] = summarise([76.99, 77.01])
    path.write_text(json.dumps(content))


def lose_figure(where: Path) -> None:
    (where / LAYOUT.figure("metrics")).unlink()


def show(old: str, new: str) -> Callable[[Path], object]:
    """Have the README ask for something else."""
    text = (EXCERPT + END).replace(old, new)
    return lambda where: (where / "README.md").write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_figure, "results/smoke/figures/metrics.png: not computed yet"),
        (change_metrics, "results/smoke/tables/main.json: older than the metrics"),
        (show("main", "mian"), "README.md: published/smoke/tables/mian.md is shown"),
        (
            show("resnet", "restnet"),
            "README.md: published/smoke/tables/main.md has no rows of guide restnet, sampler ddim25",
        ),
    ],
)
def test_incomplete_results_change_nothing(where: Path, damage, message: str) -> None:
    ppap("publish", SMOKE, cwd=where)
    damage(where)
    before = snapshot(where)
    assert refused("publish", SMOKE, cwd=where).startswith(f"ppap: {message}")
    assert snapshot(where) == before
