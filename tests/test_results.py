"""The published results of the digits preset: complete, the same in the README, and as docs/results.md says."""

from shutil import copytree

import pandas as pd
import pytest

from ppap.preset import UNGUIDED
from ppap.preset.runs import Run
from ppap.report.tables import method_title
from ppap.results import compare
from tests.conftest import DIGITS, ROOT, ppap

PUBLISHED = ROOT / "published" / "digits"
FAILING = ("naive", "x0_gradient")
HELPING = ("single_noise_aware", "multi_experts_5", "ppap_5", "ppap_10")
PAIRS = [(guide, sampler) for guide in ("resnet", "vit") for sampler in ("ddim25", "ddpm250")]
NOISE = 2  # spreads, which a difference that docs/results.md speaks of exceeds


def test_the_main_table_has_28_complete_rows() -> None:
    frame = pd.read_csv(PUBLISHED / "tables" / "main.csv")
    assert len(frame) == 28
    assert (
        frame[["fid", "fid_std", "is", "precision", "recall", "paper_fid"]].notna().all(axis=None)
    )
    assert frame.loc[frame["method"] != "none", "target_rate"].between(0, 1).all()
    trained = frame["method"].isin(HELPING)
    assert frame.loc[trained, "steps"].notna().all()
    assert frame.groupby("guide")["steps"].nunique().eq(1).all()


def test_what_is_published_is_whole_and_the_readme_shows_seven_of_its_rows(tmp_path) -> None:
    """Publishing the published files again, in a copy, changes nothing."""
    copy = tmp_path / "published" / "digits"
    copytree(PUBLISHED, copy)
    copytree(PUBLISHED, tmp_path / "results" / "digits")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, shown = readme.partition("<!-- published/digits/tables/main.md resnet ddim25 Guidance")
    shown, _, below = shown.partition("<!-- published/digits/tables/main.md: end -->")
    rows = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert rows == ["Guidance", *(method_title(name) for name in ("none", *FAILING, *HELPING))]
    seeds = "3 sampling seeds of 500 samples each"
    assert seeds in " ".join(below.split()) and seeds in (PUBLISHED / "tables/main.md").read_text()
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    assert "nothing to renew" in ppap("publish", DIGITS, cwd=tmp_path).stdout


@pytest.fixture(scope="module")
def spreads():
    """How far a row lies above another, in spreads of both: a function of pair, methods and metric."""
    found = compare.read(PUBLISHED)
    relative = compare.relative_spreads(found)

    def row(pair: tuple[str, str], method: str) -> compare.Row:
        guide, sampler = pair
        return found.rows[Run(sampler, UNGUIDED if method == "none" else guide, method)]

    def difference(pair: tuple[str, str], first: str, second: str, metric: str) -> float:
        differences = compare.differences(row(pair, first), row(pair, second), relative)
        return next(d.spreads for d in differences if d.metric == metric)

    return difference


@pytest.mark.parametrize("pair", PAIRS)
def test_what_docs_results_claims_is_beyond_the_noise(pair: tuple[str, str], spreads) -> None:
    for failing in FAILING:
        assert spreads(pair, failing, "none", "fid") > NOISE
        assert spreads(pair, failing, "none", "is") < -NOISE
    for helping in HELPING:
        assert spreads(pair, helping, "none", "fid") < -NOISE
        assert spreads(pair, helping, "none", "is") > NOISE
    if pair == ("vit", "ddim25"):
        for ours in ("ppap_5", "ppap_10"):
            assert spreads(pair, ours, "single_noise_aware", "is") < -NOISE
            assert spreads(pair, ours, "single_noise_aware", "target_rate") < -NOISE


@pytest.mark.parametrize("pair", PAIRS)
def test_what_docs_results_calls_a_tie_is_within_the_noise(pair: tuple[str, str], spreads) -> None:
    ties = [("multi_experts_5", "single_noise_aware")]
    if pair != ("vit", "ddim25"):
        ties += [("ppap_5", "single_noise_aware"), ("ppap_5", "multi_experts_5")]
    for first, second in ties:
        for metric in ("fid", "is", "target_rate"):
            assert abs(spreads(pair, first, second, metric)) < NOISE
