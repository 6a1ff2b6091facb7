"""`ppap compare`: two result folders, row by row, in units of the spread of both."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppap.config.runs import Run
from ppap.evaluation.metrics import summarise
from ppap.report import compare
from ppap.report.compare import LIMIT, Results, Value
from tests.conftest import ROOT, SMOKE, ppap, refused

PUBLISHED = ROOT / "published" / "digits"
USUAL = {"fid": (2.0, 0.2), "is": (9.0, 0.1), "precision": (0.7, 0.02), "recall": (0.9, 0.02)}
METHODS = ("naive", "x0_gradient", "single_noise_aware", "ppap_5", "ppap_10")


def write(folder: Path, samples: int = 500, **changes: dict[str, tuple[float, float | None]]) -> Path:
    """A folder with the metrics of five rows; of those named, some are others: (mean, std)."""
    rows = {method: USUAL | changes.get(method, {}) for method in METHODS}
    metrics = {method: {name: summarise(values(*value)) for name, value in row.items()} for method, row in rows.items()}
    seeds = list(range(len(metrics["naive"]["fid"]["values"])))
    about = {"sampler": "ddim25", "guide": "resnet", "samples_per_seed": samples, "seeds": seeds}
    path = folder / "metrics" / "ddim25" / "resnet.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(about | {"methods": metrics}))
    return folder


def values(mean: float, std: float | None) -> list[float]:
    """Two values with this mean and standard deviation; one without a standard deviation."""
    return [mean] if std is None else [mean - std / 2**0.5, mean + std / 2**0.5]


def closing(*arguments: object, **options: Any) -> str:
    return ppap("compare", *arguments, **options).stdout.splitlines()[-1]


def test_results_agree_with_themselves() -> None:
    assert closing(PUBLISHED, PUBLISHED) == f"38 of 38 rows agree with {PUBLISHED}; no difference"
    assert ppap("compare", PUBLISHED, PUBLISHED, "--strict").returncode == 0


def test_a_row_beyond_its_error_bars_is_named_and_fails_only_if_asked_to(tmp_path: Path) -> None:
    write(tmp_path / "a", ppap_10={"fid": (4.0, 0.3)})
    write(tmp_path / "b")
    done = ppap("compare", "a", "b", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[-2] == "differs: PPAP-10, resnet, DDIM-25: FID 4.00 instead of 2.00 (+4.5 spreads)"
    assert lines[-1] == ("4 of 5 rows agree with b; largest difference 4.5 spreads: PPAP-10, resnet, DDIM-25, FID")
    assert [line for line in lines if line.rstrip().count("!")] == [
        line for line in lines if "PPAP-10" in line and "+4.5 !" in line
    ]
    assert ppap("compare", "a", "b", "--strict", cwd=tmp_path, check=False).returncode == 1


def test_neither_a_spread_that_is_small_by_luck_nor_rounding_makes_a_row_differ(tmp_path: Path) -> None:
    write(tmp_path / "a", naive={"is": (9.1, 0.001)})
    write(tmp_path / "b", naive={"is": (9.0, 0.001)})
    assert "5 of 5 rows agree" in closing("a", "b", cwd=tmp_path)
    same = {method: {name: (mean, 1e-12) for name, (mean, _) in USUAL.items()} for method in METHODS}
    write(tmp_path / "c", **same)
    write(tmp_path / "d", **same | {"naive": {**same["naive"], "fid": (2.000001, 1e-12)}})
    assert "5 of 5 rows agree" in closing("c", "d", cwd=tmp_path)


def test_rows_of_one_side_only_are_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a") / "metrics" / "ddim25" / "resnet.json"
    write(tmp_path / "b")
    content = json.loads(path.read_text())
    del content["methods"]["ppap_5"]
    path.write_text(json.dumps(content))
    for order in (("a", "b"), ("b", "a")):
        done = ppap("compare", *order, cwd=tmp_path)
        assert "missing in a: PPAP-5, resnet, DDIM-25" in done.stdout
        assert "4 of 4 rows agree" in done.stdout
        assert ppap("compare", *order, "--strict", cwd=tmp_path, check=False).returncode == 1


def test_programs_and_pages_get_the_same_comparison(tmp_path: Path) -> None:
    write(tmp_path / "a", ppap_10={"fid": (4.0, 0.3)})
    write(tmp_path / "b")
    shown = json.loads(ppap("compare", "a", "b", "--format", "json", cwd=tmp_path).stdout)
    assert shown["summary"] == closing("a", "b", cwd=tmp_path)
    assert not shown["agrees"] and shown["limit"] == LIMIT
    differing = [row for row in shown["rows"] if not row["agrees"]]
    assert [(row["guide"], row["sampler"], row["method"]) for row in differing] == [("resnet", "ddim25", "ppap_10")]
    fid = differing[0]["metrics"]["fid"]
    assert [fid[side]["mean"] for side in ("first", "second")] == pytest.approx([4, 2])
    assert fid["spreads"] > LIMIT
    page = ppap("compare", "a", "b", "--format", "markdown", cwd=tmp_path).stdout
    assert f"**{shown['summary']}**" in page and "- differs: PPAP-10" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 5 and len({line.count("|") for line in table}) == 1


def test_one_sampling_seed_takes_the_other_side_s_spread_or_an_assumed_one(tmp_path: Path) -> None:
    alone = {method: {name: (mean, None) for name, (mean, _) in USUAL.items()} for method in METHODS}
    write(tmp_path / "a", **alone | {"naive": {**alone["naive"], "fid": (2.5, None)}})
    write(tmp_path / "b", **alone)
    write(tmp_path / "c", samples=10_000)
    both = ppap("compare", "a", "b", cwd=tmp_path).stdout
    assert "a spread of 2% is assumed" in both and "4 of 5 rows agree" in both
    one = ppap("compare", "a", "c", cwd=tmp_path).stdout
    assert "assumed" not in one and "5 of 5 rows agree" in one
    assert "500 samples a seed in a, 10,000 in c: FID depends on their number." in one


def test_names_are_those_of_presets_results_and_what_is_published(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    for name in ("digits", "mine"):
        write(tmp_path / "results" / name)
        write(tmp_path / "published" / name)
        assert "5 of 5 rows agree with the published table" in closing(name, cwd=tmp_path)
    for order in (("digits", "published/digits"), ("mine", "digits")):
        assert "5 of 5 rows agree" in closing(*order, cwd=tmp_path)


def test_nothing_published_is_an_error_unless_it_may_be(tmp_path: Path) -> None:
    write(tmp_path / "results" / "smoke")
    assert "published/smoke: nothing is published" in refused("compare", SMOKE, cwd=tmp_path)
    quiet = ppap("compare", SMOKE, "--if-published", cwd=tmp_path)
    assert not quiet.stdout + quiet.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no results"),
        ('{"sampler": "ddim25", "guide": "resnet", "samples_per_seed": 500, "seeds": [1], "methods": '
         '{"naive": {"fid": {"mean": 1.0, "std": null, "values": [1.0]}}}}', "naive has fid"),
    ],
)  # fmt: skip
def test_damaged_metrics_are_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    write(tmp_path / "b")
    path = tmp_path / "a" / "metrics" / "ddim25" / "resnet.json"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_text(content)
    assert message in refused("compare", "a", "b", cwd=tmp_path)


def test_what_cannot_be_compared_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a")
    other = write(tmp_path / "b") / "metrics" / "ddim25" / "resnet.json"
    other.write_text(other.read_text().replace('"resnet"', '"vit"'))
    assert "a and b have no row in common" in refused("compare", "a", "b", cwd=tmp_path)
    line = refused("compare", "a", "nothing", cwd=tmp_path)
    assert "nothing: neither a folder of results nor a preset" in line


VALUES = st.builds(lambda mean, std: Value(mean=mean, std=std), st.floats(0, 100), st.none() | st.floats(0, 10))
ROWS = st.fixed_dictionaries(dict.fromkeys(USUAL, VALUES))
SIDES = st.dictionaries(st.sampled_from([Run("s", "g", m) for m in METHODS]), ROWS, min_size=5)


@settings(max_examples=50, deadline=None)
@given(first=SIDES, second=SIDES)
def test_sides_may_change_places(first: dict, second: dict) -> None:
    there = compare.compare(Results("a", first), Results("b", second))
    back = compare.compare(Results("b", second), Results("a", first))
    assert there.differing.keys() == back.differing.keys()
    for run, row in there.rows.items():
        assert [d.spreads for d in row] == pytest.approx([-d.spreads for d in back.rows[run]])
