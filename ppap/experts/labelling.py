"""A teacher's answers on the clean images, computed once for every image and its mirror image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ppap.data import datasets
from ppap.data.shards import clean_images, finished_clean_images
from ppap.errors import NumericalError
from ppap.experts.lessons import Images
from ppap.graph.artefacts import IMAGE, MIRROR, labels_identity
from ppap.graph.layout import Layout, one_of
from ppap.networks import models, runtime
from ppap.networks.guide import Guide
from ppap.process.progress import Bar
from ppap.storage import files


@torch.inference_mode()
def answers_on(
    images: Images,
    guide: Guide,
    batch_size: int,
    mirror: bool,
    kept: torch.dtype,
    device: torch.device,
) -> dict[str, Tensor]:
    """The guide's answers on images (N, ...), in the precision that is `kept`: `image`, and `mirror` if asked for."""
    answers: dict[str, list[Tensor]] = {IMAGE: [], MIRROR: []}
    for chosen in torch.arange(len(images)).split(batch_size):
        batch = datasets.to_tensor(torch.from_numpy(images.take(chosen)).to(device))
        answers[IMAGE].append(guide(batch).to("cpu", kept))
        if mirror:
            answers[MIRROR].append(guide(batch.flip(-1)).to("cpu", kept))
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
    device = runtime.device(preset.runtime)
    kept = torch.float32 if preset.runtime.precision == "float32" else torch.float16
    clean = preset.clean_images
    shards = layout.shards_of_part(part)
    about = labels_identity(layout, guide_name, clean_images(layout, shards).firsts)
    parts = []
    with runtime.autocast(preset.runtime):
        for index in Bar(shards, f"labels of {guide_name}", unit="shard"):
            images = finished_clean_images(layout, range(index, index + 1))
            mirror = preset.dataset.mirror
            parts.append(answers_on(images, guide, clean.batch_size, mirror, kept, device))
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    check_finite(found, guide_name)
    files.write_tensors(layout.labels(guide_name, part), found, about)
