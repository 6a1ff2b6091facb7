"""Examples that experts learn from: images, with a teacher's answers on them or with what is true of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data import augmentation, loading
from ppap.data.image_folder import LabelledFiles, TrainingBatches, read_fitted
from ppap.data.images import to_tensor
from ppap.data.loading import Images
from ppap.guides.tasks.task import Task
from ppap.training.loop import TrainingRun


class Batch(NamedTuple):
    """Clean images x0 (B, C, H, W) in [-1, 1], or latents, and the answers (B, ...) that an expert is to give on x_t.

    The `labels` (B,), if there are any, are what the diffusion network is told of each.
    """

    x0: Tensor
    answers: Tensor
    labels: Tensor | None = None


Batches = Callable[[int], Batch]
"""The batch of each training step; its random numbers are the first that torch's global generator gives there."""


class Examples(Protocol):
    """Images with answers, from which random batches are drawn."""

    @property
    def from_teacher(self) -> bool:
        """True if the answers are a teacher's; otherwise they are truths."""

    @property
    def estimated(self) -> bool:
        """True if the images are what an expert sees already."""

    def batches(self, batch_size: int, run: TrainingRun, device: torch.device) -> Batches:
        """Draw the batches of a training run, on the device."""


def apart(count: int, wanted: int) -> tuple[Tensor, Tensor]:
    """Divide images: the indices of those that experts learn from, and of those held out, a tenth at most.

    The latter are spread evenly, so that images in the order of their classes may be given.
    """
    share = min(wanted, count // 10)
    held = torch.arange(share) * count // max(share, 1)
    rest = torch.ones(count, dtype=torch.bool).index_fill(0, held, False)
    return rest.nonzero().flatten(), held


class Answers(Protocol):
    """A teacher's answers (N, ...) on images, and on the mirror images."""

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Return float32 answers (B, ...) on these images, on the mirror image where `mirrored` (B,) is true."""


@dataclass(frozen=True)
class AnsweredImages:
    """Images with a teacher's answers on them, or the `chosen` ones; with `mirror`, each is mirrored half of the time.

    Large batches are read by worker processes, ahead of the training. These draw their choices from generators with
    the seeds of the steps, and the training draws them once more, so that its random numbers do not depend on that.
    """

    images: Images
    answers: Answers
    mirror: bool
    chosen: Tensor | None = None
    labels: Tensor | None = None
    levels: tuple[int, ...] = ()
    """The indices of the stored estimates that the expert sees, among `stored` rows of `images` for each answer."""
    stored: int = 1
    from_teacher = True

    @property
    def estimated(self) -> bool:
        """True if its images are what an expert sees, estimates of x_0, rather than x_0."""
        return bool(self.levels)

    def apart(self, wanted: int, most: int | None = None) -> tuple[Self, Self | None]:
        """Divide them, or the first `most`, as `apart` does; None: there are too few to hold any out."""
        kept, unseen = apart(min(len(self.images) // self.stored, most or len(self.images)), wanted)
        return replace(self, chosen=kept), replace(self, chosen=unseen) if len(unseen) else None

    def batches(self, batch_size: int, run: TrainingRun, device: torch.device) -> Batches:
        count, mirror, levels = len(self._indices), self.mirror, self.levels
        workers = loading.workers_for(self.images, batch_size)

        def choices(first: int) -> Iterator[_Choice]:
            for step in itertools.count(first):
                generator = torch.Generator().manual_seed(run.seed_at(step))
                yield _choose(count, batch_size, mirror, generator, levels)

        parts: Iterator[list[Tensor]] | None = None  # from the step on that is asked for first

        def batch(step: int) -> Batch:
            nonlocal parts
            parts = parts or loading.load(self._read, choices(step), device, workers)
            _choose(count, batch_size, mirror, None, levels)
            return _batch(next(parts), device)

        return batch

    def in_order(self, batch_size: int, device: torch.device) -> Iterator[Batch]:
        """Yield each of them once, unmirrored, on the device."""
        places = torch.arange(len(self._indices)).split(batch_size)
        levels = torch.tensor(self.levels or [0])
        choices = (
            _Choice(part, torch.zeros(len(part), dtype=torch.bool), levels[part % len(levels)]) for part in places
        )
        return (_batch(self._read(choice), device) for choice in choices)

    @property
    def _indices(self) -> Tensor:
        return torch.arange(len(self.images) // self.stored) if self.chosen is None else self.chosen

    def _read(self, choice: _Choice) -> list[Tensor]:
        indices = self._indices[choice.indices]
        images = torch.from_numpy(self.images.take(indices * self.stored + choice.levels))
        labels = [] if self.labels is None else [self.labels[indices]]
        return [images, choice.mirrored, self.answers.take(indices, choice.mirrored), *labels]


@dataclass(frozen=True)
class LabelledImages:
    """Real images, uint8 (N, H, W, C), or their latents (N, c, h, w), with what is true of them (N, ...) as `task` has it."""

    images: NDArray[Any]
    truths: Tensor
    task: Task
    mirror: bool
    labels: Tensor | None = None
    from_teacher = False
    estimated = False

    def apart(self, wanted: int) -> tuple[Self, Self | None]:
        """Divide them as `apart` does; None: there are too few to hold any out."""
        parts = apart(len(self.images), wanted)
        kept, unseen = (
            replace(self, images=self.images[i.numpy()], truths=self.truths[i], labels=_of(self.labels, i))
            for i in parts
        )
        return kept, unseen if len(unseen.images) else None

    def batches(self, batch_size: int, run: TrainingRun, device: torch.device) -> Batches:
        images = to_tensor(self.images).to(device)
        truths = self.truths.to(device)

        def batch(step: int) -> Batch:
            indices, mirrored, _ = _choose(len(images), batch_size, self.mirror)
            x0, true = images[indices], truths[indices]
            answers = augmentation.where(mirrored, self.task.mirrored(true), true)
            return Batch(augmentation.mirrored(x0, mirrored), answers, _of(self.labels, indices))

        return batch

    def in_order(self, batch_size: int, device: torch.device) -> Iterator[Batch]:
        """Yield each of them once, unmirrored, on the device."""
        x0 = to_tensor(self.images)
        parts = torch.arange(len(x0)).split(batch_size)
        return (Batch(x0[i].to(device), self.truths[i].to(device), _of(self.labels, i)) for i in parts)


@dataclass(frozen=True)
class StreamedImages:
    """Pictures in files with their classes, too many for memory: each is read when it is drawn, and cropped at random."""

    files: LabelledFiles
    image_size: int
    task: Task
    mirror: bool
    from_teacher = False
    estimated = False

    def apart(self, wanted: int) -> tuple[Self, LabelledImages | None]:
        """Divide them as `apart` does; those held out are read at once, cropped to the centre."""
        paths, labels, names = self.files
        kept, unseen = (
            LabelledFiles([paths[i] for i in part], [labels[i] for i in part], names)
            for part in apart(len(paths), wanted)
        )
        if not unseen.paths:
            return self, None
        images = read_fitted(unseen.paths, self.image_size, "held-out pictures")
        truths = torch.tensor(unseen.labels)
        return replace(self, files=kept), LabelledImages(images.numpy(), truths, self.task, self.mirror)

    def batches(self, batch_size: int, run: TrainingRun, device: torch.device) -> Batches:
        read = TrainingBatches(self.files, self.image_size, batch_size, run.seed, self.mirror, device=device)
        return lambda step: Batch(*read(step))


HeldOut = AnsweredImages | LabelledImages
"""Images with answers that no expert has learned from."""


class _Choice(NamedTuple):
    """The images of a batch, which of them are mirrored, and the level of noise of stored estimates: (B,) each."""

    indices: Tensor
    mirrored: Tensor
    levels: Tensor | int = 0


def _batch(read: list[Tensor], device: torch.device) -> Batch:
    images, mirrored, answers, *labels = (part.to(device, non_blocking=True) for part in read)
    return Batch(augmentation.mirrored(to_tensor(images), mirrored), answers, *labels)


def _of(labels: Tensor | None, indices: Tensor) -> Tensor | None:
    return None if labels is None else labels[indices]


def _choose(
    count: int, batch_size: int, mirror: bool, generator: torch.Generator | None = None, levels: tuple[int, ...] = ()
) -> _Choice:
    """Draw a batch from this generator, by default torch's global one."""
    indices = torch.randint(count, (batch_size,), generator=generator)
    coin = torch.rand(batch_size, generator=generator)
    choice = _Choice(indices, coin < (0.5 if mirror else 0.0))
    if not levels:
        return choice
    places = torch.randint(len(levels), (batch_size,), generator=generator)
    return choice._replace(levels=torch.tensor(levels)[places])
