"""Reading ahead and writing behind: the work never waits for a disk, and its numbers are the same."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.data.gathering import ImagesInMemory
from ppap.experts import lessons
from ppap.experts.lessons import (
    AnswersInMemory,
    LessonAt,
    Teaching,
    of_a_teacher,
    of_a_teacher_ahead,
)
from ppap.experts.teacher import answers_on
from ppap.guides.guide import Guide
from ppap.training.loop import Session, train
from ppap.training.settings import Training
from ppap.utils.checkpoint import Checkpoint, Unkept
from ppap.utils.errors import DataError
from ppap.utils.overlap import ahead
from tests.conftest import SMOKE, ppap

CPU = torch.device("cpu")
COUNT, STEPS, PATIENCE = 64, 12, 20  # seconds: what never happens is given up then
TRAINING = Training(steps=STEPS, batch_size=8, learning_rate=1e-2, checkpoint_every=5)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith(("ahead", "behind"))]


class Shards(ImagesInMemory):
    """Images on a disk that notes which of these batches it has been asked for; one of them it cannot read."""

    def __init__(self, batches: Sequence[Tensor], broken: int = -1) -> None:
        super().__init__(np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 1), np.uint8))
        self.numbers = {tuple(batch.tolist()): number for number, batch in enumerate(batches)}
        self.begun, self.broken = [threading.Event() for _ in batches], broken

    def take(self, indices: Tensor) -> np.ndarray:
        number = self.numbers[tuple(indices.tolist())]
        self.begun[number].set()
        if number == self.broken:
            raise DataError("0003.npy: cannot be read: Input/output error")
        return super().take(indices)


def shards_of(own: Session, broken: int = -1) -> Shards:
    """Those that a training takes its batches from: any other batch is an error."""
    batches = []
    for step in range(STEPS):
        torch.manual_seed(own.seed_at(step))
        batches.append(torch.randint(COUNT, (TRAINING.batch_size,)))
    return Shards(batches, broken)


def teaching(shards: Shards, mirror: bool = True) -> Teaching:
    both = torch.randn(2, COUNT, 3, generator=torch.Generator().manual_seed(1))
    answers = AnswersInMemory({"image": both[0], "mirror": both[1]})
    return Teaching(shards, answers, TRAINING.batch_size, mirror, CPU)


def session(folder: Path) -> Session:
    return Session("expert", 5, Checkpoint(folder / "expert.ckpt", "m"))


def trained(lesson: LessonAt, own: Session, killed_at: int = -1) -> list[Tensor]:
    """The weights of a network that learns from noised images, as experts do."""
    torch.manual_seed(0)
    network = nn.Linear(16, 3)

    def loss_at(step: int) -> Tensor:
        if step == killed_at:
            raise KeyboardInterrupt
        x0, answers = lesson(step)
        t = torch.randint(10, (len(x0), 1))
        return F.mse_loss(network((x0.flatten(1) + t * torch.randn(8, 16)) / 10), answers)

    train(network, loss_at, TRAINING, own)
    return [value.clone() for value in network.state_dict().values()]


@contextmanager
def lessons_ahead(own: Session, shards: Shards | None = None) -> Iterator[LessonAt]:
    learned_from = teaching(shards or shards_of(own))
    with of_a_teacher_ahead(learned_from, own.seed_at, STEPS) as lesson:
        yield lesson


@pytest.mark.parametrize("killed_at", [3, 6, 11])
def test_a_training_that_reads_ahead_killed_or_not_ends_with_the_same_weights(
    killed_at: int, tmp_path: Path
) -> None:
    own = session(tmp_path)
    undisturbed = own._replace(checkpoint=Unkept())
    expected = trained(of_a_teacher(teaching(shards_of(own))), undisturbed)
    with lessons_ahead(own) as lesson:
        assert all(map(torch.equal, trained(lesson, undisturbed), expected))
    with pytest.raises(KeyboardInterrupt), lessons_ahead(own) as lesson:
        trained(lesson, own, killed_at)
    assert own.checkpoint.path.exists() == (killed_at > 5)
    with lessons_ahead(own) as lesson:
        assert all(map(torch.equal, trained(lesson, own), expected))


def test_an_expert_has_the_same_bytes_whether_or_not_its_batches_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (("pretrain", SMOKE, "diffusion"), ("pretrain", SMOKE, "resnet"),
                 ("generate", SMOKE, "--shard", 0), ("generate", SMOKE, "--shard", 1),
                 ("label", SMOKE, "resnet"), ("warm-start", SMOKE, "resnet", "teacher", "adapter")):  # fmt: skip
        ppap(*step, cwd=tmp_path)
    expert = (
        tmp_path / "results" / "smoke" / "experts" / "resnet" / "ppap_5" / "expert_1.safetensors"
    )
    made = []
    for smallest in (1 << 20, 1):
        monkeypatch.setattr(lessons, "LARGE", smallest)
        with mock.patch.object(lessons, "ahead", wraps=ahead) as reading:
            ppap("train-expert", SMOKE, "resnet", "ppap_5", 1, cwd=tmp_path)
        assert reading.called == (smallest == 1)
        made.append(expert.read_bytes())
        expert.unlink()
    assert made[0] == made[1]


def test_a_batch_is_read_while_the_step_before_it_is_at_work(tmp_path: Path) -> None:
    """Each step lasts until the next batch is being read: were it read later, the step would never end."""
    own = session(tmp_path)
    shards = shards_of(own)
    with lessons_ahead(own, shards) as lesson:
        for step in range(STEPS):
            torch.manual_seed(own.seed_at(step))
            lesson(step)
            assert step == STEPS - 1 or shards.begun[step + 1].wait(PATIENCE)


def test_what_cannot_be_read_is_said_at_the_step_that_wants_it(tmp_path: Path) -> None:
    own, done = session(tmp_path), []
    with (
        pytest.raises(DataError, match=r"^0003\.npy: cannot be read"),
        lessons_ahead(own, shards_of(own, broken=7)) as lesson,
    ):
        trained(lambda step: done.append(step) or lesson(step), own)
    assert done == list(range(8))
    assert own.checkpoint.load()["step"] == 5


def test_labels_are_computed_while_the_next_images_are_read() -> None:
    batches = torch.arange(COUNT).split(8)
    shards = Shards(batches)
    seen: list[Tensor] = []

    class Teacher(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            coming = (len(seen) + 1) // 2
            assert coming == len(batches) or shards.begun[coming].wait(PATIENCE)
            return images.flatten(1)[:, :3]

    guide = Guide(Teacher(), 4, (0.5,), (0.5,))
    found = answers_on(shards, batches, guide, True, torch.float32, CPU)
    whole = torch.from_numpy(shards.images).flatten(1) / 127.5 - 1
    torch.testing.assert_close(found["image"], whole[:, :3])
    torch.testing.assert_close(found["mirror"], whole[:, :4].flip(1)[:, :3])


def test_what_is_asked_for_may_begin_anywhere_and_nothing_is_made_in_vain() -> None:
    made: list[int] = []
    with ahead(lambda number: made.append(number) or -number, 9) as result:
        assert [result(number) for number in range(5, 9)] == [-5, -6, -7, -8]
    assert sorted(made) == [5, 6, 7, 8]
