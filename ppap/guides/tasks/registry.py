"""The registry of tasks, by their names in presets. A user's own task is a subclass of `Task`."""

from __future__ import annotations

from typing import Any

from ppap.guides.tasks.classification import Classification
from ppap.guides.tasks.depth import Depth
from ppap.guides.tasks.embedding import Embedding
from ppap.guides.tasks.score import Scoring
from ppap.guides.tasks.segmentation import Segmentation
from ppap.guides.tasks.task import Task
from ppap.utils.errors import ConfigError
from ppap.utils.registry import Registry
from ppap.utils.settings import CLASSIFICATION, DEPTH, EMBEDDING, SCORE, SEGMENTATION


def _of_user(name: str, written: Any) -> type[Task]:
    if not (isinstance(written, type) and issubclass(written, Task)):
        raise ConfigError(f"task '{name}': is no subclass of {Task.__module__}.Task")
    return written


TASKS: Registry[type[Task]] = Registry(
    "task",
    {CLASSIFICATION: Classification, DEPTH: Depth, SEGMENTATION: Segmentation, EMBEDDING: Embedding, SCORE: Scoring},
    "class",
    _of_user,
)
