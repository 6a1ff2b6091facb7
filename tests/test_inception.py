"""The Inception evaluator against torch-fidelity's own features; the preset that rehearses its use."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

from ppap.config import reading as presets
from ppap.data import realdata
from ppap.utils import files
from ppap.utils.settings import EVALUATOR, REFERENCE
from ppap.workflow.evaluator import load_extractor
from ppap.workflow.layout import Layout
from ppap.workflow.steps import all_jobs
from tests.conftest import IMAGENET, ROOT, ppap


def script():
    """The module that writes random weights in the publishers' formats."""
    path = ROOT / "workflow" / "scripts" / "rehearsal.py"
    spec = importlib.util.spec_from_file_location("rehearsal", path)
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
            "kind": "inception", "weights": {"url": str(weights)},
            "reference": {"folder": str(tmp_path / "real")},
        },
    )  # fmt: skip


def test_features_are_those_of_torch_fidelity(preset: Path, weights: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "real", 0)
    drawn = pictures(tmp_path / "drawn", 1)
    for part in (EVALUATOR, REFERENCE):
        ppap("download", preset, part, cwd=tmp_path)
    ppap("reference-features", preset, cwd=tmp_path)
    layout = Layout(presets.load(preset), tmp_path / "results")
    with torch.inference_mode():
        ours = load_extractor(layout)(torch.from_numpy(drawn).permute(0, 3, 1, 2))
    options = {"feature_extractor_weights_path": str(weights), "cuda": False, "verbose": False}
    layers = {"features": "2048", "logits": "logits_unbiased"}
    theirs = create_feature_extractor("inception-v3-compat", [*layers.values()], **options)
    for folder, mine in (("drawn", ours), ("real", files.read_tensors(layout.reference))):
        folder = str(tmp_path / folder)
        wanted = extract_featuresdict_from_input_id(
            1, theirs, input1=folder, batch_size=4, save_cpu_ram=True, **options
        )
        for name, layer in layers.items():
            torch.testing.assert_close(mine[name], wanted[layer], rtol=1e-4, atol=1e-4)
    assert wanted["2048"].shape == (8, 2048) and wanted["logits_unbiased"].shape == (8, 1008)
    assert not torch.allclose(ours["features"], wanted["2048"], atol=1e-2)  # or the comparison would say little


def test_a_folder_of_references_is_fitted_to_the_image_size(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "a" / "wide.png")
    Image.new("L", (16, 16), 9).save(tmp_path / "grey.png")
    images = realdata.read_folder(tmp_path, 16)
    assert images.shape == (2, 16, 16, 3) and images.dtype == torch.uint8


def test_reference_archives_keep_their_statistics(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "ref.npz", arr_0=images, mu=np.zeros(2048), sigma=np.eye(2048))
    found = realdata.read_archive(tmp_path / "ref.npz")
    assert (found["images"].numpy() == images).all()
    assert found["mu"].shape == (2048,) and found["sigma"].dtype == torch.float64


@pytest.mark.parametrize("name", ["imagenet256", "glide", "sd15", "sd3"])
def test_a_rehearsal_has_the_networks_and_rows_of_its_preset(name: str, tmp_path: Path) -> None:
    """All that it names lies beside it, is written by the script, and nothing else of it is to be downloaded."""
    rehearsal, whole = script(), presets.load(ROOT / "config" / f"{name}.yaml")
    plain = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
    path = tmp_path / "rehearsal.yaml"
    path.write_text(yaml.safe_dump(rehearsal.rehearsed(plain, ROOT / "config")))
    small = presets.load(path)
    assert small.methods == whole.methods and small.tables == whole.tables
    for guide, spec in whole.guides.items():
        assert small.guides[guide].adapter == spec.adapter
    places = rehearsal.named(small)
    assert all(place.parent.absolute() == tmp_path and place.name in rehearsal.MAKERS for place in places)
    assert all(source.local is not None for source in small.files.values())
    assert {job.rule() for job in all_jobs(Layout(small))} == {job.rule() for job in all_jobs(Layout(whole))}
    assert len([*all_jobs(Layout(small))]) < 130
