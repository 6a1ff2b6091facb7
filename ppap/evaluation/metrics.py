"""FID, Inception Score, precision and recall, as torch-fidelity computes them from features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ppap.utils.tensor_spec import FEATURES, LOGITS, MU, SIGMA


def metrics_of(samples: Mapping[str, Tensor], reference: Mapping[str, Tensor], neighbours: int) -> dict[str, float]:
    """Compute FID, Inception Score, precision and recall of one set of samples.

    Both hold features (N, D); samples also logits (N, K); the reference may hold `mu` (D,) and `sigma` (D, D) to
    use instead of its features' own. Precision and recall are in [0, 1].
    """
    # Here, for torch-fidelity takes seconds to load, and every step of the workflow knows this module.
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    prc = prc_features_to_metric(
        samples[FEATURES], reference[FEATURES], prc_neighborhood=neighbours,
        prc_batch_size=10_000, save_cpu_ram=len(samples[FEATURES]) > 20_000, verbose=False,
    )  # fmt: skip
    isc = isc_features_to_metric(samples[LOGITS], splits=max(1, len(samples[LOGITS]) // 5000), shuffle=False)
    statistics = [_statistics(part) for part in (samples, reference)]
    return {
        "fid": fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"],
        "is": isc["inception_score_mean"],
        "precision": prc["precision"],
        "recall": prc["recall"],
    }


def over_seeds(
    parts: Mapping[str, Tensor], samples: int, values_of: Callable[[dict[str, Tensor]], dict[str, float]]
) -> dict[str, dict[str, Any]]:
    """Compute values of every sampling seed's part, `samples` entries of each tensor in turn, and summarise them."""
    split = {name: part.split(samples) for name, part in parts.items()}
    seeds = range(len(next(iter(split.values()))))
    per_seed = [values_of({name: part[i] for name, part in split.items()}) for i in seeds]
    return {name: summarise([values[name] for values in per_seed]) for name in per_seed[0]}


def summarise(values: list[float]) -> dict[str, Any]:
    """Compute mean and standard deviation over seeds (None for one seed); the values stay with them."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": spread, "values": values}


def _statistics(part: Mapping[str, Tensor]) -> dict[str, Any]:
    """Compute mean and covariance of a set's features, as torch-fidelity has them."""
    if MU in part:
        return {name: part[name].double().numpy() for name in (MU, SIGMA)}
    from torch_fidelity.metric_fid import fid_features_to_statistics

    return fid_features_to_statistics(part[FEATURES].double())
