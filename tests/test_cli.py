"""The command line: help, and what bad input gets (one line, exit code 2, nothing half-written)."""

import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ppap.utils import files
from tests.conftest import IMAGENET, SMOKE, contents, ppap, refused


@pytest.fixture(scope="module")
def made(built: Path, tmp_path_factory) -> Path:
    """A folder with everything that a guided run of the smoke preset needs, and no more."""
    where = tmp_path_factory.mktemp("made")
    for folder in ("models", "judges", "clean", "labels", "experts"):
        shutil.copytree(built / "results" / "smoke" / folder, where / "results" / "smoke" / folder)
    return where


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_version_is_that_of_the_package() -> None:
    assert ppap("--version").stdout == f"{importlib.metadata.version('ppap')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", SMOKE, "--shard", "-1"),
        ("reference-features", SMOKE, "resnet"),
        ("train-expert", SMOKE, "resnet", "ppap_5", "²"),
        ("sample", SMOKE),
    ],
)
def test_wrong_usage_is_shown_as_such(made: Path, arguments) -> None:
    before = contents(made / "results")
    done = ppap(*arguments, cwd=made, check=False)
    assert done.returncode == 2 and done.stderr.startswith("Usage: ")
    assert contents(made / "results") == before


def test_features_of_named_methods_join_those_of_others_that_are_still_right(copy: Path) -> None:
    def features(*methods: str) -> None:
        ppap("features", SMOKE, "ddim25", "resnet", *methods, cwd=copy)

    for method in ("naive", "ppap_5"):
        ppap("sample", SMOKE, "ddim25", "resnet", method, cwd=copy)
    path = copy / "results" / "smoke" / "features" / "ddim25" / "resnet.safetensors"
    features("ppap_5", "naive")
    together = files.read_tensors(path)
    path.unlink()
    features("naive")
    features("ppap_5", "ppap_5")
    features("naive")
    apart = files.read_tensors(path)
    assert {name: value.tolist() for name, value in apart.items()} == {
        name: value.tolist() for name, value in together.items()
    }
    samples = copy / "results" / "smoke" / "samples" / "ddim25" / "resnet" / "ppap_5" / "0000.npy"
    other = np.load(samples)
    other[1:] = 255 - other[1:]  # the first is what the targets beside them know them by
    np.save(samples, other)
    line = refused("features", SMOKE, "ddim25", "resnet", "naive", cwd=copy)
    assert "its features of ppap_5 are of other samples, or of another evaluator" in line
    features("naive", "ppap_5")
    features("naive")


def test_every_step_works_without_snakemake(made: Path, preset_file) -> None:
    preset = preset_file(sampling__shard_size=24)  # of 40 samples
    for shard in (0, 1):
        ppap("sample", preset, "ddim25", "resnet", "ppap_5", "--shard", shard, cwd=made)
    ppap("reference-features", preset, cwd=made)
    ppap("features", preset, "ddim25", "resnet", "ppap_5", cwd=made)
    ppap("metrics", preset, "ddim25", "resnet", cwd=made)
    ppap("table", preset, "data_free", cwd=made)
    root = made / "results" / "smoke"
    archive = np.load(root / "archives" / "ddim25" / "resnet" / "ppap_5.npz")
    assert archive["arr_0"].shape == (40, 8, 8, 1) and archive["arr_0"].dtype == np.uint8
    assert np.bincount(archive["arr_1"]).tolist() == [4] * 10
    metrics = json.loads((root / "metrics" / "ddim25" / "resnet.json").read_text())
    assert len(metrics["methods"]["ppap_5"]["fid"]["values"]) == 2
    table = (root / "tables" / "data_free.md").read_text()
    assert "PPAP-5" in table and "29.65" in table  # the paper's FID of that row
    ppap("table", preset, "main", cwd=made)  # most of it was not computed: those cells stay empty
    rows = (root / "tables" / "main.csv").read_text().splitlines()
    assert any("naive,,,," in row for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("config", "check", "config/nowhere.yaml"), "config/nowhere.yaml: No such file"),
        (("sample", SMOKE, "ddim25", "vgg", "naive"), "guides: preset smoke has no 'vgg'"),
        (("generate", SMOKE, "--shard", 7), "no shard 7: there are 2"),
        (("train-expert", SMOKE, "resnet", "ppap_5", "3"), "no expert '3': there are 2"),
        (("warm-start", SMOKE, "resnet", "labels_adapter"), "no method has a shared start 'labels_adapter'"),
        (("train-expert", SMOKE, "resnet", "naive", "1"), "methods.naive: has no experts to train"),
        (("pretrain", SMOKE, "gpt"), "no model 'gpt' to pretrain"),
        (("download", IMAGENET, "gpt"), "no 'gpt' to download (there is diffusion, resnet50, deit_s, "),
        (("metrics", SMOKE, "ddpm250", "resnet"), ".safetensors: no such file"),
        (("features", SMOKE, "ddim25", "resnet", "naive", "none"), "none: has no guide; give it alone"),
        (("figure", SMOKE, "../samples"), "no figure '../samples'"),
        (("table", SMOKE, "scales"), "tables: preset smoke has no 'scales'"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_named(made: Path, arguments, message) -> None:
    assert message in refused(*arguments, cwd=made)


def test_answers_that_are_not_finite_are_not_written(copy: Path) -> None:
    path = copy / "results" / "smoke" / "models" / "resnet.safetensors"
    tensors = files.read_tensors(path)
    tensors["fc.bias"].fill_(3e38)
    tensors["fc.weight"].fill_(3e38)  # finite, unlike the answers
    files.write_tensors(path, tensors)
    line = refused("label", SMOKE, "resnet", cwd=copy)
    assert "labels of resnet: an answer is not finite in torch.float32" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named(copy: Path, preset_file) -> None:
    preset = preset_file(runtime={"device": "cuda"})
    assert "runtime.device: cuda, but torch sees no GPU" in refused("label", preset, "resnet", cwd=copy)
