"""The published results: complete, the same in the README, and as docs/results.md says."""

import itertools
import math
from collections.abc import Callable, Sequence
from shutil import copytree

import pandas as pd
import pytest

from ppap.report import compare
from ppap.report.titles import method_title
from tests.conftest import DIGITS, ROOT, ppap

PUBLISHED = ROOT / "published" / "digits"
FAILING = ("naive", "x0_gradient")
HELPING = ("single_noise_aware", "multi_experts_5", "ppap_5", "ppap_10")
PAIRS = [(guide, sampler) for guide in ("resnet", "vit") for sampler in ("ddim25", "ddpm250")]
NOISE = 2  # spreads, which a difference that docs/results.md speaks of exceeds


def test_the_main_table_has_28_complete_rows() -> None:
    frame = pd.read_csv(PUBLISHED / "tables" / "main.csv")
    assert len(frame) == 28
    assert frame[["fid", "fid_std", "is", "precision", "recall", "paper_fid"]].notna().all(axis=None)
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
    _, _, shown = readme.partition("<!-- published/digits/tables/main.md guide=resnet sampler=ddim25 Guidance")
    shown, _, below = shown.partition("<!-- published/digits/tables/main.md: end -->")
    rows = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert rows == ["Guidance", *(method_title(name) for name in ("none", *FAILING, *HELPING))]
    seeds = "3 sampling seeds of 500 samples each"
    assert seeds in " ".join(below.split()) and seeds in (PUBLISHED / "tables/main.md").read_text()
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    assert "nothing to renew" in ppap("publish", DIGITS, cwd=tmp_path).stdout


Row = tuple[str, str, str]
"""Guide, sampler and method."""
Between = Callable[[Row, Row, str], float]
"""How far the first row lies above the second in a metric, in spreads of both."""


def between(preset: str) -> Between:
    """The differences of rows in all tables of a preset."""
    folder = ROOT / "published" / preset
    frame = pd.concat(map(pd.read_csv, sorted(folder.glob("tables/*.csv"))))
    rows = {(r["guide"], r["sampler"], r["method"]): r for r in frame.to_dict("records")}
    relative = compare.relative_spreads(compare.read(folder))

    def value(row: Row, metric: str) -> compare.Row:
        mean, std = rows[row][metric], rows[row][f"{metric}_std"]
        return {metric: compare.Value(mean=mean, std=std)}

    def difference(first: Row, second: Row, metric: str) -> float:
        return compare.differences(value(first, metric), value(second, metric), relative)[0].spreads

    return difference


@pytest.fixture(scope="module")
def spreads() -> Callable[..., float]:
    """How far one method lies above another in `digits`, in spreads of both: of a pair, methods and a metric."""
    digits = between("digits")
    return lambda pair, first, second, metric: digits((*pair, first), (*pair, second), metric)


def target_rate(pair: tuple[str, str], method: str) -> float:
    frame = pd.read_csv(PUBLISHED / "tables" / "main.csv").set_index(["guide", "sampler", "method"])
    return float(frame.loc[(*pair, method), "target_rate"])


@pytest.mark.parametrize("pair", PAIRS)
def test_what_docs_results_claims_is_beyond_the_noise(pair: tuple[str, str], spreads) -> None:
    for failing in FAILING:
        assert spreads(pair, failing, "none", "fid") > NOISE
        assert spreads(pair, failing, "none", "is") < -NOISE
    for helping in HELPING:
        assert spreads(pair, helping, "none", "fid") < -NOISE
        assert spreads(pair, helping, "none", "is") > NOISE
    if pair[1] == "ddpm250":
        assert target_rate(pair, "x0_gradient") > 0.5
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
    assert spreads(pair, "multi_experts_5", "single_noise_aware", "is") > 0
    assert abs(spreads(pair, "ppap_10", "ppap_5", "fid")) < NOISE


def test_the_paper_is_as_docs_results_says() -> None:
    frame = pd.read_csv(PUBLISHED / "tables" / "main.csv")
    fid = frame.pivot(index=["guide", "sampler"], columns="method", values="paper_fid")
    assert (fid["single_noise_aware"] > fid["none"]).sum() == 3
    without = fid[["none", "naive", "x0_gradient"]].min(axis=1)
    assert (fid[["multi_experts_5", "ppap_5", "ppap_10"]].max(axis=1) < without).all()
    assert (fid["multi_experts_5"] < 0.7 * fid["single_noise_aware"]).all()
    assert ((fid["naive"] - fid["none"]).abs() < 0.1 * fid["none"]).all()


def test_digits_tables_of_sizes_are_as_docs_results_says() -> None:
    digits = between("digits")

    def beside_a_large_single_model(guide: str, method: str) -> float:
        return digits((guide, "ddim25", method), ("resnet_large", "ddim25", "single_noise_aware"), "fid")

    assert beside_a_large_single_model("resnet_small", "multi_experts_5") > -NOISE
    assert abs(beside_a_large_single_model("resnet", "single_noise_aware")) < NOISE
    assert max(beside_a_large_single_model(guide, "ppap_5") for guide in ("resnet_large", "resnet")) < NOISE
    assert beside_a_large_single_model("resnet_large", "naive") > NOISE
    frame = pd.read_csv(PUBLISHED / "tables" / "main.csv")
    assert (frame.loc[frame["method"] == "ppap_5", "trainable_share"] / 5).between(0.15, 0.25).all()


# -- shapes: sentences of docs/results.md, and what each asks of the tables ---------------------------

SCALES = ("ddim25_third", "ddim25", "ddim25_triple")
TRAINED = ("single_noise_aware", "multi_experts_5", "ppap_5")
BETTER = {"class": ("target_rate", 1), "depth": ("abs_rel", -1), "segmentation": ("miou", 1)}
Shapes = Callable[[str, str, str, str, str], float]
ALL, DENSE, CLASS, DEPTH, LABELS = ([*BETTER], ["depth", "segmentation"], ["class"], ["depth"], ["segmentation"])
MAIN, SMALLER, LARGEST = ["ddim25"], SCALES[:2], SCALES[2:]
ONE, FIVE, PPAP, NONE = ["single_noise_aware"], ["multi_experts_5"], ["ppap_5"], ["none"]
ABOVE, BELOW, TIE = (NOISE, math.inf), (-math.inf, -NOISE), (-NOISE, NOISE)
NO_WORSE, LESS, MORE = (-math.inf, NOISE), (-math.inf, 0), (0, math.inf)

Claim = tuple[Sequence[str], Sequence[str], Sequence[str], Sequence[str], str, tuple[float, float]]
"""Of all these guides and scales: how far all of the first methods lie above all of the second ones in a metric."""
CLAIMS: dict[str, list[Claim]] = {
    "At every scale of the table, naive and x0-gradient guidance make FID worse than no guidance.": [
        (ALL, SCALES, FAILING, NONE, "fid", ABOVE)],
    "At the scale of the main table they also miss the targets of depth and labels by more than chance does.": [
        (DENSE, MAIN, FAILING, NONE, "score", BELOW)],
    "For depth and for labels, a single model, five supervised experts and PPAP-5 all have better scores than no "
    "guidance, and none has a worse FID; for labels, FID is better than without guidance.": [
        (DENSE, MAIN, TRAINED, NONE, "score", ABOVE), (DENSE, MAIN, TRAINED, NONE, "fid", NO_WORSE),
        (LABELS, MAIN, TRAINED, NONE, "fid", BELOW)],
    "For depth and for labels its scores tie with those of five supervised experts; for depth they are better than those "
    "of a single model, and for labels its FID is better than that of the five.": [
        (DENSE, MAIN, PPAP, FIVE, "score", TIE), (DEPTH, MAIN, PPAP, ONE, "score", ABOVE),
        (LABELS, MAIN, PPAP, FIVE, "fid", BELOW)],
    "for depth and for labels, five supervised experts have better scores than a single model.": [
        (DENSE, MAIN, FIVE, ONE, "score", ABOVE)],
    "For classes, PPAP-5 raises the rate of the target class, at a FID that ties with that of no guidance.": [
        (CLASS, MAIN, PPAP, NONE, "score", ABOVE), (CLASS, MAIN, PPAP, NONE, "fid", TIE)],
    "Five supervised experts tie with one in FID in every task at the scale of the main table, and for classes in the "
    "rate of the target class.": [
        (ALL, MAIN, FIVE, ONE, "fid", TIE), (CLASS, MAIN, FIVE, ONE, "score", TIE)],
    "For classes, PPAP-5 lags behind the supervised rows: at each of the three scales the target class is seen less often "
    "than with either, beyond the spread at the two smaller ones, and FID is no better.": [
        (CLASS, SMALLER, PPAP, ONE + FIVE, "score", BELOW), (CLASS, LARGEST, PPAP, ONE + FIVE, "score", LESS),
        (CLASS, SCALES, PPAP, ONE + FIVE, "fid", MORE)],
    "For depth, PPAP's experts bear smaller scales than five supervised ones: at three times the scale, their score and "
    "their FID are worse.": [
        (DEPTH, LARGEST, PPAP, FIVE, "fid", ABOVE), (DEPTH, LARGEST, PPAP, FIVE, "score", BELOW)],
}  # fmt: skip


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    """How far one method lies above another, of a guide at a scale; a "score" is larger where it is better."""
    rows = between("shapes")

    def difference(guide: str, scale: str, first: str, second: str, metric: str) -> float:
        name, sign = BETTER[guide] if metric == "score" else (metric, 1)
        second_row = (guide, "ddim25" if second == "none" else scale, second)
        return sign * rows((guide, scale, first), second_row, name)

    return difference


@pytest.mark.parametrize("sentence", CLAIMS)
def test_what_docs_results_says_of_shapes_is_in_the_tables(sentence: str, shapes: Shapes) -> None:
    page = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())
    assert sentence in page.replace("**", "")
    for guides, scales, firsts, seconds, metric, (low, high) in CLAIMS[sentence]:
        for guide, scale, first, second in itertools.product(guides, scales, firsts, seconds):
            assert low < shapes(guide, scale, first, second, metric) < high, (guide, scale, first, second)


def test_experts_of_shapes_train_the_share_that_docs_results_says() -> None:
    frame = pd.read_csv(ROOT / "published" / "shapes" / "tables" / "main.csv")
    share = frame.pivot(index="guide", columns="method", values="trainable_parameters")
    share = share["ppap_5"] / share["multi_experts_5"]
    assert share[["depth", "segmentation"]].between(0.15, 0.25).all()
    assert 0.35 < share["class"] < 0.45


# -- latents: sentences of docs/latents.md --------------------------------------------------------------

GRADIENTS = ("naive", "x0_gradient", "x0_gradient_bounded", "x0_estimate", "mpgd")
BY_THE_DECODER = "estimate_5_by_decoder"
LABELLED = ("single_noise_aware", "multi_experts_5")


@pytest.fixture(scope="module")
def latents() -> Callable[..., float]:
    """How far one method lies above another of a guide, in spreads of both, with 25 steps or under another sampler."""
    rows = between("latents")

    def difference(guide: str, first: str, second: str, metric: str, sampler: str = "euler25") -> float:
        return rows((guide, "euler25", first), (guide, sampler, second), metric)

    return difference


def test_what_docs_latents_claims_is_beyond_the_noise(latents) -> None:
    assert latents("class", "ppap_5", "x0_gradient", "target_rate") > NOISE
    for gradient in ("x0_gradient", "x0_gradient_bounded"):
        assert latents("class", "estimate_5", gradient, "target_rate") > NOISE
    for gradient in GRADIENTS:
        assert latents("class", BY_THE_DECODER, gradient, "target_rate") > NOISE
    for other in (*GRADIENTS, *LABELLED):
        assert latents("class", BY_THE_DECODER, other, "fid") < -NOISE
    assert latents("segmentation", "estimate_5_stored", "x0_gradient_bounded", "miou") > NOISE
    assert latents("segmentation", "estimate_5_stored", "x0_gradient_bounded", "fid") < -NOISE
    assert latents("segmentation", "estimate_5_stored", "ppap_5", "miou") > NOISE
    assert latents("depth", "x0_gradient_bounded", "estimate_5_stored", "abs_rel") < -NOISE
    assert latents("depth", "estimate_5_stored", "ppap_5", "abs_rel") < -NOISE
    for ours in ("ppap_5", "estimate_5_stored"):
        assert latents("embedding", ours, "x0_gradient_bounded", "nearest") > NOISE
    for sampler, gradient in (("euler6", "mpgd_in_6"), ("euler4", "x0_gradient_in_4")):
        for ours in ("estimate_5", BY_THE_DECODER):
            assert latents("class", ours, gradient, "target_rate", sampler) > NOISE
            assert latents("class", ours, gradient, "fid", sampler) < -NOISE


def test_what_docs_latents_calls_a_tie_is_within_the_noise(latents) -> None:
    ties = [("ppap_5", "x0_gradient_bounded"), ("ppap_5_by_decoder", "ppap_5"), ("estimate_5_stored", "estimate_5")]
    ties += [("estimate_5_stored_by_decoder", BY_THE_DECODER)]
    ties += [(labels, "estimate_5") for labels in LABELLED]
    for first, second in ties:
        for metric in ("target_rate", "fid"):
            assert abs(latents("class", first, second, metric)) < NOISE, (first, second, metric)
    for labels in LABELLED:
        assert abs(latents("class", labels, "ppap_5", "target_rate")) < NOISE


def test_the_numbers_in_docs_latents_are_those_of_the_table() -> None:
    frame = pd.read_csv(ROOT / "published" / "latents" / "tables" / "main.csv")
    rows = frame[frame["sampler"] == "euler25"].set_index(["guide", "method"])
    assert round(100 * rows.loc[("class", BY_THE_DECODER), "target_rate"]) == 99
    assert rows.loc["class"].drop("real")["fid"].idxmin() == BY_THE_DECODER
    real = rows.loc[("class", "real"), "fid"]
    assert [round(rows.loc[("class", name), "fid"] / real) for name in ("none", BY_THE_DECODER)] == [46, 10]
    found = rows.loc["embedding"]["nearest"]
    assert found["ppap_5"] == pytest.approx(1 / 2, abs=0.05) and found["estimate_5_stored"] == pytest.approx(
        1 / 2, abs=0.05
    )
    assert found["x0_gradient_bounded"] == pytest.approx(1 / 8, abs=0.02)
    assert rows.loc[("class", "ppap_5"), "trainable_share"] == pytest.approx(1.87, abs=0.005)
