"""A teacher's answers on the clean images, computed once for every image and its mirror image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ppap.data import datasets
from ppap.data.gathering import Images, read_ahead
from ppap.guides.guide import Guide
from ppap.utils import files
from ppap.utils.device import device_of
from ppap.utils.errors import NumericalError
from ppap.utils.mixed_precision import autocast
from ppap.utils.progress import Bar
from ppap.workflow import networks as models
from ppap.workflow.artefacts import IMAGE, MIRROR, labels_identity
from ppap.workflow.layout import Layout, one_of
from ppap.workflow.shards import clean_images, finished_clean_images


@torch.inference_mode()
def answers_on(
    images: Images,
    batches: Sequence[Tensor],
    guide: Guide,
    mirror: bool,
    kept: torch.dtype,
    device: torch.device,
    name: str = "",
) -> dict[str, Tensor]:
    """The guide's answers on batches of images, in the precision that is `kept`: `image`, and `mirror` if asked for.

    With a name, progress is shown under it.
    """
    answers: dict[str, list[Tensor]] = {IMAGE: [], MIRROR: []}
    bar = Bar(total=len(batches), name=name, unit="batch", disable=not name)
    with read_ahead(images, batches, device) as gathered, bar:
        for found in gathered:
            batch = datasets.to_tensor(found)
            answers[IMAGE].append(guide(batch).to("cpu", kept))
            if mirror:
                answers[MIRROR].append(guide(batch.flip(-1)).to("cpu", kept))
            bar.update()
    with torch.autocast("cpu", enabled=False):  # which joins no tensors of a third precision
        return {name: torch.cat(batches) for name, batches in answers.items() if batches}


def check_finite(answers: Mapping[str, Tensor], guide: str) -> None:
    """NumericalError if an answer is not finite in the precision that was kept."""
    for found in answers.values():
        if not torch.isfinite(found).all():
            raise NumericalError(f"labels of {guide}: an answer is not finite in {found.dtype}")


@torch.inference_mode()
def label(layout: Layout, guide_name: str, part: int) -> None:
    """Write the guide's answers on some shards: `image`, and `mirror` where a mirror image is valid.

    In half precision, unless the preset says float32. NumericalError if an answer does not fit.
    """
    preset = layout.preset
    one_of(layout.label_sizes, part, "part")
    files.check_writable(layout.labels(guide_name, part))
    guide = models.load_guide(layout, guide_name)
    models.hold_precision(layout, guide_name, guide)
    device = device_of(preset.runtime)
    kept = torch.float32 if preset.runtime.precision == "float32" else torch.float16
    clean, shards = preset.clean_images, layout.shards_of_part(part)
    about = labels_identity(layout, guide_name, clean_images(layout, shards).firsts)
    images = finished_clean_images(layout, shards)
    each = torch.arange(len(images)).split(clean.shard_size)
    batches = [batch for shard in each for batch in shard.split(clean.batch_size)]
    name = f"labels of {guide_name}"
    with autocast(preset.runtime):
        found = answers_on(images, batches, guide, preset.dataset.mirror, kept, device, name)
    check_finite(found, guide_name)
    files.write_tensors(layout.labels(guide_name, part), found, about)
