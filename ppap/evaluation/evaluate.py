"""Features of sample sets, once each, and the metrics that torch-fidelity makes of them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from tqdm import tqdm

from ppap.data import datasets
from ppap.data.shards import ShardedImages, samples
from ppap.errors import DataError
from ppap.evaluation import extractors
from ppap.evaluation.measured import write_measured
from ppap.graph import artefacts
from ppap.graph.artefacts import FEATURES, IMAGES, LOGITS, MU, PREDICTED, SIGMA, TARGET
from ppap.graph.layout import Layout
from ppap.networks import runtime
from ppap.preset import CLASSIFIER, EVALUATOR, REFERENCE, InceptionEvaluator, Preset
from ppap.preset.runs import Run, group
from ppap.storage import files, tensor_spec
from ppap.storage.tensor_spec import REMEDY


def write_features(layout: Layout, runs: list[Run]) -> None:
    """Extract and write the features of runs of one sampler and guide.

    Features of other methods that the file holds stay in it, unless these are all that the preset has;
    DataError if they are of other samples than are there now, or of another evaluator. Samples are also
    written as .npz, the format of ADM's evaluator.
    """
    sampler, guide = runs[0].sampler, runs[0].guide
    found = _others(layout, runs)
    for run in runs:
        for name, value in _features_of(layout, run).items():
            found[f"{run.method}/{name}"] = value
    about = {"sampler": sampler, "guide": guide} | _judge(layout)
    for method in {name.partition("/")[0] for name in found}:
        about |= _source(layout, Run(sampler, guide, method))
    files.write_tensors(layout.features(sampler, guide), found, about)


def _others(layout: Layout, runs: list[Run]) -> dict[str, Tensor]:
    """The features of other methods that the runs' file holds; none where the runs are all there are."""
    preset = layout.preset
    sampler, guide = runs[0].sampler, runs[0].guide
    path = layout.features(sampler, guide)
    if not path.exists() or set(group(preset, sampler, guide)) <= set(runs):
        return {}
    named = {run.method for run in runs}
    kept = {n: v for n, v in files.read_tensors(path).items() if n.partition("/")[0] not in named}
    known, judge = files.read_metadata(path), _judge(layout)
    for method in sorted({name.partition("/")[0] for name in kept}):
        made_from = judge | _source(layout, Run(sampler, guide, method))
        if not made_from.items() <= known.items():
            raise DataError(
                f"{path}: its features of {method} are of other samples, or of another evaluator; "
                f"name {method} too, or delete the file"
            )
    return kept


def _judge(layout: Layout) -> dict[str, str]:
    """What tells features from those of another evaluator."""
    paths = {name: layout.model(name) for name in (EVALUATOR, CLASSIFIER)}
    return {f"{name}_sha256": files.sha256(path) for name, path in paths.items() if path.exists()}


def _source(layout: Layout, run: Run) -> dict[str, str]:
    """What tells a run's features from those of other samples."""
    images = [layout.samples(run, shard) for shard in range(len(layout.sample_sizes))]
    paths = [path for image in images for path in (image, image.with_suffix(".safetensors"))]
    together = hashlib.sha256("".join(map(files.sha256, paths)).encode())
    return {f"{run.method}/samples_sha256": together.hexdigest()}


def _features_of(layout: Layout, run: Run) -> dict[str, Tensor]:
    images, targets = samples(layout, run)
    extracted = _extract(layout, images)
    everything = images.take(torch.arange(len(images)))
    files.write_arrays(layout.archive(run), arr_0=everything, arr_1=targets.numpy())
    return extracted | {TARGET: targets}


def write_reference(layout: Layout) -> None:
    """Extract and write the features of the real images that samples are compared with.

    Beside them the mean and covariance that FID uses, where their publisher gives them.
    """
    preset = layout.preset
    if isinstance(preset.evaluator, InceptionEvaluator):
        path = layout.model(REFERENCE)
        external = tensor_spec.read(path, artefacts.reference_images(), {"model": REFERENCE})
        artefacts.check_statistics(path, external)
        images = external[IMAGES].numpy()
        stored = {name: external[name] for name in (MU, SIGMA) if name in external}
    else:
        images, stored = datasets.load(layout, "train").images, {}
    found = _extract(layout, _InMemory(images)) | stored
    files.write_tensors(layout.reference, found, _judge(layout))


class _InMemory:
    def __init__(self, images: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return self.images[indices.numpy()]


@torch.inference_mode()
def _extract(layout: Layout, images: ShardedImages | _InMemory) -> dict[str, Tensor]:
    preset = layout.preset
    device = runtime.device(preset.runtime)
    extractor = extractors.create(layout)
    parts: dict[str, list[Tensor]] = {}
    batches = torch.arange(len(images)).split(preset.sampling.batch_size)
    for chosen in tqdm(batches, "features", unit="batch", mininterval=2):
        batch = torch.from_numpy(images.take(chosen)).permute(0, 3, 1, 2).to(device)
        for name, value in extractor(batch).items():
            parts.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def write_metrics(layout: Layout, sampler: str, guide: str) -> None:
    """Compute and write the metrics of every run in the features file of a sampler and guide.

    Each metric has a value per sampling seed, their mean and standard deviation.
    """
    preset = layout.preset
    reference = _read_reference(layout)
    found = _read_features(layout, sampler, guide, reference)
    sampling, methods = preset.sampling, {}
    for method, parts in sorted(found.items()):
        guided = preset.guidance(method).guided and _says_classes(preset)
        methods[method] = _over_seeds(preset, parts, reference, guided)
    about = {"sampler": sampler, "guide": guide}
    counts = {"samples_per_seed": sampling.samples, "seeds": list(sampling.seeds)}
    write_measured(layout, sampler, guide, about | counts | {"methods": methods})


def _read_reference(layout: Layout) -> dict[str, Tensor]:
    preset = layout.preset
    path = layout.reference
    found = tensor_spec.read(path, artefacts.reference_features(preset))
    artefacts.check_statistics(path, found)
    needed = preset.evaluator.neighbours + 1
    if len(found[FEATURES]) < needed:
        raise DataError(
            f"{path}: features of {len(found[FEATURES])} images; evaluator.neighbours needs {needed}"
        )
    return found


def _read_features(
    layout: Layout, sampler: str, guide: str, reference: dict[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """The features of a sampler and guide, by the preset's methods; DataError if there are none, or they are of
    another evaluator than the reference's."""
    preset = layout.preset
    path = layout.features(sampler, guide)
    by_method: dict[str, dict[str, Tensor]] = {}
    about = {"sampler": sampler, "guide": guide} | files.read_metadata(layout.reference)
    tensor_spec.check_metadata(path, about)
    tensors = files.read_tensors(path)
    for name, value in tensors.items():
        method, _, part = name.partition("/")
        by_method.setdefault(method, {})[part] = value
    tensor_spec.check(path, tensors, artefacts.features(preset, by_method))
    mine = {method: parts for method, parts in by_method.items() if method in preset.methods}
    if not mine:
        raise DataError(f"{path}: features of no method of the preset; {REMEDY}")
    width = reference[FEATURES].shape[1]
    for method, parts in mine.items():
        artefacts.check_targets(preset, path, parts[TARGET])
        if parts[FEATURES].shape[1] != width:
            raise DataError(
                f"{path}: {method} has {parts[FEATURES].shape[1]} features a sample, {layout.reference} "
                f"{width} an image; {REMEDY}"
            )
    return mine


def _over_seeds(
    preset: Preset, parts: dict[str, Tensor], reference: dict[str, Tensor], guided: bool
) -> dict[str, Any]:
    split = {name: part.split(preset.sampling.samples) for name, part in parts.items()}
    per_seed = []
    for i in range(len(preset.sampling.seeds)):
        one = {name: part[i] for name, part in split.items()}
        values = metrics_of(one, reference, preset.evaluator.neighbours)
        per_seed.append({k: v for k, v in values.items() if guided or k != "target_rate"})
    return {name: summarise([values[name] for values in per_seed]) for name in per_seed[0]}


def _says_classes(preset: Preset) -> bool:
    """Whether the evaluator can tell the target class: Inception's own classes are not the data set's."""
    judge = preset.evaluator
    return not isinstance(judge, InceptionEvaluator) or judge.classifier is not None


def metrics_of(
    samples: dict[str, Tensor], reference: dict[str, Tensor], neighbours: int
) -> dict[str, float]:
    """FID, Inception Score, precision, recall and target-class rate of one set of samples.

    Both hold features (N, D); samples also logits (N, K) and target classes (N,), and may hold
    `predicted` classes (N,) to use instead of the logits'; the reference may hold `mu` (D,) and `sigma`
    (D, D) to use instead of its features' own. Precision, recall and the rate are in [0, 1].
    """
    prc = prc_features_to_metric(
        samples[FEATURES], reference[FEATURES], prc_neighborhood=neighbours,
        prc_batch_size=10_000, save_cpu_ram=len(samples[FEATURES]) > 20_000, verbose=False,
    )  # fmt: skip
    isc = isc_features_to_metric(
        samples[LOGITS], splits=max(1, len(samples[LOGITS]) // 5000), shuffle=False
    )
    predicted = samples[PREDICTED] if PREDICTED in samples else samples[LOGITS].argmax(dim=1)
    statistics = [_statistics(part) for part in (samples, reference)]
    return {
        "fid": fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"],
        "is": isc["inception_score_mean"],
        "precision": prc["precision"],
        "recall": prc["recall"],
        "target_rate": float((predicted == samples[TARGET]).double().mean()),
    }


def _statistics(part: dict[str, Tensor]) -> dict[str, Any]:
    """Mean and covariance of a set's features, as torch-fidelity has them."""
    if MU in part:
        return {name: part[name].double().numpy() for name in (MU, SIGMA)}
    return fid_features_to_statistics(part[FEATURES].double())


def summarise(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation over seeds (None for one seed), and the values."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": spread, "values": values}
