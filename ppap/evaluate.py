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

from ppap import datasets, extractors, files, runtime
from ppap.config import CLASSIFIER, EVALUATOR, REFERENCE, Config, InceptionEvaluator
from ppap.errors import DataError
from ppap.extractors import FEATURES, LOGITS, PREDICTED
from ppap.realdata import IMAGES, MU, SIGMA
from ppap.runs import Layout, Run, group
from ppap.shards import ShardedImages

TARGET = "target"


def write_features(config: Config, layout: Layout, runs: list[Run]) -> None:
    """Extract and write the features of runs of one sampler and guide.

    Features of other methods that the file holds stay in it, unless these are all that the preset has;
    DataError if they are of other samples than are there now, or of another evaluator. Samples are also
    written as .npz, the format of ADM's evaluator.
    """
    sampler, guide = runs[0].sampler, runs[0].guide
    found = _others(config, layout, runs)
    for run in runs:
        for name, value in _features_of(config, layout, run).items():
            found[f"{run.method}/{name}"] = value
    about = _judge(layout)
    for method in {name.partition("/")[0] for name in found}:
        about |= _source(layout, Run(sampler, guide, method))
    files.write_tensors(layout.features(sampler, guide), found, about)


def _others(config: Config, layout: Layout, runs: list[Run]) -> dict[str, Tensor]:
    """The features of other methods that the runs' file holds; none where the runs are all there are."""
    sampler, guide = runs[0].sampler, runs[0].guide
    path = layout.features(sampler, guide)
    if not path.exists() or set(group(config, sampler, guide)) <= set(runs):
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


def _features_of(config: Config, layout: Layout, run: Run) -> dict[str, Tensor]:
    shape = (config.dataset.image_size, config.dataset.image_size, config.dataset.channels)
    paths = [layout.samples(run, shard) for shard in range(len(layout.sample_sizes))]
    images = ShardedImages(paths, layout.sample_sizes, shape)
    targets = torch.cat(
        [files.read_tensors(path.with_suffix(".safetensors"))["target"] for path in paths]
    )
    if len(targets) != len(images):
        raise DataError(
            f"{paths[0].parent}: {len(targets)} target classes for {len(images)} images"
        )
    extracted = _extract(config, layout, images)
    everything = images.take(torch.arange(len(images)))
    files.write_arrays(layout.archive(run), arr_0=everything, arr_1=targets.numpy())
    return extracted | {TARGET: targets}


def write_reference(config: Config, layout: Layout) -> None:
    """Extract and write the features of the real images that samples are compared with.

    Beside them the mean and covariance that FID uses, where their publisher gives them.
    """
    if isinstance(config.evaluator, InceptionEvaluator):
        external = files.read_tensors(layout.model(REFERENCE))
        images = external[IMAGES].numpy()
        stored = {name: external[name] for name in (MU, SIGMA) if name in external}
    else:
        images, stored = datasets.load(config, layout, "train").images, {}
    files.write_tensors(layout.reference, _extract(config, layout, _InMemory(images)) | stored)


class _InMemory:
    def __init__(self, images: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return self.images[indices.numpy()]


@torch.inference_mode()
def _extract(
    config: Config, layout: Layout, images: ShardedImages | _InMemory
) -> dict[str, Tensor]:
    device = runtime.device(config.runtime)
    extractor = extractors.create(config, layout)
    parts: dict[str, list[Tensor]] = {}
    batches = torch.arange(len(images)).split(config.sampling.batch_size)
    for chosen in tqdm(batches, "features", unit="batch", mininterval=2):
        batch = torch.from_numpy(images.take(chosen)).permute(0, 3, 1, 2).to(device)
        for name, value in extractor(batch).items():
            parts.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def write_metrics(config: Config, layout: Layout, sampler: str, guide: str) -> None:
    """Compute and write the metrics of every run in the features file of a sampler and guide.

    Each metric has a value per sampling seed, their mean and standard deviation.
    """
    path = layout.features(sampler, guide)
    found, reference = files.read_tensors(path), files.read_tensors(layout.reference)
    sampling, methods = config.sampling, {}
    for method in sorted({name.partition("/")[0] for name in found} & config.methods.keys()):
        parts = {
            name.partition("/")[2]: value
            for name, value in found.items()
            if name.startswith(f"{method}/")
        }
        if len(parts[FEATURES]) != sampling.total:
            raise DataError(
                f"{path}: features of {len(parts[FEATURES])} images of {method}, not {sampling.total}"
            )
        guided = config.methods[method].guidance != "none" and _says_classes(config)
        methods[method] = _over_seeds(config, parts, reference, guided)
    about = {"sampler": sampler, "guide": guide}
    counts = {"samples_per_seed": sampling.samples, "seeds": list(sampling.seeds)}
    files.write_json(layout.metrics(sampler, guide), about | counts | {"methods": methods})


def _over_seeds(
    config: Config, parts: dict[str, Tensor], reference: dict[str, Tensor], guided: bool
) -> dict[str, Any]:
    split = {name: part.split(config.sampling.samples) for name, part in parts.items()}
    per_seed = []
    for i in range(len(config.sampling.seeds)):
        one = {name: part[i] for name, part in split.items()}
        values = metrics_of(one, reference, config.evaluator.neighbours)
        per_seed.append({k: v for k, v in values.items() if guided or k != "target_rate"})
    return {name: summarise([values[name] for values in per_seed]) for name in per_seed[0]}


def _says_classes(config: Config) -> bool:
    """Whether the evaluator can tell the target class: Inception's own classes are not the data set's."""
    judge = config.evaluator
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
