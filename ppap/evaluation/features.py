"""Features of sample sets and of the images that they are compared with, once each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.config import Preset
from ppap.config.runs import Run, group
from ppap.data import loading
from ppap.data.loading import Images, ImagesInMemory
from ppap.data.shards import samples, sha256_with
from ppap.evaluation import judging
from ppap.evaluation.evaluator import Evaluator, Extractor
from ppap.evaluation.evaluators import evaluator_of
from ppap.utils import files, tensor_spec
from ppap.utils.device import device_of
from ppap.utils.errors import DataError
from ppap.utils.progress import Bar
from ppap.utils.settings import REFERENCE
from ppap.utils.tensor_spec import Spec
from ppap.workflow import artefacts, real_images
from ppap.workflow.artefacts import IMAGES, MU, SIGMA, TARGET
from ppap.workflow.layout import Layout
from ppap.workflow.shards import samples


def write_features(layout: Layout, runs: list[Run], against: Sequence[str]) -> None:
    """Extract and write the features of runs of one sampler and guide, and how far guides' targets are met.

    Features of other methods that the file holds stay in it, unless these are all that the preset has;
    DataError if they are of other samples than are there now, or of another evaluator. Samples are also
    written as .npz, the format of ADM's evaluator.
    """
    sampler, guide = runs[0].sampler, runs[0].guide
    files.check_writable(layout.features(sampler, guide))
    judge = evaluator_of(layout.preset)
    about = {"sampler": sampler, "guide": guide} | judge.identity(layout)
    about |= judging.identity(layout, against)
    found, sources = _others(layout, runs, about)
    extract = judge.load(layout)
    for run in runs:
        said, source = _features_of(layout, run, against, judge, extract)
        found |= {f"{run.method}/{name}": value for name, value in said.items()}
        sources |= source
    files.write_tensors(layout.features(sampler, guide), found, about | sources)


def _others(
    layout: Layout, runs: list[Run], about: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The features of other methods that the runs' file holds, and their sources; none where the runs are all
    there are."""
    sampler, guide = runs[0].sampler, runs[0].guide
    path = layout.features(sampler, guide)
    if not path.exists() or set(group(layout.preset, sampler, guide)) <= set(runs):
        return {}, {}
    named = {run.method for run in runs}
    kept = {n: v for n, v in files.read_tensors(path).items() if n.partition("/")[0] not in named}
    known = files.read_metadata(path)
    sources: dict[str, str] = {}
    for method in sorted({name.partition("/")[0] for name in kept}):
        source = _source(layout, Run(sampler, guide, method))
        if not (about | source).items() <= known.items():
            raise DataError(
                f"{path}: its features of {method} are of other samples, or of another evaluator; "
                f"name {method} too, or delete the file"
            )
        sources |= source
    return kept, sources


def _source(layout: Layout, run: Run, images: NDArray[np.uint8] | None = None) -> dict[str, str]:
    """What tells a run's features from those of other samples. `images`, if they have been read: not twice."""
    sizes = layout.sample_sizes
    paths = [layout.finished(layout.samples(run, shard)) for shard in range(len(sizes))]
    if images is None:
        hashes = list(map(files.sha256, paths))
    else:
        parts = np.split(images, np.cumsum(sizes)[:-1])
        hashes = [sha256_with(path, part) for path, part in zip(paths, parts, strict=True)]
    targets = (files.sha256(layout.targets(run, shard)) for shard in range(len(sizes)))
    both = (digest for shard in zip(hashes, targets, strict=True) for digest in shard)
    return {f"{run.method}/samples_sha256": hashlib.sha256("".join(both).encode()).hexdigest()}


def _features_of(
    layout: Layout, run: Run, against: Sequence[str], judge: Evaluator, extract: Extractor
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A run's features, its targets and how far they are met, and the source of it all. Its samples are archived."""
    images, numbers = samples(layout, run)
    said = _extract(layout.preset, images, extract)
    said |= judging.statistics(layout, against, images, said, judge)
    everything = images.take(torch.arange(len(images)))
    files.write_arrays(layout.archive(run), arr_0=everything, arr_1=numbers.numpy())
    return said | {TARGET: numbers}, _source(layout, run, everything)


def write_reference(layout: Layout) -> None:
    """Extract and write the features of the real images that samples are compared with.

    Beside them the mean and covariance that FID uses, where their publisher gives them.
    """
    files.check_writable(layout.reference)
    preset, judge = layout.preset, evaluator_of(layout.preset)
    stored = {}
    if preset.evaluator.compared_with:
        path = layout.model(REFERENCE)
        external = tensor_spec.read(path, artefacts.reference_images(), {"model": REFERENCE})
        artefacts.check_statistics(path, external)
        images = external[IMAGES].numpy()
        if judge.has_statistics:
            stored = {name: external[name] for name in (MU, SIGMA) if name in external}
    else:
        images = real_images.load(layout, "train").images[: preset.evaluator.most_compared]
    said = _extract(preset, ImagesInMemory(images), judge.load(layout))
    files.write_tensors(layout.reference, said | stored, judge.identity(layout))


@torch.inference_mode()
def _extract(preset: Preset, images: Images, extract: Extractor) -> dict[str, Tensor]:
    device = device_of(preset.runtime)
    parts: dict[str, list[Tensor]] = {}
    indices = torch.arange(len(images)).split(preset.sampling.judged_at_once)
    batches = loading.batches(images, indices, device)
    for batch in Bar(batches, "features", len(indices), unit="batch"):
        for name, value in extract(batch.permute(0, 3, 1, 2)).items():
            parts.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


# -- what their files hold ---------------------------------------------------------------------------


def described(judge: Evaluator, methods: Iterable[str], guides: Iterable[str]) -> Spec:
    """What is said of the samples of several methods, held against guides' targets, whose numbers are there too."""
    count = judge.preset.sampling.total
    one = {**judge.describe(count), **artefacts.targets(count)}
    for guide in guides:
        one |= judging.described(judge.preset, guide, count)
    return {f"{method}/{name}": spec for method in methods for name, spec in one.items()}


def described_reference(judge: Evaluator) -> Spec:
    """What the evaluator says of the real images, and the statistics that came with these."""
    beside = artefacts.reference_images() if judge.has_statistics else {}
    statistics = {name: spec for name, spec in beside.items() if name != IMAGES}
    return {**judge.describe("images"), **statistics}
