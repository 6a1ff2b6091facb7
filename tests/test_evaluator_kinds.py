"""Evaluators from outside the package, named in a preset: used by every step, checked, and blamed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ppap.config import reading as presets
from ppap.config import runs
from ppap.config.preset import Preset
from ppap.config.runs import Run
from ppap.evaluation import metrics
from ppap.utils import files
from ppap.workflow import stored_images, targets
from ppap.workflow.evaluator import identity, untrained_extractor
from ppap.workflow.layout import Layout
from tests.conftest import IMAGENET, SMOKE, forget_modules, ppap, refused
from tests.growth import grown_preset

TITLE = "An evaluator"
RUN = Run("ddim25", "resnet", "naive")
SOURCE = """
class Own:
    def __call__(self, images):
        features = images.float().flatten(1)
        {}
"""
ANSWER = "return features, features[:, :10]"


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """The preset of the page beside its module."""
    return grown_preset(tmp_path, TITLE)


@pytest.fixture
def written(tmp_path: Path, preset_file: Callable[..., Path]) -> Callable[..., Path]:
    """A preset with an evaluator out of strange.py, which is written beside it."""

    def write(source: str, base: Path = SMOKE, changes: Any = None, **evaluator: Any) -> Path:
        (tmp_path / "strange.py").write_text(source)
        own = {"kind": "user:strange.Own"} | evaluator
        return preset_file(base, evaluator=own, **(changes or {}))

    return write


def opened(preset: Path) -> Layout:
    return Layout(presets.load(preset), preset.parent / "results")


def draw(layout: Layout) -> None:
    """Write samples of noise for the runs with ddim25."""
    preset, random = layout.preset, np.random.default_rng(0)
    size, numbers = preset.dataset.image_size, targets.numbers(layout, "resnet")
    for run in runs.group(preset, "ddim25", "resnet"):
        first = 0
        for shard, count in enumerate(layout.sample_sizes):
            shape = (count, size, size, preset.dataset.channels)
            path = layout.samples(run, shard)
            files.write_array(path, random.integers(0, 256, shape, np.uint8))
            classes = numbers[first : first + count]
            files.write_tensors(path.with_suffix(".safetensors"), {"target": classes})
            first += count


def samples_of(layout: Layout, run: Run) -> torch.Tensor:
    shards = range(len(layout.sample_sizes))
    images = np.concatenate([np.load(layout.samples(run, shard)) for shard in shards])
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def evaluated(preset: Path) -> Layout:
    """A preset whose samples of noise have been evaluated."""
    layout = opened(preset)
    draw(layout)
    ppap("reference-features", preset, cwd=preset.parent)
    ppap("features", preset, "ddim25", "resnet", cwd=preset.parent)
    ppap("metrics", preset, "ddim25", "resnet", cwd=preset.parent)
    return layout


# -- the page ----------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_pages_own_code(grown: Path) -> None:
    ppap("config", "check", grown)
    layout = evaluated(grown)
    sampling = layout.preset.sampling
    torch.manual_seed(0)
    own = importlib.import_module("judge").Pixels(cells=4, outputs=10)
    real = torch.from_numpy(stored_images.real(layout, "train").images).permute(0, 3, 1, 2)
    with torch.no_grad():
        reference = {"features": own(real)[0]}
        features, logits = own(samples_of(layout, RUN))
    measured = files.read_json(layout.metrics("ddim25", "resnet"))["methods"][RUN.method]
    assert measured.keys() == {"fid", "is", "precision", "recall"}
    for i in range(len(sampling.seeds)):
        one = {"features": features.split(sampling.samples)[i], "logits": logits.split(sampling.samples)[i]}
        for name, wanted in metrics.metrics_of(one, reference, neighbours=3).items():
            assert measured[name]["values"][i] == pytest.approx(wanted, rel=1e-4), name


def test_an_evaluator_of_the_users_own_has_no_files(grown: Path, smoke: Preset) -> None:
    preset = presets.load(grown)
    assert "evaluator" in runs.trained_models(smoke)
    assert "evaluator" not in [*runs.trained_models(preset), *runs.external_models(preset)]
    assert preset.evaluator.files == () and preset.evaluator.reads == ("options",)
    assert runs.needs_data(preset)
    (grown.parent / "judge.py").write_text("1 / 0")
    assert presets.load(grown).evaluator.judged_by == ()  # the module is not read for this


# -- what it is told apart by ------------------------------------------------------------------------


def test_features_of_another_source_are_refused(written) -> None:
    preset = written(SOURCE.format(ANSWER))
    evaluated(preset)
    forget_modules(preset.parent)
    preset = written(SOURCE.format(ANSWER) + "#")
    ppap("reference-features", preset, cwd=preset.parent)
    assert "made for evaluator_sha256" in refused("metrics", preset, "ddim25", "resnet", cwd=preset.parent)
    ppap("features", preset, "ddim25", "resnet", cwd=preset.parent)
    ppap("metrics", preset, "ddim25", "resnet", cwd=preset.parent)


def test_options_tell_evaluators_apart(written) -> None:
    one, same, other = (identity(opened(written("", options={"n": n}))) for n in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(("beside", "says_classes"), [("", True), (", features[:, 0].long() % 10", False)])
def test_the_target_class_is_looked_for_in_the_predicted_classes_or_else_the_logits(
    written, beside: str, says_classes: bool
) -> None:
    layout = evaluated(written(SOURCE.format(ANSWER + beside) + f"Own.says_classes = {says_classes}"))
    measured = files.read_json(layout.metrics("ddim25", "resnet"))["methods"][RUN.method]
    pixels = samples_of(layout, RUN).flatten(1)
    seen = pixels[:, 0] % 10 if beside else pixels[:, :10].float().argmax(1)
    share = (seen == targets.numbers(layout, "resnet")).double().mean()
    assert measured["target_rate"]["mean"] == pytest.approx(float(share))


def test_nothing_random_differs_between_reference_and_samples(written) -> None:
    source = "import torch\nclass Own:\n    def __init__(self): self.w = torch.randn(64, 10)\n"
    source += "    def __call__(self, images):\n        x = images.float().flatten(1) @ self.w\n        return x, x\n"
    layout = opened(written(source))
    images = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    state = torch.get_rng_state()
    features = [untrained_extractor(layout)(images)["features"] for _ in range(2)]
    assert torch.equal(*features) and torch.equal(torch.get_rng_state(), state)


# -- what is wrong with it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "strange has no class 'Own'"),
        (SOURCE.format("return features"), "answers with a Tensor; features (B, D) and logits (B, K) were expected"),
        (SOURCE.format("return features, features"), "logits is (2, 64), not (2, 10)"),
        (SOURCE.format(f"{ANSWER}, features[:, 0]"), "predicted is not int64 but float32"),
    ],
)  # fmt: skip
def test_wrong_answers_are_said_in_a_line_with_the_evaluators_name(written, source, message) -> None:
    preset = written(source)
    line = refused("config", "check", preset, cwd=preset.parent)
    assert f"evaluator: evaluator 'user:strange.Own': {message}" in line


def test_what_it_is_compared_with_must_be_images_of_its_kind_that_are_read_as_a_whole(written) -> None:
    done = ppap("config", "check", written("", reference={"folder": "real"}), check=False)
    assert "evaluator.reference: has images of 3 channels, not 1" in done.stderr
    none = {"dataset": {"kind": "none", "image_size": 256, "channels": 3, "classes": 1000}}
    done = ppap("config", "check", written("", IMAGENET, none), check=False)
    assert "evaluator.kind: compares samples with the data set's images, but those of kind none" in done.stderr


def test_images_of_a_reference_are_compared_with_without_inceptions_statistics(written, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "real.npz", arr_0=images, mu=np.zeros(2048), sigma=np.eye(2048))
    reference = {"archive": {"url": str(tmp_path / "real.npz")}}
    changes = {"dataset__image_size": 32, "runtime": {"device": "cpu"}}
    preset = written(SOURCE.format(ANSWER) + "Own.says_classes = False", IMAGENET, changes, reference=reference)
    ppap("download", preset, "reference", cwd=tmp_path)
    ppap("reference-features", preset, cwd=tmp_path)
    stored = files.read_tensors(opened(preset).reference)
    assert stored.keys() == {"features", "logits"}
    assert torch.equal(stored["features"], torch.from_numpy(images).permute(0, 3, 1, 2).float().flatten(1))
