"""Tasks: losses, objectives and scores against independent references, and rules that hold for all inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance
from scipy.special import log_softmax
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from ppap.data.datasets import DatasetConfig
from ppap.experts.settings import ExpertsConfig
from ppap.guides.tasks.registry import TASKS
from ppap.guides.tasks.score import ENDLESS
from ppap.guides.tasks.segmentation import VOID
from ppap.guides.tasks.task import Task
from ppap.utils.errors import ConfigError

pytestmark = pytest.mark.fast

SIZE, CLASSES, SEGMENTS, BATCH = 6, 4, 5, 3
DATA = DatasetConfig(kind="shapes", pictures=10, image_size=SIZE, channels=3, classes=CLASSES, segments=SEGMENTS)
NAMES = list(TASKS)
SEEDS = st.integers(0, 2**31)


def task_of(name: str) -> Task:
    return TASKS.get(name, options={"dimensions": SIZE} if name == "embedding" else None)(DATA)


CLASS, DEPTH, LABELS, VECTOR, NUMBER = ALL = [task_of(name) for name in NAMES]


def answers_of(task: Task, seed: int = 0, count: int = BATCH) -> Tensor:
    """Answers at random, in float64."""
    random = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(count, *task.shape, generator=random, dtype=torch.float64)


def targets_of(task: Task, seed: int = 1, count: int = BATCH) -> Tensor:
    """Targets at random: what other answers would have shown; of a label map some pixels say nothing."""
    targets = task.target_of(answers_of(task, seed, count))
    if task in (DEPTH, VECTOR, NUMBER):
        return targets.float()
    if task is LABELS:
        random = torch.Generator().manual_seed(seed)
        targets = torch.where(torch.rand(targets.shape, generator=random) < 0.2, VOID, targets)
    elif task is CLASS:
        targets = torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(seed))
    return targets


# -- all tasks -------------------------------------------------------------------------------------


def functions(task: Task) -> dict[str, Callable[[Tensor], Tensor]]:
    """What is minimised or raised, of answers."""
    teacher, targets = answers_of(task, 2), targets_of(task)
    found = {
        "supervised": lambda answers: task.supervised(answers, targets.to(_like(task))),
        "objective": lambda answers: task.objective(targets)(answers),
    }
    for reduction in ("sum", "reference"):
        taught = ExpertsConfig(tau=0.5, reduction=reduction)
        found[reduction] = lambda answers, taught=taught: task.distillation(answers, teacher, taught)
    return found


def _like(task: Task) -> torch.dtype:
    return torch.int64 if task in (CLASS, LABELS) else torch.float64


@pytest.mark.parametrize("of", ["supervised", "sum", "reference", "objective"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str, of: str) -> None:
    task = task_of(name)
    function = functions(ALL[NAMES.index(name)])[of]
    assert torch.autograd.gradcheck(function, answers_of(task).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("task", ALL)
def test_losses_of_lower_precision_are_computed_in_float32(task: Task, dtype: torch.dtype) -> None:
    low = answers_of(task).to(dtype)
    for of, function in functions(task).items():
        if of == "supervised" and task in (DEPTH, NUMBER):
            continue  # whose truths here are float64
        assert torch.equal(function(low), function(low.float())), of


@pytest.mark.parametrize("task", ALL)
def test_the_objective_of_an_image_does_not_depend_on_the_others(task: Task) -> None:
    answers, targets = answers_of(task), targets_of(task)
    together = task.objective(targets)(answers)
    assert together.shape == (BATCH,)
    for i in range(BATCH):
        alone = task.objective(targets[i : i + 1])(answers[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1])
        leaf = answers.clone().requires_grad_()
        task.objective(targets)(leaf)[i].backward()
        others = [j for j in range(BATCH) if j != i]
        assert leaf.grad[others].eq(0).all() and leaf.grad[i].ne(0).any()


@pytest.mark.parametrize("task", ALL)
def test_a_student_that_says_what_its_teacher_says_has_nothing_to_learn(task: Task) -> None:
    answers = answers_of(task).requires_grad_()
    teacher = answers.detach()
    same = task.distillation(answers, teacher, ExpertsConfig(tau=1.0))
    (gradient,) = torch.autograd.grad(same, answers)
    assert same.item() == pytest.approx(0, abs=1e-12) and float(gradient.abs().max()) < 1e-12
    assert float(task.distillation(answers, teacher.flip(-1), ExpertsConfig(tau=1.0))) > 0.1


@pytest.mark.parametrize("task", ALL)
def test_targets_that_are_met_have_the_best_scores_and_are_believed(task: Task) -> None:
    answers = answers_of(task)
    if task is CLASS:
        answers = 30 * torch.nn.functional.one_hot(targets_of(task), CLASSES).double()
    targets = task.target_of(answers)
    assert task.belief(answers, targets).tolist() == pytest.approx([1] * BATCH, abs=1e-6)
    best = {"target_rate": 1, "abs_rel": 0, "spearman": 1, "miou": 1, "pixel_accuracy": 1, "cosine": 1, "nearest": 1}
    best |= {"score": float(answers.mean()), "score_error": 0}
    found = task.scored(task.held_against(answers, targets, torch.arange(BATCH)))
    assert found == pytest.approx({name: best[name] for name in found}, abs=1e-6)
    assert [*found] == [score.name for score in task.scores]


@pytest.mark.parametrize("task", ALL)
def test_statistics_have_an_entry_a_sample_and_do_not_depend_on_the_batch(task: Task) -> None:
    answers, targets = answers_of(task), targets_of(task)
    numbers = torch.arange(BATCH)
    together = task.held_against(answers, targets, numbers)
    alone = [task.held_against(answers[i : i + 1], targets, numbers[i : i + 1]) for i in range(BATCH)]
    for name, values in together.items():
        assert len(values) == BATCH
        torch.testing.assert_close(torch.cat([one[name] for one in alone]), values)


@pytest.mark.parametrize("task", [DEPTH, LABELS])
def test_mirrored_truths_are_those_of_mirror_images(task: Task) -> None:
    targets = targets_of(task)
    assert torch.equal(task.mirrored(targets)[..., 0], targets[..., -1])
    assert torch.equal(task.mirrored(task.mirrored(targets)), targets)


@pytest.mark.parametrize("task", [DEPTH, LABELS])
@pytest.mark.parametrize("size", [3, 6, 24])
def test_answers_of_any_resolution_come_in_the_tasks_shape(task: Task, size: int) -> None:
    answers = torch.full((2, *task.shape[:-2], size, size), 0.75)
    fitted = task.fitted(answers)
    assert fitted.shape == (2, *task.shape)
    torch.testing.assert_close(fitted, torch.full_like(fitted, 0.75))


# -- classification --------------------------------------------------------------------------------


def test_class_losses_are_those_of_scipy() -> None:
    answers, targets, teacher = answers_of(CLASS), targets_of(CLASS), answers_of(CLASS, 2)
    log_p = log_softmax(answers.numpy(), axis=1)
    of_targets = log_p[range(BATCH), targets]
    assert CLASS.objective(targets)(answers).numpy() == pytest.approx(of_targets)
    assert float(CLASS.supervised(answers, targets)) == pytest.approx(-of_targets.mean())
    assert CLASS.belief(answers, targets).numpy() == pytest.approx(np.exp(of_targets))
    log_q = log_softmax(teacher.numpy() / 0.5, axis=1)
    divergence = (np.exp(log_q) * (log_q - log_p)).sum() / BATCH
    for reduction, parts in (("sum", 1), ("reference", CLASSES)):
        found = CLASS.distillation(answers, teacher, ExpertsConfig(tau=0.5, reduction=reduction))
        assert float(found) == pytest.approx(divergence / parts)


@given(SEEDS)
@settings(max_examples=30)
def test_the_class_rate_is_the_share_of_samples_whose_class_is_seen(seed: int) -> None:
    answers, targets = answers_of(CLASS, seed, 50), targets_of(CLASS, seed + 1, 50)
    rate = CLASS.scored(CLASS.statistics(answers, targets))["target_rate"]
    assert rate == pytest.approx(accuracy_score(targets, answers.argmax(1)))


# -- depth -----------------------------------------------------------------------------------------


@given(SEEDS, st.floats(0.01, 1000), st.floats(-100, 100), st.floats(0.01, 1000), st.floats(-100, 100))
@settings(max_examples=50)
def test_depth_is_wanted_up_to_scale_and_shift(seed: int, a: float, b: float, c: float, d: float) -> None:
    answers, targets = answers_of(DEPTH, seed), answers_of(DEPTH, seed + 1)
    wanted = DEPTH.objective(targets)(answers)
    found = DEPTH.objective(c * targets + d)(a * answers + b)
    # a map that hardly differs from its mean (c = 0.01, d = 100) counts as a little flat, for the sake of rounding
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    for name, values in DEPTH.statistics(answers, targets).items():
        same = DEPTH.statistics(a * answers, c * targets)[name]
        torch.testing.assert_close(same, values, rtol=1e-3, atol=1e-4)


@given(SEEDS)
@settings(max_examples=30)
def test_the_objective_of_depth_is_the_pixels_times_the_correlation_less_one(seed: int) -> None:
    answers, targets = answers_of(DEPTH, seed), answers_of(DEPTH, seed + 1)
    found, belief = DEPTH.objective(targets)(answers), DEPTH.belief(answers, targets)
    for i in range(BATCH):
        r = pearsonr(answers[i].flatten(), targets[i].flatten()).statistic
        assert float(found[i]) == pytest.approx(SIZE * SIZE * (r - 1), rel=1e-6, abs=1e-6)
        assert float(belief[i]) == pytest.approx(r, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.3, 1234.567, 6e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flat_map_is_no_nan(value: float, dtype: torch.dtype) -> None:
    flat = torch.full((2, *DEPTH.shape), value, dtype=dtype, requires_grad=True)
    other = answers_of(DEPTH, count=2).to(dtype)
    wanted = -SIZE * SIZE / 2  # nothing of the target is seen
    objective = DEPTH.objective(other)(flat)
    assert objective.tolist() == pytest.approx([wanted] * 2, rel=0.1)
    (gradient,) = torch.autograd.grad(objective.sum(), flat)
    assert gradient.isfinite().all()
    with torch.no_grad():
        assert DEPTH.objective(flat)(other).tolist() == pytest.approx([wanted] * 2, rel=0.1)
        assert DEPTH.belief(flat, other).tolist() == pytest.approx([0, 0], abs=0.1)
        for answers, targets in ((flat, other), (other, flat), (flat, flat)):
            for values in DEPTH.statistics(answers, targets).values():
                assert values.isfinite().all()
        assert DEPTH.statistics(flat, other)["spearman"].tolist() == [0, 0]


@given(SEEDS, st.integers(2, 40))
@settings(max_examples=50)
def test_rank_correlation_is_scipys(seed: int, levels: int) -> None:
    """With few levels most ranks are shared."""
    random = torch.Generator().manual_seed(seed)
    answers, targets = torch.randint(levels, (2, BATCH, SIZE, SIZE), generator=random).float()
    answers[:, 0, 0], answers[:, 0, 1], targets[:, 0, 0], targets[:, 0, 1] = 0, 1, 0, 1
    found = DEPTH.statistics(answers, targets)["spearman"]
    for i in range(BATCH):
        wanted = spearmanr(answers[i].flatten(), targets[i].flatten()).statistic
        assert float(found[i]) == pytest.approx(wanted, abs=1e-9)


@given(SEEDS)
@settings(max_examples=30)
def test_the_relative_error_is_that_of_a_least_squares_fit(seed: int) -> None:
    targets = answers_of(DEPTH, seed).numpy()
    answers = (targets + answers_of(DEPTH, seed + 1).numpy()) * 7 + 2
    found = DEPTH.statistics(torch.from_numpy(answers), torch.from_numpy(targets))["abs_rel"]
    for i in range(BATCH):
        t = (targets[i].ravel() - targets[i].min()) / np.ptp(targets[i]) + 1
        terms = np.stack([answers[i].ravel(), np.ones(SIZE * SIZE)], axis=1)
        fit = terms @ np.linalg.lstsq(terms, t, rcond=None)[0]
        if np.corrcoef(answers[i].ravel(), t)[0, 1] > 0:
            assert float(found[i]) == pytest.approx((abs(fit - t) / t).mean(), rel=1e-4)


def test_depth_the_wrong_way_round_is_no_better_than_none() -> None:
    targets = answers_of(DEPTH)
    upside_down, flat = -targets, torch.zeros_like(targets)
    wrong, none = (DEPTH.statistics(x, targets)["abs_rel"] for x in (upside_down, flat))
    torch.testing.assert_close(wrong, none)
    assert DEPTH.statistics(upside_down, targets)["spearman"].tolist() == pytest.approx([-1] * BATCH)


# -- segmentation ----------------------------------------------------------------------------------


def test_the_objective_of_labels_is_the_sum_of_their_log_probabilities() -> None:
    answers, targets = answers_of(LABELS), targets_of(LABELS)
    log_p = log_softmax(answers.numpy(), axis=1)
    wanted = [
        sum(log_p[i, targets[i, y, x], y, x] for y in range(SIZE) for x in range(SIZE) if targets[i, y, x] != VOID)
        for i in range(BATCH)
    ]
    assert LABELS.objective(targets)(answers).numpy() == pytest.approx(wanted)
    judged = int((targets != VOID).sum())
    assert float(LABELS.supervised(answers, targets)) == pytest.approx(-sum(wanted) / judged)


def test_the_divergence_of_labels_is_the_mean_over_pixels() -> None:
    answers, teacher = answers_of(LABELS), answers_of(LABELS, 2)
    log_p, log_q = log_softmax(answers.numpy(), axis=1), log_softmax(teacher.numpy() / 0.5, axis=1)
    wanted = (np.exp(log_q) * (log_q - log_p)).sum(axis=1).mean()
    found = LABELS.distillation(answers, teacher, ExpertsConfig(tau=0.5))
    assert float(found) == pytest.approx(wanted)


@given(SEEDS, st.integers(1, 10))
@settings(max_examples=40)
def test_scores_of_labels_are_scikit_learns(seed: int, count: int) -> None:
    answers, targets = answers_of(LABELS, seed, count), targets_of(LABELS, seed + 1, count)
    found = LABELS.scored(LABELS.statistics(answers, targets))
    judged = targets != VOID
    seen, wanted = answers.argmax(1)[judged].numpy(), targets[judged].numpy()
    there = sorted({*seen, *wanted})
    overlap = jaccard_score(wanted, seen, labels=there, average="macro", zero_division=0)
    assert found["miou"] == pytest.approx(overlap)
    assert found["pixel_accuracy"] == pytest.approx(accuracy_score(wanted, seen))
    of_each = [accuracy_score(t[m], a[m]) for t, a, m in zip(targets, answers.argmax(1), judged, strict=True)]
    assert LABELS.belief(answers, targets).numpy() == pytest.approx(of_each)


def test_pixels_that_say_nothing_change_nothing() -> None:
    answers, targets = answers_of(LABELS), targets_of(LABELS)
    other = torch.where((targets == VOID)[:, None], answers.flip(1), answers)
    assert not torch.equal(other, answers)
    torch.testing.assert_close(LABELS.objective(targets)(other), LABELS.objective(targets)(answers))
    first, second = (LABELS.statistics(x, targets) for x in (answers, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


# -- embeddings and scores -------------------------------------------------------------------------


def test_vectors_learn_and_are_raised_by_their_direction_alone() -> None:
    answers, others = answers_of(VECTOR), answers_of(VECTOR, 2)
    cosines = 1 - np.array([distance.cosine(a, b) for a, b in zip(answers, others, strict=True)])
    found = VECTOR.distillation(answers, others, ExpertsConfig())
    assert float(found) == pytest.approx(1 - cosines.mean())
    assert VECTOR.objective(others)(answers).numpy() == pytest.approx(100 * cosines)
    torch.testing.assert_close(VECTOR.distillation(7 * answers, others / 3, ExpertsConfig()), found)


def test_the_odds_of_two_targets_are_clips() -> None:
    answers, words = answers_of(VECTOR, count=1), answers_of(VECTOR, 2, 2)
    unit = [values / values.norm(dim=1, keepdim=True) for values in (answers, words)]
    odds = log_softmax(100 * (unit[0] @ unit[1].T).numpy(), axis=1)[0]
    raised = VECTOR.objective(words)(answers.expand(2, -1))
    assert float(raised[0] - raised[1]) == pytest.approx(odds[0] - odds[1])


@given(SEEDS, st.integers(1, 9))
@settings(max_examples=20)
def test_the_nearest_target_is_scikit_learns(seed: int, count: int) -> None:
    targets, answers = answers_of(VECTOR, seed, 5), answers_of(VECTOR, seed + 1, count)
    numbers = torch.randint(5, (count,), generator=torch.Generator().manual_seed(seed))
    found = VECTOR.scored(VECTOR.held_against(answers, targets, numbers))
    cosines = cosine_similarity(answers, targets)
    assert found["nearest"] == pytest.approx(accuracy_score(numbers, cosines.argmax(1)))
    assert found["cosine"] == pytest.approx(cosines[np.arange(count), numbers].mean())


def test_several_targets_are_their_mean_direction() -> None:
    targets = torch.tensor([[9.0, 0.0], [0.0, 2.0]])
    torch.testing.assert_close(VECTOR.together(targets), torch.full((1, 2), 0.5**0.5))


def test_a_number_is_raised_lowered_or_pulled() -> None:
    answers = answers_of(NUMBER, count=3).requires_grad_()
    raised = NUMBER.objective(torch.tensor([torch.inf, -torch.inf, 2.0]))(answers)
    (gradient,) = torch.autograd.grad(raised.sum(), answers)
    assert gradient.tolist() == pytest.approx([1, -1, 2 - float(answers[2])])
    assert float(NUMBER.standing_target) == ENDLESS
    assert TASKS.get("score", options={"target": 2.5})(DATA).standing_target.tolist() == 2.5


def test_without_a_target_a_number_has_no_error() -> None:
    answers = answers_of(NUMBER)
    found = NUMBER.scored(NUMBER.statistics(answers, NUMBER.standing_target.expand(BATCH)))
    assert found == pytest.approx({"score": float(answers.mean())})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("embedding", {"size": 3}, r"task 'embedding': takes no option 'size' \(it takes dimensions\)"),
        ("embedding", {"dimensions": 0}, "dimensions: 0; the size of the network's vectors was expected"),
        ("score", {"target": "high"}, r"options: target: 'high' \(str\); float or None was expected"),
        ("depth", {"dimensions": 3}, "task 'depth': takes no options"),
    ],
)
def test_options_that_a_task_does_not_take_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = TASKS.get(name, options=options)(DATA).numbers


def test_vectors_of_another_size_than_the_data_sets_are_refused() -> None:
    known = {"embedding": torch.zeros(3, SIZE + 1)}
    with pytest.raises(ConfigError, match=f"dimensions: {SIZE}; the data set's vectors have {SIZE + 1}"):
        VECTOR.truth(torch.empty(0), known, "embedding")
