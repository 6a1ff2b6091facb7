"""The kinds of tasks, by their names in presets: facts about each, and the class that does it, loaded when built."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from ppap.errors import UserCodeError
from ppap.registry import Registry

if TYPE_CHECKING:
    from ppap.tasks.task import Task


class Data(Protocol):
    """A data set's section of a preset, as far as tasks read it."""

    @property
    def classes(self) -> int: ...

    @property
    def segments(self) -> int | None: ...

    @property
    def image_size(self) -> int: ...


@dataclass(frozen=True)
class TaskKind:
    """What the rest of the package knows of one kind of task.

    The user's own kind is a subclass of `ppap.tasks.task.Task`; it states these facts as class attributes of the
    same names, where they differ from the defaults here.
    """

    load: Callable[[], type[Task]]
    of_pictures: bool = True
    """Samples are guided to what pictures show, such as their depth; otherwise to classes, by number."""
    own_truth: bool = False
    """What is true of a real picture is computed from the picture; otherwise the data set says it."""
    outputs: str | None = None
    """The key of `dataset` that says how many numbers the network gives, an image or a pixel; None: one."""
    reads: tuple[str, ...] = ()
    """Keys of `dataset` that decide the shape of an answer, beside `outputs`."""
    distils_with: tuple[str, ...] = ()
    """Keys of `experts` that its distillation reads."""

    def build(self, data: Data) -> Task:
        """The task, on the images of a data set."""
        return self.load()(data)


FACTS: dict[str, Any] = {
    fact.name: fact.default for fact in fields(TaskKind) if fact.name != "load"
}


def _ours(place: str) -> Callable[[], type[Task]]:
    def load() -> type[Task]:
        found: type[Task] = pkgutil.resolve_name(f"ppap.tasks.{place}")
        return found

    return load


def _of_user(name: str, found: Any) -> TaskKind:
    """The kind that a class of the user's own is; UserCodeError if it is no task, or states what is no fact."""
    from ppap.tasks.task import Task

    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserCodeError(f"task '{name}': is no subclass of ppap.tasks.task.Task")
    facts = {fact: getattr(found, fact, default) for fact, default in FACTS.items()}
    for fact in ("of_pictures", "own_truth"):
        if not isinstance(facts[fact], bool):
            raise UserCodeError(
                f"task '{name}': {fact} is {facts[fact]!r}; True or False was expected"
            )
    return TaskKind(lambda: found, **facts)


CLASSIFICATION, DEPTH, SEGMENTATION = "classification", "depth", "segmentation"
TASKS = Registry(
    "task",
    {
        CLASSIFICATION: TaskKind(
            _ours("classification:Classification"),
            of_pictures=False,
            outputs="classes",
            distils_with=("tau", "reduction"),
        ),
        DEPTH: TaskKind(_ours("depth:Depth"), reads=("image_size",)),
        SEGMENTATION: TaskKind(
            _ours("segmentation:Segmentation"),
            outputs="segments",
            reads=("image_size",),
            distils_with=("tau",),
        ),
    },
    "class",
    _of_user,
)
