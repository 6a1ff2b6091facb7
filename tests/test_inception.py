"""The Inception evaluator against torch-fidelity's own command, and the reference's stored statistics."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
import yaml
from PIL import Image

from ppap.config import reading as presets
from ppap.data import realdata
from ppap.evaluation import metrics
from ppap.utils import files
from ppap.utils.settings import EVALUATOR, REFERENCE
from ppap.workflow.evaluator import load_extractor
from ppap.workflow.layout import Layout
from tests.conftest import ROOT, ppap

IMAGENET, REHEARSAL = (ROOT / "config" / f"{name}256.yaml" for name in ("imagenet", "rehearsal"))


def script():
    """The module that writes random weights in the publishers' formats."""
    path = ROOT / "workflow" / "scripts" / "rehearsal_inputs.py"
    spec = importlib.util.spec_from_file_location("rehearsal_inputs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random Inception weights in torch-fidelity's format."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save(script().inception().state_dict(), path)
    return path


def pictures(folder: Path, seed: int) -> np.ndarray:
    """Eight images of 32 pixels, also as PNG files for torch-fidelity."""
    random = np.random.default_rng(seed)
    images = np.zeros((8, 32, 32, 3), np.uint8)
    images[:, :16] = random.integers(0, 256, (8, 1, 1, 3))
    images[:, 16:] = random.integers(0, 256, (8, 16, 32, 3))
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return images


@pytest.fixture
def preset(preset_file, weights: Path, tmp_path: Path) -> Path:
    return preset_file(
        IMAGENET, runtime={"device": "cpu"}, dataset__image_size=32, sampling__batch_size=4,
        evaluator={
            "kind": "inception", "weights": {"url": str(weights)}, "neighbours": 2,
            "reference": {"folder": str(tmp_path / "real")},
        },
    )  # fmt: skip


def test_metrics_are_those_of_torch_fidelity(preset: Path, weights: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "real", 0)
    drawn = pictures(tmp_path / "drawn", 1)
    ppap("download", preset, EVALUATOR, cwd=tmp_path)
    ppap("download", preset, REFERENCE, cwd=tmp_path)
    ppap("reference-features", preset, cwd=tmp_path)
    config = presets.load(preset)
    layout = Layout(config, tmp_path / "results")
    extract = load_extractor(layout)
    samples = extract(torch.from_numpy(drawn).permute(0, 3, 1, 2))
    assert samples["features"].shape == (8, 2048) and samples["logits"].shape == (8, 1008)
    samples["target"] = torch.zeros(8)
    found = metrics.metrics_of(samples, files.read_tensors(layout.reference), neighbours=2)
    expected = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "drawn"), input2=str(tmp_path / "real"), fid=True, isc=True, prc=True,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(weights),
        feature_layer_prc="2048", prc_neighborhood=2, isc_splits=1, samples_shuffle=False,
        cuda=False, verbose=False, cache=False,
    )  # fmt: skip
    assert found["fid"] > 0.1 and found["is"] > 1.001  # or the comparison would say little
    assert found["fid"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-3, abs=1e-3)
    assert found["is"] == pytest.approx(expected["inception_score_mean"], rel=1e-5)
    assert (found["precision"], found["recall"]) == (expected["precision"], expected["recall"])


def test_stored_statistics_of_the_reference_are_used_for_fid() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 4, generator=generator)
    samples = {"features": features, "logits": features, "target": torch.zeros(20)}
    reference = {"features": features + 1}
    stored = {"mu": features.double().mean(0), "sigma": features.double().T.cov()}
    assert metrics.metrics_of(samples, reference, 3)["fid"] == pytest.approx(4, rel=1e-3)
    assert metrics.metrics_of(samples, reference | stored, 3)["fid"] == pytest.approx(0, abs=1e-6)


def test_a_folder_of_references_is_fitted_to_the_image_size(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "a" / "wide.png")
    Image.new("L", (16, 16), 9).save(tmp_path / "grey.png")
    found = realdata.read_folder(tmp_path, 16)
    assert found.shape == (2, 16, 16, 3) and found.dtype == torch.uint8


def test_the_rehearsal_differs_from_imagenet256_in_counts_places_and_the_machine_only() -> None:
    ours, theirs = (yaml.safe_load(path.read_text()) for path in (REHEARSAL, IMAGENET))
    for key in ("methods", "tables", "experts"):
        assert ours[key] == theirs[key]
    assert ours["runtime"] == theirs["runtime"] | {"precision": "auto"}
    assert ours.keys() == theirs.keys()
    for name, guide in theirs["guides"].items():
        mine = ours["guides"][name]
        assert all(mine[key] == guide[key] for key in ("model", "adapter", "stands_for"))
        for key in ("learning_rate", "weight_decay", "decay"):
            assert mine["experts"][key] == guide["experts"][key]
    for key in ("architecture", "noise_schedule", "timesteps", "variance"):
        assert ours["diffusion"][key] == theirs["diffusion"][key]
    for name, sampler in theirs["samplers"].items():
        assert ours["samplers"][name] | {"steps": 0} == sampler | {"steps": 0}
    assert ours["evaluator"]["classifier"]["model"] == theirs["evaluator"]["classifier"]["model"]
