"""Features of sample sets, once each, and the metrics that torch-fidelity makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import create_feature_extractor
from tqdm import tqdm

from ppap import datasets, files, models, runtime
from ppap.config import Config
from ppap.errors import DataError
from ppap.guides import Guide, features_and_logits
from ppap.runs import Layout, Run
from ppap.shards import ShardedImages

FEATURES, LOGITS, TARGET = "features", "logits", "target"


def register_classifier(name: str, guide: Guide) -> None:
    """Make a classifier known to torch-fidelity: penultimate features, and logits for the Inception Score."""

    class Classifier(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
            super().__init__(name, features_list)
            self.guide = guide

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return FEATURES, LOGITS

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return LOGITS if metric == "isc" else FEATURES

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:
            """uint8 (B, C, H, W) to features (B, D) and logits (B, K)."""
            images = self.guide.prepare(input.float() / 127.5 - 1)
            outputs = dict(
                zip(
                    (FEATURES, LOGITS), features_and_logits(self.guide.network, images), strict=True
                )
            )
            return tuple(outputs[name].float() for name in self.features_list)

    register_feature_extractor(name, Classifier)


def write_features(config: Config, layout: Layout, runs: list[Run]) -> None:
    """Extract and write the features of runs of one sampler and guide.

    Their samples are also written as .npz, the format of ADM's evaluator.
    """
    found: dict[str, Tensor] = {}
    for run in runs:
        for name, value in _features_of(config, layout, run).items():
            found[f"{run.method}/{name}"] = value
    files.write_tensors(layout.features(runs[0].sampler, runs[0].guide), found)


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
    """Extract and write the features of the real images that samples are compared with."""
    data = datasets.load(config.dataset, "train")
    files.write_tensors(layout.reference, _extract(config, layout, _InMemory(data.images)))


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
    name = f"ppap-{files.sha256(layout.model(models.EVALUATOR))}"
    if name not in FEATURE_EXTRACTORS_REGISTRY:
        register_classifier(name, models.load_guide(config, layout, models.EVALUATOR))
    extractor = create_feature_extractor(
        name, [FEATURES, LOGITS], cuda=device.type == "cuda", verbose=False
    )
    parts: dict[str, list[Tensor]] = {FEATURES: [], LOGITS: []}
    batches = torch.arange(len(images)).split(config.sampling.batch_size)
    for chosen in tqdm(batches, "features", unit="batch", mininterval=2):
        batch = torch.from_numpy(images.take(chosen)).permute(0, 3, 1, 2).to(device)
        for name, value in zip((FEATURES, LOGITS), extractor(batch), strict=True):
            parts[name].append(value.cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def write_metrics(config: Config, layout: Layout, sampler: str, guide: str) -> None:
    """Compute and write the metrics of every run in the features file of a sampler and guide.

    Each metric has a value per sampling seed, their mean and standard deviation.
    """
    path = layout.features(sampler, guide)
    found, reference = files.read_tensors(path), files.read_tensors(layout.reference)
    sampling, methods = config.sampling, {}
    for method in sorted({name.partition("/")[0] for name in found} & config.methods.keys()):
        parts = {n: found[f"{method}/{n}"] for n in (FEATURES, LOGITS, TARGET)}
        if len(parts[FEATURES]) != sampling.total:
            raise DataError(
                f"{path}: features of {len(parts[FEATURES])} images of {method}, not {sampling.total}"
            )
        guided = config.methods[method].guidance != "none"
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


def metrics_of(
    samples: dict[str, Tensor], reference: dict[str, Tensor], neighbours: int
) -> dict[str, float]:
    """FID, Inception Score, precision, recall and target-class rate of one set of samples.

    Both hold features (N, D); samples also logits (N, K) and target classes (N,). Precision, recall
    and the rate are in [0, 1].
    """
    statistics = [
        fid_features_to_statistics(part[FEATURES].double()) for part in (samples, reference)
    ]
    prc = prc_features_to_metric(
        samples[FEATURES], reference[FEATURES], prc_neighborhood=neighbours,
        prc_batch_size=10_000, save_cpu_ram=len(samples[FEATURES]) > 20_000, verbose=False,
    )  # fmt: skip
    isc = isc_features_to_metric(
        samples[LOGITS], splits=max(1, len(samples[LOGITS]) // 5000), shuffle=False
    )
    hits = samples[LOGITS].argmax(dim=1) == samples[TARGET]
    return {
        "fid": fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"],
        "is": isc["inception_score_mean"],
        "precision": prc["precision"],
        "recall": prc["recall"],
        "target_rate": float(hits.double().mean()),
    }


def summarise(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation over seeds (None for one seed), and the values."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": spread, "values": values}
