"""The interface of tasks: what a guide is asked for, how it learns that, and how samples are judged by it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor

from ppap.diffusion.guidance import Objective
from ppap.utils.errors import ConfigError

Maps = Literal["nearness", "depth", "metres"]


class Score(NamedTuple):
    """A number that says how well samples meet their targets: its name in files, and how tables print it."""

    name: str
    title: str
    "With an arrow to where it is better."
    meaning: str
    "A sentence, for the notes of tables."
    digits: int = 3
    factor: float = 1
    unit: str = ""
    of_truth: str = ""
    "The title where the truth of a picture is the target; `title` if that does as well."


class Data(Protocol):
    """A data set's section of a preset, as far as tasks read it."""

    @property
    def classes(self) -> int: ...

    @property
    def segments(self) -> int | None: ...

    @property
    def image_size(self) -> int: ...


class Settings(Protocol):
    """The section `experts` of a preset, as far as distillation reads it."""

    @property
    def tau(self) -> float: ...

    @property
    def reduction(self) -> Any: ...


@dataclass(eq=False)
class Task(ABC):
    """One task on the images of a data set.

    Answers of a guide are tensors (B, *shape); truths (of real pictures) and targets (of samples) are what
    `supervised` and `objective` take. What the rest of the package knows of a task are its class attributes.
    """

    scores: ClassVar[tuple[Score, ...]]
    """The scores that are computed from the judge's statistics."""
    said: ClassVar[str]
    """A guide's answer in words, for errors: "a number for each class"."""
    of_pictures: ClassVar[bool] = True
    """Samples are guided to what pictures show, such as their depth; otherwise to classes, by number."""
    own_truth: ClassVar[bool] = False
    """The truth of a real picture is computed from the picture; otherwise the data set has it."""
    own_look: ClassVar[bool] = False
    """A picture's truth is a network's answer on it: the guide's is the target; a judge holds samples to its own."""
    of_words: ClassVar[bool] = False
    """Words may be targets, by vectors that a model gives of them and of pictures."""
    outputs: ClassVar[Literal["classes", "segments"] | None] = None
    """The key of `dataset` that says how many numbers the network gives, an image or a pixel; None: one."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Keys of `dataset` that decide the shape of an answer, beside `outputs`."""
    distils_with: ClassVar[tuple[str, ...]] = ()
    """Keys of `experts` that its distillation reads."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Arguments that `task_options` may give; a task of the user's own takes those of its `__init__`."""

    data: Data
    maps: Maps = field(default="nearness", init=False)
    """The meaning of the numbers of a depth map in a file."""

    # -- a guide's answer ------------------------------------------------------------------------

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one image's answer, as losses and objectives see it."""

    @property
    def target_shape(self) -> tuple[int, ...]:
        """The shape of one image's truth, and of one target."""
        return self.shape

    @property
    def numbers(self) -> int:
        """The count of numbers that a network gives, an image or a pixel."""
        return getattr(self.data, self.outputs) if self.outputs else 1

    def fitted(self, answers: Tensor) -> Tensor:
        """Bring a network's answers to this shape, where they are at another resolution."""
        return answers

    def mirrored(self, truths: Tensor) -> Tensor:
        """Turn what is true of images into what is true of their mirror images."""
        return truths

    # -- learning --------------------------------------------------------------------------------

    def truth(self, images: Tensor, known: Mapping[str, Tensor], name: str) -> Tensor:
        """Say what is true of real images (N, C, H, W) in [-1, 1]: what the data set says under the task's name.

        ConfigError if it says nothing.
        """
        if name not in known:
            raise ConfigError(f"dataset: says nothing that {name} could learn from")
        return known[name]

    @abstractmethod
    def supervised(self, answers: Tensor, truths: Tensor) -> Tensor:
        """Compute the loss of answers beside what is true: one number."""

    def distillation(self, student: Tensor, teacher: Tensor, settings: Settings) -> Tensor:
        """Compute the loss of a student's answers on x_t beside the teacher's on x_0: one number (paper, section 4.2).

        By default that of answers beside the truth.
        """
        return self.supervised(student, teacher)

    # -- guidance --------------------------------------------------------------------------------

    @abstractmethod
    def objective(self, targets: Tensor) -> Objective:
        """Make what guidance is to raise, a function of answers: one number an image, (B,)."""

    def target_of(self, answers: Tensor) -> Tensor:
        """Make targets of answers on pictures: samples are to show the same."""
        return answers

    @property
    def standing_target(self) -> Tensor | None:
        """The target of samples where none is given (...); None: one must be."""
        return None

    def together(self, targets: Tensor) -> Tensor:
        """Make targets of those in several files (N, ...): one for each sample, or one for all of them (1, ...)."""
        return targets

    def read_target(self, path: Path) -> Tensor | None:
        """Read the target in a file, (1, ...); None if the file is a picture, which the guide itself is to look at.

        DataError if it is neither, or no such target.
        """
        return None

    @abstractmethod
    def belief(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Say how confident a guide is that its targets are met, at most 1: (B,)."""

    believed: ClassVar[str]
    """The name of `belief` on a figure's axis."""
    maximised: ClassVar[str] = "the objective"
    """The name of `objective` in a figure's title; `{target}` stands for the target class."""

    # -- judging ---------------------------------------------------------------------------------

    @abstractmethod
    def statistics(self, answers: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Reduce a judge's answers on samples to what scores need: each (B, ...), of whole numbers or float32."""

    def held_against(self, answers: Tensor, targets: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        """Reduce answers on samples (B, ...) likewise; of all `targets` (M, ...) each has the one with its number (B,)."""
        return self.statistics(answers, targets[numbers])

    def scored(self, statistics: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute the scores of samples with these statistics, by name; by default their means."""
        return {name: float(values.double().mean()) for name, values in statistics.items()}

    # -- figures ---------------------------------------------------------------------------------

    def draw(self, axis: Any, target: Tensor) -> None:
        """Show a target in a figure's axis; by default in words."""
        text = str(target.item()) if target.numel() == 1 else f"{tuple(target.shape)}"
        axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)
