"""Samples held against the targets of guides: statistics an entry a sample, by the judges of their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ppap.config import Preset
from ppap.data import datasets, loading
from ppap.data.loading import Images
from ppap.evaluation.evaluator import Evaluator
from ppap.guides.tasks.classification import hits
from ppap.guides.tasks.task import Task
from ppap.utils import files
from ppap.utils.device import device_of
from ppap.utils.tensor_spec import Spec, TensorSpec, dtype_of
from ppap.workflow import networks as models
from ppap.workflow import targets
from ppap.workflow.artefacts import LOGITS, PREDICTED
from ppap.workflow.layout import Layout

Said = Mapping[str, Tensor]
"""What the evaluator said of a run's samples."""


def statistics(
    layout: Layout,
    guides: Sequence[str],
    images: Images,
    said: Said,
    evaluator: Evaluator,
) -> dict[str, Tensor]:
    """What the judges say of samples, held against guides' targets: GUIDE.NAME, (N, ...) each."""
    found: dict[str, Tensor] = {}
    for guide in guides:
        if layout.preset.task(guide).of_pictures:
            each = _of_pictures(layout, guide, images)
        else:
            each = _of_classes(layout, guide, said, evaluator)
        found |= {f"{guide}.{name}": values for name, values in each.items()}
    return found


def _of_classes(layout: Layout, guide: str, said: Said, evaluator: Evaluator) -> dict[str, Tensor]:
    """Of what the evaluator said, if it speaks of classes at all."""
    numbers = targets.numbers(layout, guide)
    if PREDICTED in said:
        return hits(said[PREDICTED], numbers)
    return hits(said[LOGITS].argmax(dim=1), numbers) if evaluator.says_classes else {}


@torch.inference_mode()
def _of_pictures(layout: Layout, guide: str, images: Images) -> dict[str, Tensor]:
    """Of what the judge of the guide's task says, if there is one."""
    preset, name = layout.preset, layout.preset.judge(guide)
    if name is None:
        return {}
    judge, device = models.load_guide(layout, name), device_of(preset.runtime)
    task, take = targets.task_of(preset, guide), targets.taker(layout, guide)
    numbers, parts = targets.numbers(layout, guide), []
    indices = torch.arange(len(images)).split(preset.sampling.judged_at_once)
    for chosen, batch in zip(indices, loading.batches(images, indices, device), strict=True):
        wanted = take(numbers[chosen].to(device))
        parts.append(task.statistics(judge(datasets.to_tensor(batch)).float(), wanted))
    return {stat: torch.cat([part[stat].cpu() for part in parts]) for stat in parts[0]}


def described(preset: Preset, guide: str, count: int) -> Spec:
    """The statistics of a guide's task for this number of samples."""
    example = targets.task_of(preset, guide)
    answers, wanted = torch.zeros(1, *example.shape), torch.zeros(1, *example.target_shape)
    whole = example.target_of(answers).dtype
    each = example.statistics(answers, wanted.to(whole))
    return {
        f"{guide}.{name}": TensorSpec((dtype_of(v),), (count, *v.shape[1:]), optional=True)
        for name, v in each.items()
    }


def scores(preset: Preset, guide: str, found: Mapping[str, Tensor]) -> dict[str, float]:
    """The scores of a set of samples; none where nobody judges them."""
    mine = {n.removeprefix(f"{guide}."): v for n, v in found.items() if n.startswith(f"{guide}.")}
    task: Task = targets.task_of(preset, guide)
    return task.scored(mine) if mine else {}


def identity(layout: Layout, guides: Sequence[str]) -> dict[str, str]:
    """What tells statistics from those of other judges or targets."""
    paths = layout.held_against(guides)
    return {str(path.relative_to(layout.root)): files.sha256(path) for path in paths}


def guides_in(preset: Preset, names: Iterable[str]) -> list[str]:
    """The guides whose statistics are among these: METHOD/GUIDE.NAME each."""
    found = {name.partition("/")[2].partition(".")[0] for name in names if "." in name}
    return sorted(found & preset.guides.keys())
