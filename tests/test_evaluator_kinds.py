"""Evaluators from outside the package, named in a preset: used by every step, checked, and blamed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ppap.config import reading as presets
from ppap.config import runs
from ppap.config.preset import Preset
from ppap.config.runs import Run
from ppap.evaluation import metrics
from ppap.evaluation.evaluators import TAG, EvaluatorConfig
from ppap.utils import files
from ppap.workflow import stored_images, targets
from ppap.workflow.evaluator import untrained_extractor
from ppap.workflow.layout import Layout
from tests.conftest import ROOT, SMOKE, ppap
from tests.growth import grown_preset

TITLE = "An evaluator"
IMAGENET = ROOT / "config" / "imagenet256.yaml"
RUN = Run("ddim25", "resnet", "naive")
JUDGE = """
class Judge:
    def __call__(self, images):
        features = images.float().flatten(1)
        {}
"""
ANSWER = "return features, features[:, :10]"


@pytest.fixture(autouse=True)
def forgetting() -> Iterator[None]:
    """Modules of the presets here are no other test's."""
    forget()
    yield
    forget()


def forget() -> None:
    for name in ("judge", "strange_judge"):
        sys.modules.pop(name, None)


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """The preset of the page beside its module."""
    return grown_preset(tmp_path, TITLE)


@pytest.fixture
def written(tmp_path: Path, preset_file: Callable[..., Path]) -> Callable[..., Path]:
    """A preset with an evaluator out of strange_judge.py, which is written beside it."""

    def write(source: str, base: Path = SMOKE, changes: Any = None, **evaluator: Any) -> Path:
        (tmp_path / "strange_judge.py").write_text(source)
        judge = {"kind": "user:strange_judge.Judge"} | evaluator
        return preset_file(base, evaluator=judge, **(changes or {}))

    return write


def opened(preset: Path) -> Layout:
    return Layout(presets.load(preset), preset.parent / "results")


def draw(layout: Layout, guides: tuple[str, ...] = ("resnet",)) -> None:
    """Write samples of noise for the runs with ddim25."""
    preset, random = layout.preset, np.random.default_rng(0)
    size, numbers = preset.dataset.image_size, targets.numbers(layout, "resnet")
    for run in (run for guide in guides for run in runs.group(preset, "ddim25", guide)):
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
    """A preset whose samples of noise have been judged."""
    layout = opened(preset)
    draw(layout)
    ppap("reference-features", preset, cwd=preset.parent)
    ppap("features", preset, "ddim25", "resnet", cwd=preset.parent)
    ppap("metrics", preset, "ddim25", "resnet", cwd=preset.parent)
    return layout


# -- the page ----------------------------------------------------------------------------------------


def test_the_page_is_checked_and_planned(grown: Path) -> None:
    ppap("config", "check", grown)
    assert "evaluation" in ppap("plan", grown, cwd=grown.parent).stdout


def test_metrics_are_those_of_the_pages_own_code(grown: Path) -> None:
    layout = evaluated(grown)
    sampling = layout.preset.sampling
    torch.manual_seed(0)
    judge = importlib.import_module("judge").Pixels(cells=4, outputs=10)
    real = torch.from_numpy(stored_images.real(layout, "train").images).permute(0, 3, 1, 2)
    with torch.no_grad():
        reference = {"features": judge(real)[0]}
        features, logits = judge(samples_of(layout, RUN))
    drawn = {"features": features, "logits": logits, "target": targets.numbers(layout, "resnet")}
    found = files.read_json(layout.metrics("ddim25", "resnet"))["methods"][RUN.method]
    assert found.keys() == {"fid", "is", "precision", "recall"}
    for i in range(len(sampling.seeds)):
        one = {name: part.split(sampling.samples)[i] for name, part in drawn.items()}
        wanted = metrics.metrics_of(one, reference, neighbours=3)
        for name, spread in found.items():
            assert spread["values"][i] == pytest.approx(wanted[name], rel=1e-4), name


def test_an_evaluator_of_the_users_own_has_no_files(grown: Path, smoke: Preset) -> None:
    preset = presets.load(grown)
    assert "evaluator" in runs.trained_models(smoke)
    assert "evaluator" not in [*runs.trained_models(preset), *runs.external_models(preset)]
    assert preset.evaluator.files == () and preset.evaluator.reads == ("options",)
    assert runs.needs_data(preset)


def test_a_preset_is_read_without_the_users_module(grown: Path) -> None:
    (grown.parent / "judge.py").write_text("1 / 0")
    assert presets.load(grown).evaluator.judged_by == ()


# -- what it is told apart by ------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["source", "options"])
def test_features_of_another_source_or_other_options_are_refused(written, change: str) -> None:
    source = JUDGE.format(ANSWER).replace("class Judge:", "class Judge:\n    def __init__(self, n=1): pass")
    preset = written(source)
    evaluated(preset)
    forget()
    preset = written(source + "#" * (change == "source"), options={"n": 2} if change == "options" else {})
    ppap("reference-features", preset, cwd=preset.parent)
    done = ppap("metrics", preset, "ddim25", "resnet", cwd=preset.parent, check=False)
    assert done.returncode == 2 and "made for evaluator_sha256" in done.stderr
    ppap("features", preset, "ddim25", "resnet", cwd=preset.parent)
    ppap("metrics", preset, "ddim25", "resnet", cwd=preset.parent)


@pytest.mark.parametrize(
    ("answer", "facts", "rate"),
    [
        (ANSWER, "", True),
        (ANSWER, "Judge.says_classes = False", False),
        (f"{ANSWER}, features[:, 0].long() % 10", "Judge.says_classes = False", True),
        (f"{ANSWER}, features[:, 0].long() % 10", "", True),  # they come before the logits
    ],
)
def test_the_target_class_is_looked_for_where_classes_are_said(written, answer: str, facts: str, rate: bool) -> None:
    layout = evaluated(written(JUDGE.format(answer) + facts))
    found = files.read_json(layout.metrics("ddim25", "resnet"))["methods"][RUN.method]
    assert ("target_rate" in found) == rate
    if rate:
        pixels = samples_of(layout, RUN).flatten(1)
        seen = pixels[:, 0] % 10 if "long" in answer else pixels[:, :10].float().argmax(1)
        share = (seen == targets.numbers(layout, "resnet")).double().mean()
        assert found["target_rate"]["mean"] == pytest.approx(float(share))


def test_nothing_random_differs_between_reference_and_samples(written) -> None:
    source = "import torch\nclass Judge:\n    def __init__(self): self.w = torch.randn(64, 10)\n"
    source += "    def __call__(self, images):\n        x = images.float().flatten(1) @ self.w\n        return x, x\n"
    layout = opened(written(source))
    images = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    state = torch.get_rng_state()
    said = [untrained_extractor(layout)(images)["features"] for _ in range(2)]
    assert torch.equal(*said) and torch.equal(torch.get_rng_state(), state)


def test_features_of_other_methods_stay_while_their_samples_do(written) -> None:
    preset = written(JUDGE.format(ANSWER), changes={"sampling__shard_size": 24})
    layout = opened(preset)
    draw(layout)
    ppap("features", preset, "ddim25", "resnet", cwd=preset.parent)
    path = layout.features("ddim25", "resnet")
    before, about = files.read_tensors(path), files.read_metadata(path)
    one, *_, other = runs.group(layout.preset, "ddim25", "resnet")
    ppap("features", preset, "ddim25", "resnet", one.method, cwd=preset.parent)
    after = files.read_tensors(path)
    assert before.keys() == after.keys() and files.read_metadata(path) == about
    assert all(torch.equal(before[name], after[name]) for name in before)
    shard = layout.samples(other, 1)
    files.write_array(shard, 255 - np.load(shard))
    done = ppap("features", preset, "ddim25", "resnet", one.method, cwd=preset.parent, check=False)
    assert done.returncode == 2 and f"of {other.method} are of other samples" in done.stderr


# -- what is wrong with it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "strange_judge has no class 'Judge'"),
        (JUDGE.format("return features"), "answers with a Tensor; features (B, D) and logits (B, K) were expected"),
        (JUDGE.format("return features, 1"), "answers with a tuple; features (B, D)"),
        (JUDGE.format("return (features,)"), "answers with a tuple; features (B, D)"),
        (JUDGE.format("return features.double(), features[:, :10]"), "features is not float32 but float64"),
        (JUDGE.format("return features[0], features[:, :10]"), "features is (64,), not (2, features)"),
        (JUDGE.format("return features[:1], features[:, :10]"), "features is (1, 64), not (2, 64)"),
        (JUDGE.format("return features, features"), "logits is (2, 64), not (2, 10)"),
        (JUDGE.format("return features / 0, features[:, :10]"), "features is not finite"),
        (JUDGE.format(f"{ANSWER}, features[:, 0]"), "predicted is not int64 but float32"),
    ],
)  # fmt: skip
def test_wrong_answers_are_said_in_a_line_with_the_evaluators_name(written, source, message) -> None:
    preset = written(source)
    done = ppap("config", "check", preset, check=False, cwd=preset.parent)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ppap: ")]
    assert done.returncode == 2
    assert f"evaluator: evaluator 'user:strange_judge.Judge': {message}" in line


@pytest.mark.parametrize("kind", ["user:judge", "user:a b.c", "user:"])
def test_a_name_of_no_class_is_refused(preset_file, kind: str) -> None:
    done = ppap("config", "check", preset_file(evaluator={"kind": kind}), check=False)
    assert done.returncode == 2 and f"evaluator.kind: '{kind}': write user:MODULE.CLASS" in done.stderr


def test_what_it_is_compared_with_must_be_images_of_its_kind_that_are_read_as_a_whole(written) -> None:
    done = ppap("config", "check", written("", reference={"folder": "real"}), check=False)
    assert "evaluator.reference: has images of 3 channels, not 1" in done.stderr
    done = ppap("config", "check", written("", IMAGENET), check=False)
    assert "evaluator.kind: compares samples with the data set's images, but those of kind image_folder" in done.stderr


@pytest.mark.parametrize("archive", [True, False])
def test_images_of_a_reference_are_compared_with_without_inceptions_statistics(
    written, tmp_path: Path, archive: bool
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    if archive:
        beside = {"mu": np.zeros(2048), "sigma": np.eye(2048)}
        np.savez(tmp_path / "real.npz", arr_0=images, **beside)
        reference = {"archive": {"url": str(tmp_path / "real.npz")}}
    else:
        (tmp_path / "real").mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / "real" / f"{i}.png")
        reference = {"folder": str(tmp_path / "real")}
    changes = {"dataset__image_size": 32, "runtime": {"device": "cpu"}}
    source = JUDGE.format(ANSWER) + "Judge.says_classes = False"
    preset = written(source, IMAGENET, changes, reference=reference)
    ppap("download", preset, "reference", cwd=tmp_path)
    ppap("reference-features", preset, cwd=tmp_path)
    found = files.read_tensors(opened(preset).reference)
    assert found.keys() == {"features", "logits"}
    wanted = torch.from_numpy(images).permute(0, 3, 1, 2).float().flatten(1)
    assert torch.equal(found["features"], wanted)


# -- registries --------------------------------------------------------------------------------------


def test_every_kind_has_facts_and_behaviour() -> None:
    sections = get_args(get_args(EvaluatorConfig)[0])
    tags = [get_args(section)[1].tag.removeprefix(TAG) for section in sections]
    assert [*EVALUATORS, "user:MODULE.CLASS"] == tags


# -- reading samples once ----------------------------------------------------------------------------


def test_samples_that_were_just_read_are_not_read_again_to_be_told_apart(
    written, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = written(JUDGE.format(ANSWER), changes={"sampling__shard_size": 24})
    layout = opened(preset)
    draw(layout)
    hashed: list[Path] = []
    sha256 = files.sha256

    def recording(path: Path) -> str:
        hashed.append(path)
        return sha256(path)

    monkeypatch.setattr(files, "sha256", recording)
    group = runs.group(layout.preset, "ddim25", "resnet")
    write_features(layout, group, ["resnet"])
    assert len(layout.sample_sizes) == 2 and not [path for path in hashed if path.suffix == ".npy"]
    told = files.read_metadata(layout.features("ddim25", "resnet"))
    for run in group:
        images = (layout.samples(run, shard) for shard in (0, 1))
        both = (sha256(p) for image in images for p in (image, image.with_suffix(".safetensors")))
        wanted = hashlib.sha256("".join(both).encode()).hexdigest()
        assert told[f"{run.method}/samples_sha256"] == wanted
    write_features(layout, group[:1], ["resnet"])  # the others' are compared with what is there
    assert len([path for path in hashed if path.suffix == ".npy"]) == 2 * len(group[1:])
    assert files.read_metadata(layout.features("ddim25", "resnet")) == told
