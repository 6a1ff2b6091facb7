"""What docs/study.md and README claim of five replicates: intervals that exclude zero, or that include it for a tie."""

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from ppap.evaluation import measured
from ppap.evaluation.replicates import Values, paired_interval
from tests.conftest import ROOT

BETTER, WORSE, TIE = "better", "worse", "tie"
SMALL_IS_GOOD = ("fid",)
METRICS = ("fid", "is", "target_rate")

CONV, TRANSFORMER = "resnet", "vit"
FOUR = tuple(itertools.product((CONV, TRANSFORMER), ("ddim25", "ddpm250")))
DDIM = FOUR[::2]
OF_CONV, OF_TRANSFORMER, HERE, DDPM = FOUR[:2], FOUR[2:], FOUR[:1], FOUR[1:2]
FAILING, HELPING = ("naive", "x0_gradient"), ("single_noise_aware", "multi_experts_5", "ppap_5", "ppap_10")
OFF_THE_SHELF = (
    "rival_mpgd", "rival_elucd", "rival_entropy", "rival_interval", "rival_adam",
    "rival_x0_gradient@ddim17", "rival_averaged@ddim17", "rival_tfg@ddim7",
)  # fmt: skip
PPAP = ["ppap_5"]
SCALES = ("27th", "9th", "third", "", "triple", "9fold")


def at(methods: Sequence[str], *scales: str, sampler: str = "ddpm250") -> list[str]:
    return [f"{method}@{sampler}_{scale}".removesuffix("_") for method in methods for scale in scales]


Claim = tuple[Sequence[tuple[str, str]], Sequence[str], Sequence[str], Sequence[str], str]
"""With each guide and sampler, each of the first methods beside each of the second ones is this in each of the metrics.

A method may have another guide or sampler than that: `guide:method`, `method@sampler`.
"""
CLAIMS: dict[str, list[Claim]] = {
    "Naive and x0-gradient guidance have a worse FID and IS than no guidance, with both guides and both samplers. They do "
    "raise the rate of the target class.": [
        (FOUR, FAILING, ["none"], ["fid", "is"], WORSE), (FOUR, FAILING, ["none"], ["target_rate"], BETTER)],
    "A single noise-aware model, five supervised experts, PPAP-5 and PPAP-10 have a better FID, IS and target class than no "
    "guidance, with both guides and both samplers.": [(FOUR, HELPING, ["none"], METRICS, BETTER)],
    "Five supervised experts have a better FID than a single model with the conv net under DDPM-250, and with the transformer "
    "under DDIM-25; in the other two pairs they tie.": [
        (FOUR[1:3], ["multi_experts_5"], ["single_noise_aware"], ["fid"], BETTER),
        (FOUR[::3], ["multi_experts_5"], ["single_noise_aware"], ["fid"], TIE)],
    "PPAP-5 ties in FID with five supervised experts, with both guides and both samplers, and needs no label.": [
        (FOUR, ["ppap_5"], ["multi_experts_5"], ["fid"], TIE)],
    "With the conv net, PPAP-5 reaches the target class more often than the single noise-aware model, under both samplers.": [
        (OF_CONV, ["ppap_5"], ["single_noise_aware"], ["target_rate"], BETTER)],
    "Label-free experts of a large net tie with a single supervised large net in FID and IS, and reach the target class more "
    "often.": [
        (HERE, ["resnet_large:ppap_5"], ["resnet_large:single_noise_aware"], ["fid", "is"], TIE),
        (HERE, ["resnet_large:ppap_5"], ["resnet_large:single_noise_aware"], ["target_rate"], BETTER)],
    "Here, at the same total of training steps, ten have a worse FID, IS and target class than five under DDIM-25, with both "
    "guides. Under DDPM-250 with the conv net they tie in all three.": [
        (DDIM, ["ppap_10"], ["ppap_5"], METRICS, WORSE), (OF_CONV[1:], ["ppap_10"], ["ppap_5"], METRICS, TIE)],
    "Here it has a better one in all four.": [(FOUR, ["single_noise_aware"], ["none"], ["fid"], BETTER)],
    "With the transformer, PPAP-5 reaches the target class less often than the single noise-aware model, under both "
    "samplers.": [(OF_TRANSFORMER, ["ppap_5"], ["single_noise_aware"], ["target_rate"], WORSE)],
    "Here they have a worse FID and target class. The large net itself has a worse FID than the middle one.": [
        (HERE, ["resnet_small:multi_experts_5"], ["resnet_large:single_noise_aware"], ["fid", "target_rate"], WORSE),
        (HERE, ["resnet_large:single_noise_aware"], ["single_noise_aware"], ["fid"], WORSE)],
    "At every one of the six scales, under DDIM-25 and with both guides, naive and x0-gradient guidance have a worse FID than "
    "no guidance.": [
        (DDIM, at(FAILING, *SCALES, sampler="ddim25"), ["none"], ["fid"], WORSE)],
    "Naive and x0-gradient guidance, each at the scale where it reaches the target class most often, have a worse FID and "
    "target class than PPAP-5 at the scale 6.": [
        (DDIM, ["naive@ddim25_third", "x0_gradient@ddim25_9th"], ["ppap_5"], ["fid", "target_rate"], WORSE)],
    "Too little guidance is worse than none: at the smallest scale, experts too have a worse FID than no guidance.": [
        (DDIM, at(HELPING, "27th", sampler="ddim25"), ["none"], ["fid"], WORSE)],
    "Of the transformer's experts at three times the scale, ten have a better FID than five, and tie in IS and target "
    "class.": [
        ([(TRANSFORMER, "ddim25_triple")], ["ppap_10"], ["ppap_5"], ["fid"], BETTER),
        ([(TRANSFORMER, "ddim25_triple")], ["ppap_10"], ["ppap_5"], ["is", "target_rate"], TIE)],
    "Off the shelf, each rival reaches the target class more often than no guidance does, and each has a worse FID than no "
    "guidance.": [
        (HERE, OFF_THE_SHELF, ["none"], ["target_rate"], BETTER), (HERE, OFF_THE_SHELF, ["none"], ["fid"], WORSE)],
    "PPAP-5 has a better FID, IS and target class than each off-the-shelf rival.": [
        (HERE, ["ppap_5"], OFF_THE_SHELF, METRICS, BETTER)],
    "Two rivals add to PPAP's experts: within an interval, and with entropy-driven scales, PPAP-5 has a better FID, IS and "
    "target class than without.": [(HERE, ["ppap_5_interval", "ppap_5_entropy"], ["ppap_5"], METRICS, BETTER)],
    "EluCD adds IS and target class to PPAP's experts, and makes FID worse.": [
        (HERE, ["ppap_5_elucd"], ["ppap_5"], ["is", "target_rate"], BETTER),
        (HERE, ["ppap_5_elucd"], ["ppap_5"], ["fid"], WORSE)],
    "Guidance at every second step, Adam-normalised and averaged gradients make PPAP-5 worse in FID, IS and target class.": [
        (HERE, ["ppap_5_every_2nd", "ppap_5_adam", "ppap_5_averaged"], ["ppap_5"], METRICS, WORSE)],
    "Experts trained at the middle timestep of their range tie with PPAP-5 in FID, IS and target class.": [
        (HERE, ["ppap_5_midpoint"], ["ppap_5"], METRICS, TIE)],
    "Five and ten of them have a better FID, IS and target class than PPAP-5, and tie with each other.": [
        (HERE, ["estimate_5", "estimate_10"], ["ppap_5"], METRICS, BETTER),
        (HERE, ["estimate_10"], ["estimate_5"], METRICS, TIE)],
    "One expert of the estimate, with a fifth of the parameters, ties with PPAP-5 in FID, IS and target class.": [
        (HERE, ["estimate_1"], ["ppap_5"], METRICS, TIE)],
    "The two best kinds, PPAP-5 within an interval and five experts of the estimate, tie in FID and target class; those of "
    "the estimate have the better IS.": [
        (HERE, ["ppap_5_interval"], ["estimate_5"], ["fid", "target_rate"], TIE),
        (HERE, ["estimate_5"], ["ppap_5_interval"], ["is"], BETTER)],
}  # fmt: skip


OF_QUESTIONS: dict[str, list[Claim]] = {
    "At an equal total of training steps, ten experts have a worse FID, IS and target class than five, and twenty a worse one "
    "than ten. Two tie with five in FID, IS and target class.": [
        (HERE, ["ppap_10"], PPAP, METRICS, WORSE), (HERE, ["ppap_20"], ["ppap_10"], METRICS, WORSE),
        (HERE, ["ppap_2"], PPAP, METRICS, TIE)],
    "With as many steps each, ten and twenty experts have a better FID, IS and target class than five, and tie with each "
    "other. Three tie with five, and one and two are worse in all three.": [
        (HERE, ["each_10", "each_20"], PPAP, METRICS, BETTER), (HERE, ["each_20"], ["each_10"], METRICS, TIE),
        (HERE, ["each_3"], PPAP, METRICS, TIE), (HERE, ["each_1", "each_2"], PPAP, METRICS, WORSE)],
    "Ranges of equal log-SNR tie with ranges of equally many timesteps in FID and IS, and reach the target class less "
    "often.": [
        (HERE, ["log_snr"], PPAP, ["fid", "is"], TIE), (HERE, ["log_snr"], PPAP, ["target_rate"], WORSE)],
    "Without a shared start, at the same total, experts are worse in FID, IS and target class.": [
        (HERE, ["start_none"], PPAP, METRICS, WORSE)],
    "Experts that each start from the one before have a better IS and target class, and tie in FID.": [
        (HERE, ["start_sequential"], PPAP, ["is", "target_rate"], BETTER),
        (HERE, ["start_sequential"], PPAP, ["fid"], TIE)],
    "Temperatures of 0.25, 0.5, 1 and 2 tie in FID, IS and target class.": [
        (HERE, ["tau_half", "tau_1", "tau_2"], PPAP, METRICS, TIE)],
    "LoRA alone fails: it is worse in FID, IS and target class, and its FID is worse than that of no guidance.": [
        (HERE, ["lora_only"], PPAP, METRICS, WORSE), (HERE, ["lora_only"], ["none"], ["fid"], WORSE)],
    "Biases and norms alone, without LoRA, tie in FID, IS and target class.": [(HERE, ["no_lora"], PPAP, METRICS, TIE)],
    "LoRA of rank 1 is worse in FID, IS and target class; rank 16 ties with rank 4 in all three.": [
        (HERE, ["rank_1"], PPAP, METRICS, WORSE), (HERE, ["rank_16"], PPAP, METRICS, TIE)],
    "From 100 images, experts are worse in FID, IS and target class; from 1,000 they reach the target class less often, and "
    "tie in FID and IS.": [
        (HERE, ["images_100"], PPAP, METRICS, WORSE), (HERE, ["images_1000"], PPAP, ["target_rate"], WORSE),
        (HERE, ["images_1000"], PPAP, ["fid", "is"], TIE)],
    "From 20,000 images, they have a better IS, and tie in FID and target class.": [
        (HERE, ["images_20000"], PPAP, ["is"], BETTER), (HERE, ["images_20000"], PPAP, ["fid", "target_rate"], TIE)],
    "Real images, without their labels, tie with drawn ones in FID, IS and target class.": [
        (HERE, ["real_images"], PPAP, METRICS, TIE)],
    "Expert 4 matters most: alone, it has a better FID, IS and target class than each other expert alone; and FID, IS and "
    "target class are worse without it than without any other.": [
        (HERE, ["only_4"], ["only_1", "only_2", "only_3", "only_5"], METRICS, BETTER),
        (HERE, ["without_4"], ["without_1", "without_2", "without_3", "without_5"], METRICS, WORSE)],
    "Without expert 5, FID is better, and IS and target class tie.": [
        (HERE, ["without_5"], PPAP, ["fid"], BETTER), (HERE, ["without_5"], PPAP, ["is", "target_rate"], TIE)],
    "Experts 1, 2 and 3 alone have a worse FID than no guidance.": [
        (HERE, ["only_1", "only_2", "only_3"], ["none"], ["fid"], WORSE)],
    "Experts as in the authors' code have a better IS and target class than PPAP-5, and tie in FID. It is their start that "
    "does most of it: with this start alone, FID ties, and IS and target class are lower by little.": [
        (HERE, ["code"], PPAP, ["is", "target_rate"], BETTER), (HERE, ["code"], PPAP, ["fid"], TIE),
        (HERE, ["start_sequential"], ["code"], ["fid"], TIE),
        (HERE, ["start_sequential"], ["code"], ["is", "target_rate"], WORSE)],
    "The average over classes alone, and the boundary alone, tie with PPAP-5 in FID, IS and target class.": [
        (HERE, ["code_reduction", "code_boundary"], PPAP, METRICS, TIE)],
}  # fmt: skip
OF_SCALES: dict[str, list[Claim]] = {
    "At five of the six scales under DDPM-250, naive and x0-gradient guidance have a worse FID than no guidance. At the sixth, "
    "2, naive guidance has a worse one too, and x0-gradient guidance ties.": [
        (DDPM, at(FAILING, "27th", "9th", "", "triple", "9fold"), ["none"], ["fid"], WORSE),
        (DDPM, ["naive@ddpm250_third"], ["none"], ["fid"], WORSE),
        (DDPM, ["x0_gradient@ddpm250_third"], ["none"], ["fid"], TIE)],
    "Under DDPM-250, naive and x0-gradient guidance, each at the scale where it reaches the target class most often, have a "
    "worse FID, IS and target class than PPAP-5 at the scale 6.": [
        (DDPM, ["naive@ddpm250_triple", "x0_gradient@ddpm250_third"], PPAP, METRICS, WORSE)],
    "Steps that are smaller bear larger scales: from 2 to 54 under DDPM-250, a single noise-aware model, five supervised "
    "experts, PPAP-5 and PPAP-10 have a better FID and target class than no guidance. At 0.222 and 0.667 they have a worse "
    "FID.": [
        (DDPM, at(HELPING, "third", "", "triple", "9fold"), ["none"], ["fid", "target_rate"], BETTER),
        (DDPM, at(HELPING, "27th", "9th"), ["none"], ["fid"], WORSE)],
    "PPAP-5 and PPAP-10 have their best FID at the scale 6: at 2, 18 and 54 it is worse.": [
        (DDPM, at([method], "third", "triple", "9fold"), [method], ["fid"], WORSE) for method in ("ppap_5", "ppap_10")],
    "From 6 to 54, the FID of guides that learned from labels ties.": [
        (DDPM, at([method], "triple", "9fold"), [method], ["fid"], TIE) for method in HELPING[:2]],
}  # fmt: skip
IN_README: dict[str, list[Claim]] = {
    "With both guides and both samplers, PPAP-5 has a better FID, IS and target class than no guidance, naive guidance and "
    "x0-gradient guidance.": [(FOUR, ["ppap_5"], ["none", *FAILING], METRICS, BETTER)],
    "PPAP-5 has a better FID, IS and target class than each off-the-shelf rival at an equal budget, each at its own best "
    "scale: MPGD, EluCD, TFG and five more.": [(HERE, ["ppap_5"], OFF_THE_SHELF, METRICS, BETTER)],
    "PPAP-5 is better still in all three within an interval of noise, with entropy-driven scales, or on the network's estimate "
    "of the clean image.": [
        (HERE, ["ppap_5_interval", "ppap_5_entropy", "estimate_5"], ["ppap_5"], METRICS, BETTER)],
    "In FID, PPAP-5 ties with five experts that learned from labels.": [(FOUR, ["ppap_5"], ["multi_experts_5"], ["fid"], TIE)],
}  # fmt: skip


@cache
def read(path: Path) -> measured.Measured:
    return measured.read(path)


def values(preset: str, guide: str, sampler: str, method: str, metric: str) -> Values:
    """A metric of one row, by replicate and sampling seed."""
    whole = ROOT / "published" / preset
    found = {}
    for replicate, folder in enumerate([whole, *sorted((whole / "replicates").iterdir())]):
        file = read(folder / "metrics" / sampler / f"{'unguided' if method == 'none' else guide}.json")
        metrics = file.methods[method] | file.shared.get(guide, {}).get(method, {})
        found[replicate] = dict(zip(file.seeds, metrics[metric].values, strict=True))
    return found


def compared(preset: str, pair: tuple[str, str], first: str, second: str, metric: str) -> str:
    """What the first row is beside the second one: better, worse, or a tie."""

    def row(name: str) -> Values:
        *guide, name = name.split(":")
        name, *sampler = name.split("@")
        return values(preset, *(guide or pair[:1]), *(sampler or pair[1:]), name, metric)

    interval = paired_interval(row(first), row(second))
    if interval.low <= 0 <= interval.high:
        return TIE
    return BETTER if (interval.mean < 0) == (metric in SMALL_IS_GOOD) else WORSE


def rate(preset: str, guide: str, method: str) -> float:
    method, sampler = method.split("@")
    by_replicate = values(preset, guide, sampler, method, "target_rate").values()
    return fmean(fmean(by_seed.values()) for by_seed in by_replicate)


@pytest.mark.parametrize(
    ("preset", "guide", "best"),
    [
        ("study", CONV, ["naive@ddim25_third", "x0_gradient@ddim25_9th"]),
        ("study", TRANSFORMER, ["naive@ddim25_third", "x0_gradient@ddim25_9th"]),
        ("scales", CONV, ["naive@ddpm250_triple", "x0_gradient@ddpm250_third"]),
    ],
)
def test_off_the_shelf_guides_reach_the_target_most_often_at_the_scales_that_docs_study_compares(
    preset: str, guide: str, best: list[str]
) -> None:
    for row in best:
        method, sampler = row.split("@")
        rows = at([method], *SCALES, sampler=sampler.split("_")[0])
        assert max(rows, key=lambda each: rate(preset, guide, each)) == row


SAID = [
    (page, preset, sentence, claims)
    for page, preset, said in (
        ("docs/study.md", "study", CLAIMS), ("docs/study.md", "questions", OF_QUESTIONS),
        ("docs/study.md", "scales", OF_SCALES), ("README.md", "study", IN_README),
    )
    for sentence, claims in said.items()
]  # fmt: skip


@pytest.mark.parametrize(("page", "preset", "sentence", "claims"), SAID)
def test_what_pages_say_is_what_the_intervals_say(page: str, preset: str, sentence: str, claims: list[Claim]) -> None:
    assert sentence in " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for pairs, firsts, seconds, metrics, relation in claims:
        for pair, first, second, metric in itertools.product(pairs, firsts, seconds, metrics):
            assert compared(preset, pair, first, second, metric) == relation, (pair, first, second, metric)
