"""Targets in a figure: each is drawn into an axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from ppap.report import style
from ppap.utils.tensor_spec import PICTURE, TARGET
from ppap.workflow.layout import Layout
from ppap.workflow.targets import compared_pictures, read, words


def shown_targets(layout: Layout, guide: str, numbers: Tensor) -> list[Callable[..., None]]:
    """Return what shows each of the targets with these numbers in an axis: the target, words, or the picture."""
    task, known, texts = layout.preset.task_of(guide), read(layout, guide), words(layout, guide)
    if texts:
        return [partial(style.say, text=texts[number]) for number in numbers]
    if compared_pictures(task):
        return [partial(style.show, image=picture) for picture in known[PICTURE][numbers].numpy()]
    return [partial(task.draw, target=target) for target in known[TARGET][numbers]]
