"""FID, Inception Score, precision, recall and target rate against values worked out independently."""

import numpy as np
import pytest
import scipy.linalg
import torch

from ppap.evaluation.metrics import metrics_of, summarise

pytestmark = pytest.mark.fast


@pytest.fixture
def sets() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    rng = np.random.default_rng(0)
    samples = {
        "features": torch.tensor(rng.normal(0.3, 1.2, (60, 3)), dtype=torch.float32),
        "logits": torch.tensor(rng.normal(0, 2, (60, 4)), dtype=torch.float32),
        "target": torch.tensor(rng.integers(0, 4, 60)),
    }
    return samples, {"features": torch.tensor(rng.normal(size=(50, 3)), dtype=torch.float32)}


def test_metrics_against_their_definitions(sets) -> None:
    samples, reference = sets
    measured = metrics_of(samples, reference, neighbours=3)
    a, b = samples["features"].double().numpy(), reference["features"].double().numpy()
    covariance = scipy.linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))
    fid = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(
        np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * np.real(covariance)
    )
    assert measured["fid"] == pytest.approx(fid, rel=1e-6)
    p = samples["logits"].double().softmax(1).numpy()
    assert measured["is"] == pytest.approx(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()), rel=1e-6)

    def inside(points: np.ndarray, others: np.ndarray) -> float:
        """Share of points within some other's distance to its third nearest neighbour."""
        hits = 0
        for point in points:
            radii = [np.sort(np.linalg.norm(others - o, axis=1))[3] for o in others]
            hits += any(np.linalg.norm(point - o) <= r for o, r in zip(others, radii, strict=True))
        return hits / len(points)

    assert measured["precision"] == pytest.approx(inside(a, b), abs=1e-6)
    assert measured["recall"] == pytest.approx(inside(b, a), abs=1e-6)


def test_spread_is_the_sample_deviation_and_absent_for_one_seed() -> None:
    assert summarise([1.0, 2.0, 6.0])["mean"] == 3
    assert summarise([1.0, 2.0, 6.0])["std"] == pytest.approx(np.sqrt((4 + 1 + 9) / 2))
    assert summarise([1.0])["std"] is None


def test_stored_statistics_of_the_reference_are_used_for_fid() -> None:
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    samples, reference = {"features": features, "logits": features}, {"features": features + 1}
    stored = {"mu": features.double().mean(0), "sigma": features.double().T.cov()}
    assert metrics_of(samples, reference, 3)["fid"] == pytest.approx(4, rel=1e-3)
    assert metrics_of(samples, reference | stored, 3)["fid"] == pytest.approx(0, abs=1e-6)
