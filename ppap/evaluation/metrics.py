"""FID, Inception Score, precision and recall, as torch-fidelity computes them from features, and the tasks' scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from ppap.config import Preset
from ppap.evaluation import judging
from ppap.evaluation.evaluator import Evaluator
from ppap.evaluation.evaluators import evaluator_of
from ppap.evaluation.features import described, described_reference
from ppap.evaluation.measured import write_measured
from ppap.utils import files, tensor_spec
from ppap.utils.errors import DataError
from ppap.utils.settings import UNGUIDED
from ppap.utils.tensor_spec import REMEDY
from ppap.workflow import artefacts, targets
from ppap.workflow.artefacts import FEATURES, LOGITS, MU, SIGMA, TARGET
from ppap.workflow.layout import Layout


def write_metrics(layout: Layout, sampler: str, guide: str) -> None:
    """Compute and write the metrics of every run in the features file of a sampler and guide.

    Each metric has a value per sampling seed, their mean and standard deviation. Samples that guides share have
    scores for each of them.
    """
    preset, judge = layout.preset, evaluator_of(layout.preset)
    reference = _read_reference(layout, judge)
    guides, found = _read_features(layout, sampler, guide, reference, judge)
    sampling = preset.sampling
    methods: dict[str, Any] = {}
    shared: dict[str, dict[str, Any]] = {}
    names: dict[str, list[str]] = {}
    for method, parts in sorted(found.items()):
        methods[method] = _over_seeds(preset, parts, partial(_of_features, preset, reference))
        for target in guides:
            scores = _over_seeds(preset, parts, partial(judging.scores, preset, target))
            names[target] = list(scores)
            if guide != UNGUIDED:
                methods[method] |= scores
            elif scores:
                shared.setdefault(target, {})[method] = scores
    about = {"sampler": sampler, "guide": guide}
    counts = {"samples_per_seed": sampling.samples, "seeds": list(sampling.seeds)}
    beside = {"scores": names} | ({"shared": shared} if shared else {})
    write_measured(layout, sampler, guide, about | counts | {"methods": methods} | beside)


def _read_reference(layout: Layout, judge: Evaluator) -> dict[str, Tensor]:
    path = layout.reference
    found = tensor_spec.read(path, described_reference(judge))
    artefacts.check_statistics(path, found)
    needed = layout.preset.evaluator.neighbours + 1
    if len(found[FEATURES]) < needed:
        raise DataError(
            f"{path}: features of {len(found[FEATURES])} images; evaluator.neighbours needs {needed}"
        )
    return found


def _read_features(
    layout: Layout, sampler: str, guide: str, reference: dict[str, Tensor], judge: Evaluator
) -> tuple[list[str], dict[str, dict[str, Tensor]]]:
    """The features of a sampler and guide, by the preset's methods, and the guides whose targets the samples were held
    against; DataError if there are none, or they are of another evaluator than the reference's."""
    preset = layout.preset
    path = layout.features(sampler, guide)
    by_method: dict[str, dict[str, Tensor]] = {}
    about = {"sampler": sampler, "guide": guide} | files.read_metadata(layout.reference)
    tensor_spec.check_metadata(path, about)
    tensors = files.read_tensors(path)
    for name, value in tensors.items():
        method, _, part = name.partition("/")
        by_method.setdefault(method, {})[part] = value
    guides = judging.guides_in(preset, tensors)
    tensor_spec.check(path, tensors, described(judge, by_method, guides))
    mine = {method: parts for method, parts in by_method.items() if method in preset.methods}
    if not mine:
        raise DataError(f"{path}: features of no method of the preset; {REMEDY}")
    width = reference[FEATURES].shape[1]
    for method, parts in mine.items():
        targets.check(layout, guide, path, parts[TARGET])
        if parts[FEATURES].shape[1] != width:
            raise DataError(
                f"{path}: {method} has {parts[FEATURES].shape[1]} features a sample, {layout.reference} "
                f"{width} an image; {REMEDY}"
            )
    return guides, mine


def _over_seeds(
    preset: Preset,
    parts: dict[str, Tensor],
    values_of: Callable[[dict[str, Tensor]], dict[str, float]],
) -> dict[str, Any]:
    """What `values_of` says of each sampling seed's part of the samples, summarised."""
    split = {name: part.split(preset.sampling.samples) for name, part in parts.items()}
    seeds = range(len(preset.sampling.seeds))
    per_seed = [values_of({name: part[i] for name, part in split.items()}) for i in seeds]
    return {name: summarise([values[name] for values in per_seed]) for name in per_seed[0]}


def _of_features(
    preset: Preset, reference: dict[str, Tensor], samples: dict[str, Tensor]
) -> dict[str, float]:
    return metrics_of(samples, reference, preset.evaluator.neighbours)


def metrics_of(
    samples: dict[str, Tensor], reference: dict[str, Tensor], neighbours: int
) -> dict[str, float]:
    """FID, Inception Score, precision and recall of one set of samples.

    Both hold features (N, D); samples also logits (N, K); the reference may hold `mu` (D,) and `sigma` (D, D) to
    use instead of its features' own. Precision and recall are in [0, 1].
    """
    prc = prc_features_to_metric(
        samples[FEATURES], reference[FEATURES], prc_neighborhood=neighbours,
        prc_batch_size=10_000, save_cpu_ram=len(samples[FEATURES]) > 20_000, verbose=False,
    )  # fmt: skip
    isc = isc_features_to_metric(
        samples[LOGITS], splits=max(1, len(samples[LOGITS]) // 5000), shuffle=False
    )
    statistics = [_statistics(part) for part in (samples, reference)]
    return {
        "fid": fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"],
        "is": isc["inception_score_mean"],
        "precision": prc["precision"],
        "recall": prc["recall"],
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
