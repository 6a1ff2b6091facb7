"""Batches: read by worker processes or on demand, they are the same; an expert's examples, and a teacher's answers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.data import augmentation, loading
from ppap.data.images import to_tensor
from ppap.data.loading import ImagesInMemory
from ppap.experts.examples import AnsweredImages, LabelledImages
from ppap.experts.teacher import TeacherAnswers, answers_on
from ppap.guides.guide import Guide
from ppap.guides.tasks.classification import Classification
from ppap.training.loop import TrainingRun
from ppap.utils.errors import DataError

CPU = torch.device("cpu")
COUNT, STEPS = 64, 12


@pytest.fixture(params=["workers", "on demand"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read batches, which tests' small ones would not choose by their size."""
    monkeypatch.setattr(loading, "LARGE", 1 if request.param == "workers" else 1 << 40)


class Images(ImagesInMemory):
    """Images on a disk; one of them it cannot read."""

    def __init__(self, broken: int = -1) -> None:
        super().__init__(np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 1), np.uint8))
        self.broken = broken

    def take(self, indices: Tensor) -> np.ndarray:
        if self.broken in indices.tolist():
            raise DataError("0003.npy: cannot be read: Input/output error")
        return super().take(indices)


def examples(images: Images | None = None) -> AnsweredImages:
    plain, mirror = torch.randn(2, COUNT, 3, generator=torch.Generator().manual_seed(1))
    return AnsweredImages(images or Images(), TeacherAnswers(plain, mirror), mirror=True)


@pytest.mark.usefixtures("reading")
def test_images_come_in_the_order_that_is_asked_for_and_no_random_number_is_drawn() -> None:
    images, order = Images(), torch.randperm(COUNT).split(7)
    before = torch.get_rng_state()
    found = list(loading.batches(images, order, CPU))
    assert torch.equal(torch.get_rng_state(), before)
    wanted = torch.from_numpy(images.images)
    assert len(found) == 10
    for batch, indices in zip(found, order, strict=True):
        assert torch.equal(batch, wanted[indices])


@pytest.mark.usefixtures("reading")
def test_what_cannot_be_read_is_said_in_its_turn_in_one_line() -> None:
    read = loading.batches(Images(broken=20), torch.arange(COUNT).split(8), CPU)
    assert [len(next(read)), len(next(read))] == [8, 8]
    with pytest.raises(DataError, match=r"^0003\.npy: cannot be read: Input/output error$"):
        next(read)


def drawn(run: TrainingRun, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """The random numbers of a step: the images of a batch, which are mirrored, and what is drawn after these."""
    torch.manual_seed(run.seed_at(step))
    return torch.randint(COUNT, (8,)), torch.rand(8) < 0.5, torch.randn(3)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("first", [0, 5])
def test_a_steps_batch_and_its_other_random_numbers_depend_on_its_seed_alone(first: int) -> None:
    run, of = TrainingRun("expert", 5), examples()
    batches = of.batches(8, run, CPU)
    x0 = to_tensor(of.images.images)
    for step in range(first, STEPS):
        indices, mirrored, after = drawn(run, step)
        torch.manual_seed(run.seed_at(step))
        batch = batches(step)
        assert torch.equal(torch.randn(3), after)
        for i, flipped, image, answer in zip(indices, mirrored, *batch[:2], strict=True):
            assert torch.equal(image, x0[i].flip(-1) if flipped else x0[i])
            assert torch.equal(answer, (of.answers.mirror if flipped else of.answers.plain)[i])


def test_truths_are_drawn_in_the_same_way_and_mirrored_with_their_images() -> None:
    class Columns(Classification):
        def mirrored(self, truths: Tensor) -> Tensor:
            return truths.flip(-1)

    images, run = Images().images, TrainingRun("expert", 5)
    truths = torch.arange(COUNT * 2).view(COUNT, 2)
    task = Columns.__new__(Columns)
    batches = LabelledImages(images, truths, task, mirror=True).batches(8, run, CPU)
    indices, mirrored, _ = drawn(run, 3)
    torch.manual_seed(run.seed_at(3))
    x0, answers, _ = batches(3)
    for i, flipped, image, answer in zip(indices, mirrored, x0, answers, strict=True):
        assert torch.equal(image, to_tensor(images)[i].flip(-1) if flipped else to_tensor(images)[i])
        assert torch.equal(answer, truths[i].flip(-1) if flipped else truths[i])


@pytest.mark.usefixtures("reading")
def test_a_teacher_answers_on_images_and_on_their_mirror_images() -> None:
    guide = Guide(nn.Flatten(), 4, (0.5,), (0.5,))
    images = Images()
    answers = answers_on(guide, images, torch.arange(COUNT).split(9), mirror=True)
    x0 = to_tensor(images.images)
    assert torch.equal(answers.plain, x0.flatten(1))
    assert torch.equal(answers.mirror, x0.flip(-1).flatten(1))


def test_shifted_images_are_parts_of_the_same_image_with_its_edge_repeated() -> None:
    images = torch.randn(32, 2, 5, 5)
    torch.manual_seed(0)
    moved = augmentation.shifted(images, 2)
    padded = F.pad(images, [2] * 4, mode="replicate")
    windows = padded.unfold(2, 5, 1).unfold(3, 5, 1)  # (B, C, rows, columns, 5, 5)
    equal = (windows == moved[:, :, None, None]).all(-1).all(-1).all(1).flatten(1)
    assert equal.any(1).all() and equal.float().argmax(1).unique().numel() > 10
    assert augmentation.shifted(images, 0) is images
