"""The kinds of tasks, by their names in presets: facts about each, and the class that does it, loaded when built."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from ppap.utils.errors import UserCodeError
from ppap.utils.registry import Registry

if TYPE_CHECKING:
    from ppap.guides.tasks.task import Task


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

    The user's own kind is a subclass of `ppap.guides.tasks.task.Task`; it states these facts as class attributes of the
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


@dataclass(frozen=True)
class UserKind(TaskKind):
    """A task of the user's own, by its name in the preset."""

    name: str = ""

    def build(self, data: Data) -> Task:
        """The task, whose errors name it."""
        from ppap.guides.tasks.user_tasks import UserTask

        return UserTask(self.name, self.load(), data)


FACTS: dict[str, Any] = {
    fact.name: fact.default for fact in fields(TaskKind) if fact.name != "load"
}
_OUTPUTS = (None, "classes", "segments")
_LISTS = {"reads": ("classes", "segments", "image_size"), "distils_with": ("tau", "reduction")}
_NEEDED = ("scores", "said", "believed")


def _ours(place: str) -> Callable[[], type[Task]]:
    def load() -> type[Task]:
        found: type[Task] = pkgutil.resolve_name(f"ppap.guides.tasks.{place}")
        return found

    return load


def _of_user(name: str, found: Any) -> TaskKind:
    """The kind that a class of the user's own is; UserCodeError if it is no task, or states what is no fact."""
    from ppap.guides.tasks.task import Task

    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserCodeError(f"task '{name}': is no subclass of ppap.guides.tasks.task.Task")
    missing = [*sorted(found.__abstractmethods__), *(n for n in _NEEDED if not hasattr(found, n))]
    if missing:
        raise UserCodeError(f"task '{name}': lacks {', '.join(missing)}")
    facts = {fact: getattr(found, fact, default) for fact, default in FACTS.items()}
    for problem in _problems(facts):
        raise UserCodeError(f"task '{name}': {problem} was expected")
    return UserKind(lambda: found, **facts, name=name)


def _problems(facts: dict[str, Any]) -> Iterator[str]:
    """What facts of a user's task are, and what they may be."""
    for fact in ("of_pictures", "own_truth"):
        if not isinstance(facts[fact], bool):
            yield f"{fact} is {facts[fact]!r}; True or False"
    if facts["outputs"] not in _OUTPUTS:
        yield f"outputs is {facts['outputs']!r}; one of {', '.join(map(repr, _OUTPUTS))}"
    for fact, known in _LISTS.items():
        if not isinstance(facts[fact], tuple) or not set(facts[fact]) <= {*known}:
            yield f"{fact} is {facts[fact]!r}; a tuple of some of {', '.join(map(repr, known))}"


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
