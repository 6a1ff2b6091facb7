"""Targets of samples: read from files and looked at in pictures, or refused in one line; and what presets must say."""

from __future__ import annotations

import io
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from ppap.config import reading as presets
from ppap.config.runs import Run
from ppap.data import datasets, shapes
from ppap.guides.tasks.segmentation import VOID
from ppap.utils import files
from ppap.workflow import networks as models
from ppap.workflow import real_images, targets
from ppap.workflow.artefacts import PICTURE, TARGET
from ppap.workflow.layout import Layout
from ppap.workflow.targets import real_pictures
from tests.conftest import ROOT, SMOKE, SMOKE_TASKS, ppap

SIZE = 16
RAMP = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
LABELS = (RAMP % 5).astype(np.uint8)
Write = Callable[[Path], object]


@pytest.fixture(autouse=True)
def forgetting() -> Iterator[None]:
    """Modules of the presets here are no other test's."""
    yield
    for name in ("strange_task", "strange_model", "shapes_networks"):
        sys.modules.pop(name, None)


@pytest.fixture
def preset(preset_file: Callable[..., Path], tmp_path: Path) -> Path:
    """The smoke preset of tasks, whose guides of depth and labels read a folder, and their untrained networks."""
    (tmp_path / "shown").mkdir()
    path = preset_file(
        SMOKE_TASKS,
        modules=[str(ROOT / "config")],
        guides__depth__targets={"folder": "shown"},
        guides__segmentation__targets={"folder": "shown"},
    )
    layout = opened(path)
    torch.manual_seed(0)
    for guide in ("depth", "segmentation"):
        network = models.new_network(layout, guide)
        files.write_tensors(layout.model(guide), network.state_dict(), {"model": guide})
    return path


def opened(preset: Path) -> Layout:
    return Layout(presets.load(preset), preset.parent / "results")


def put(preset: Path, name: str, content: Any) -> Path:
    """A file in the folder of targets: an array, an image, bytes, or what is written by a function."""
    path = preset.parent / "shown" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, Image.Image):
        content.save(path)
    else:
        path.write_bytes(content)
    return path


def read(preset: Path, guide: str) -> dict[str, Tensor]:
    ppap("targets", preset, guide, cwd=preset.parent)
    return targets.read(opened(preset), guide)


def indexed(labels: Any) -> Image.Image:
    """A label map as segmenters' data sets keep it: indices into a palette."""
    image = Image.fromarray(np.asarray(labels, dtype=np.uint8)).convert("P")
    image.putdata(np.asarray(labels).ravel().tolist())
    image.putpalette([value for i in range(256) for value in (i, 255 - i, 7 * i % 256)])
    return image


# -- read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", RAMP.astype(np.float32)),
        ("a.npy", RAMP.astype(np.float64)),
        ("a.npy", RAMP.astype(np.int16)),
        ("a.NPY", RAMP.astype(np.uint16)),
        ("a.png", Image.fromarray(RAMP.astype(np.uint8))),
        ("a.png", Image.fromarray(RAMP.astype(np.uint16))),
        ("a.tiff", Image.fromarray(RAMP.astype(np.float32))),
    ],
)
def test_a_depth_map_is_its_numbers(preset: Path, name: str, content: Any) -> None:
    if name == "a.NPY":
        put(preset, "a.npy", content).rename(preset.parent / "shown" / name)
    else:
        put(preset, name, content)
    found = read(preset, "depth")
    assert torch.equal(found[TARGET], torch.from_numpy(RAMP).float()[None])
    assert found[PICTURE].shape == (1, SIZE, SIZE, 3) and found[PICTURE].eq(0).all()


def test_of_sixteen_bits_none_are_lost(preset: Path) -> None:
    put(preset, "a.png", Image.fromarray((RAMP * 257).astype(np.uint16)))
    assert torch.equal(read(preset, "depth")[TARGET][0], torch.from_numpy(RAMP * 257).float())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", LABELS),
        ("a.npy", LABELS.astype(np.float32)),
        ("a.npy", LABELS.astype(np.int64)),
        ("a.png", Image.fromarray(LABELS)),
        ("a.png", Image.fromarray(LABELS.astype(np.uint16))),
        ("a.png", indexed(LABELS)),
    ],
)
def test_a_label_map_is_its_labels(preset: Path, name: str, content: Any) -> None:
    put(preset, name, content)
    found = read(preset, "segmentation")[TARGET]
    assert found.dtype == torch.int64
    assert torch.equal(found[0], torch.from_numpy(LABELS).long())


@pytest.mark.parametrize("kind", [Image.fromarray, indexed, np.asarray])
def test_255_is_no_label(preset: Path, kind: Any) -> None:
    labels = np.where(RAMP < 50, 255, LABELS).astype(np.uint8)
    put(preset, "a.npy" if kind is np.asarray else "a.png", kind(labels))
    found = read(preset, "segmentation")[TARGET][0]
    assert torch.equal(found == VOID, torch.from_numpy(RAMP < 50))
    assert torch.equal(found[found != VOID], torch.from_numpy(labels[RAMP >= 50]).long())


@pytest.mark.parametrize("kind", [np.asarray, lambda x: Image.fromarray(x).convert("1")])
def test_black_and_white_are_two_labels(preset: Path, kind: Any) -> None:
    white = (RAMP % 3 == 0).astype(np.uint8) * 255
    put(preset, "a.npy", white > 0) if kind is np.asarray else put(preset, "a.png", kind(white))
    found = read(preset, "segmentation")[TARGET][0]
    assert torch.equal(found, torch.from_numpy(white > 0).long())


def test_of_a_map_of_another_shape_the_middle_square_is_taken(preset: Path) -> None:
    middle = np.repeat(np.repeat(LABELS, 2, axis=0), 2, axis=1)
    wide = np.pad(middle, ((0, 0), (7, 7)), constant_values=3)
    put(preset, "a.npy", wide)
    put(preset, "b.npy", np.ascontiguousarray(np.pad(middle, ((9, 9), (0, 0)))))
    found = read(preset, "segmentation")[TARGET]
    assert torch.equal(found[0], torch.from_numpy(LABELS).long()) and torch.equal(*found)


def test_depth_of_another_resolution_is_averaged(preset: Path) -> None:
    coarse = np.repeat(np.repeat(RAMP, 2, axis=0), 2, axis=1).astype(np.float32)
    put(preset, "a.npy", coarse)
    found = read(preset, "depth")[TARGET][0]
    inner = slice(1, -1)
    wanted = torch.from_numpy(RAMP).float()
    torch.testing.assert_close(found[inner, inner], wanted[inner, inner], atol=2.5, rtol=0)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("guide", ["depth", "segmentation"])
def test_a_picture_in_colour_is_looked_at_by_the_guide(preset: Path, guide: str, suffix: str) -> None:
    pixels = shapes.draw(3, SIZE, seed=5).images
    for i, picture in enumerate(pixels):
        put(preset, f"{i}.{suffix}", Image.fromarray(picture))
    found = read(preset, guide)
    folder = preset.parent / "shown"
    stored = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    assert torch.equal(found[PICTURE], torch.from_numpy(np.stack(stored)))
    network = models.load_guide(opened(preset), guide)
    with torch.no_grad():
        answers = network(datasets.to_tensor(np.stack(stored)))
    wanted = answers if guide == "depth" else answers.argmax(1)
    torch.testing.assert_close(found[TARGET], wanted)
    if guide == "depth":  # an untrained segmenter sees one label everywhere
        assert len({str(target.tolist()) for target in found[TARGET]}) == 3


def test_a_grey_photograph_is_a_picture_and_no_map(preset: Path) -> None:
    put(preset, "a.jpg", Image.fromarray(RAMP.astype(np.uint8)))
    assert read(preset, "depth")[PICTURE].ne(0).any()


def test_targets_are_in_the_order_of_their_names_however_deep_they_lie(preset: Path) -> None:
    for i, name in enumerate(("b/1.npy", "a.npy", "c.png", "b/0.npy")):
        array = np.where(i == RAMP, 1, 0).astype(np.uint8)
        put(preset, name, Image.fromarray(array) if name.endswith("png") else array)
    put(preset, "notes.txt", b"no target")
    found = read(preset, "depth")[TARGET]
    assert found.flatten(1).argmax(1).tolist() == [1, 3, 0, 2]


def test_held_out_pictures_are_targets_with_what_is_true_of_them(tmp_path: Path) -> None:
    layout = Layout(presets.load(SMOKE_TASKS), tmp_path / "results")
    held = real_images.load(layout, "holdout")
    for guide in ("depth", "segmentation"):
        ppap("--results", layout.results, "targets", SMOKE_TASKS, guide)
        found = targets.read(layout, guide)
        assert torch.equal(found[TARGET], held.truths[guide][:12])
        assert torch.equal(found[PICTURE], torch.from_numpy(held.images[:12]))
        numbers = targets.numbers(layout, guide)
        assert sorted(numbers[:12].tolist()) == [*range(12)]  # each as often as the others
        shown = real_pictures(layout, guide, numbers)
        assert np.array_equal(shown, held.images[numbers])


def test_real_pictures_of_classes_show_these_classes_each_in_its_turn(tmp_path: Path) -> None:
    layout = Layout(presets.load(SMOKE_TASKS), tmp_path / "results")
    held = real_images.load(layout, "holdout")
    numbers = torch.tensor([2, 0, 2, 2, 1, 0])
    shown = real_pictures(layout, "class", numbers)
    taken: dict[int, int] = {}
    for number, picture in zip(numbers.tolist(), shown, strict=True):
        places = (held.classes == number).nonzero().flatten()
        assert np.array_equal(picture, held.images[places[taken.get(number, 0)]])
        taken[number] = taken.get(number, 0) + 1


# -- refused -----------------------------------------------------------------------------------------


class Touch:
    """What unpickling would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def refused(preset: Path, guide: str) -> str:
    """The one line of a refusal, after which there is no file of targets."""
    done = ppap("targets", preset, guide, cwd=preset.parent, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("ppap: "), done.stderr
    assert not list((preset.parent / "results").rglob("targets*"))
    return lines[0]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
HOLE = np.where(RAMP == 7, np.nan, RAMP).astype(np.float32)


@pytest.mark.parametrize(
    ("guide", "name", "content", "message"),
    [
        ("depth", "a.npy", HOLE, "has numbers that are not finite"),
        ("depth", "a.npy", np.full((9, 9), np.inf), "has numbers that are not finite"),
        ("depth", "a.npy", RAMP * 1e300, "has numbers that are beyond single precision"),
        ("depth", "a.npy", np.ones((9, 9), np.float32), "is the same depth everywhere"),
        ("depth", "a.npy", np.full((9, 9), 0.1), "is the same depth everywhere"),
        ("depth", "a.png", Image.new("L", (9, 9), 5), "is the same depth everywhere"),
        ("depth", "a.npy", np.zeros((4, 4, 3)), "holds float64 (4, 4, 3); a map of numbers (height, width) was expected"),
        ("depth", "a.npy", np.zeros(7), "holds float64 (7,); a map of numbers"),
        ("depth", "a.npy", np.float64(3), "holds float64 (); a map of numbers"),
        ("depth", "a.npy", np.zeros((0, 5)), "(0, 5)"),
        ("depth", "a.npy", RAMP + 1j, "complex128"),
        ("depth", "a.npy", np.array([["a", "b"]]), "<U1"),
        ("depth", "a.npy", np.zeros((3, 3), "datetime64[s]"), "datetime64"),
        ("depth", "a.npy", np.zeros((3, 3), [("x", "f4")]), "('x', '<f4')"),
        ("depth", "a.npy", b"", "truncated or not in the expected format"),
        ("depth", "a.npy", b"no array at all", "a.npy"),
        ("depth", "a.npz", None, "shown: no targets there (guides.depth.targets.folder)"),
        ("depth", "a.png", b"", "cannot be read as an image"),
        ("depth", "a.png", b"no image at all", "cannot be read as an image"),
        ("depth", "a.png", png(Image.fromarray(NOISE))[:900], "cannot be read as an image"),
        ("depth", "a.jpg", b"no image at all", "cannot be decoded"),
        ("depth", "a.png", png(Image.new("RGB", (5, 1200))), "has 5 x 1200 pixels, which is a line"),
        ("segmentation", "a.npy", np.full((4, 4), 5), "holds 5; labels are whole numbers from 0 to 4, and 255 for none"),
        ("segmentation", "a.png", Image.new("L", (4, 4), 200), "holds 200; labels are whole numbers"),
        ("segmentation", "a.npy", np.full((4, 4), -1), "holds -1; labels are whole numbers"),
        ("segmentation", "a.npy", np.full((4, 4), 0.5), "holds 0.5; labels are whole numbers"),
        ("segmentation", "a.npy", np.full((4, 4), 1e30), "holds 1e+30; labels are whole numbers"),
        ("segmentation", "a.npy", np.full((4, 4), 255), "no pixel has a label"),
        ("segmentation", "a.npy", HOLE, "has numbers that are not finite"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_target_is_one_line(preset: Path, guide: str, name: str, content: Any, message: str) -> None:
    if isinstance(content, np.generic):
        content = np.asarray(content)
    if content is not None:
        put(preset, name, content)
    line = refused(preset, guide)
    assert message in line and ("shown/" + name in line or content is None)


def test_labels_that_vanish_at_the_size_of_images_are_no_target(preset: Path) -> None:
    labels = np.full((SIZE * 9, SIZE * 9), 255)
    labels[0, 0] = 1
    put(preset, "a.npy", labels)
    assert "no pixel has a label" in refused(preset, "segmentation")


def test_objects_are_never_unpickled(preset: Path) -> None:
    touched = preset.parent / "touched"
    buffer = io.BytesIO()
    np.save(buffer, np.array([[Touch(touched)]], dtype=object), allow_pickle=True)
    put(preset, "a.npy", buffer.getvalue())
    assert "shown/a.npy" in refused(preset, "depth")
    put(preset, "a.npy", pickle.dumps(Touch(touched)))
    assert "shown/a.npy" in refused(preset, "depth")
    assert not touched.exists()


def test_a_folder_that_is_empty_or_missing_or_a_file_is_named(preset: Path) -> None:
    folder = preset.parent / "shown"
    assert "shown: no targets there (guides.depth.targets.folder)" in refused(preset, "depth")
    folder.rmdir()
    assert "shown: no such folder (guides.depth.targets.folder)" in refused(preset, "depth")
    done = ppap("config", "check", preset, "--files", cwd=preset.parent, check=False)
    assert done.returncode == 2 and "guides.depth.targets.folder: shown: is not there" in done.stderr
    folder.write_text("")
    assert "shown: no such folder" in refused(preset, "depth")


def test_one_bad_file_among_good_ones_leaves_nothing(preset: Path) -> None:
    put(preset, "a.npy", RAMP.astype(np.float32))
    put(preset, "b.npy", HOLE)
    assert "shown/b.npy: has numbers that are not finite" in refused(preset, "depth")


def test_targets_that_are_classes_have_no_file(preset: Path) -> None:
    assert "guides.class.task: its targets are classes" in refused(preset, "class")


def test_a_file_of_targets_that_was_damaged_is_refused_where_it_is_read(tmp_path: Path) -> None:
    layout = Layout(presets.load(SMOKE_TASKS), tmp_path / "results")
    about = {"guide": "depth"}
    good = {TARGET: torch.rand(4, SIZE, SIZE), PICTURE: torch.zeros(4, SIZE, SIZE, 3, dtype=torch.uint8)}
    for change, message in (
        ({TARGET: good[TARGET] * torch.nan}, "target is not finite"),
        ({TARGET: torch.rand(4, 8, 8)}, "target is (4, 8, 8), not (4, 16, 16)"),
        ({TARGET: good[TARGET][:3].clone()}, "picture is (4, 16, 16, 3), not (3, "),
        ({"more": good[TARGET].clone()}, "has an unknown more"),
    ):  # fmt: skip
        files.write_tensors(layout.shown("depth"), good | change, about)
        done = ppap("--results", layout.results, "sample", SMOKE_TASKS, "ddim25", "depth", "real", check=False)
        assert done.returncode == 2 and "depth/targets.safetensors: " in done.stderr
        assert message in done.stderr and len(done.stderr.splitlines()) == 1
    files.write_tensors(layout.shown("depth"), good, {"guide": "other"})
    with pytest.raises(Exception, match="made for guide other, not depth"):
        targets.read(layout, "depth")


@pytest.mark.parametrize("guide", ["depth", "segmentation"])
def test_a_sample_does_not_depend_on_its_batch(preset: Path, guide: str) -> None:
    """Each is guided to its own target: those of another batch size differ by rounding at most."""
    rows = np.arange(SIZE) if guide == "depth" else np.arange(SIZE) % 5
    for i in range(4):
        array = np.roll(np.repeat(rows[:, None], SIZE, axis=1), 4 * i).astype(np.uint8)
        put(preset, f"{i}.npy", array)
    read(preset, guide)
    layout = opened(preset)
    files.write_tensors(layout.model("diffusion"), models.new_diffusion(layout).state_dict(), {"model": "diffusion"})
    found = []
    for size in (24, 7):
        plain = yaml.safe_load(preset.read_text())
        plain["sampling"]["batch_size"] = size
        plain["guides"][guide]["scales"] = {"ddim25": 50.0}
        preset.write_text(yaml.safe_dump(plain))
        ppap("sample", preset, "ddim25", guide, "naive", cwd=preset.parent)
        path = layout.samples(Run("ddim25", guide, "naive"), 0)
        found.append(np.load(path).astype(int))
    together, apart = found
    assert together.shape == (24, SIZE, SIZE, 3) and abs(together - apart).max() <= 1
    unguided = preset.read_text().replace("ddim25: 50.0", "ddim25: 0.0")
    preset.write_text(unguided)
    ppap("sample", preset, "ddim25", guide, "naive", cwd=preset.parent)
    assert abs(np.load(path).astype(int) - together).max() > 1


# -- guides whose answers have another shape ---------------------------------------------------------

NETWORK = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, classes, 1)
        self.bn1 = nn.BatchNorm2d(classes)
        self.head = nn.Linear(1, 1)
    def forward(self, x):
        answers = self.bn1(self.conv1(x))
        return {}
def dense(channels, classes, width):
    return Net(channels, classes)
"""


@pytest.mark.parametrize(
    ("guide", "answer", "message"),
    [
        ("depth", "answers", "answers with shape (2, 1, 16, 16); expected was (2, 16, 16), a number for each pixel"),
        ("depth", "answers.flatten(1)", "answers with shape (2, 256); expected was (2, 16, 16), a number for each pixel"),
        ("depth", "answers[:, 0].long()", "answers in int64; floats were expected"),
        ("depth", "[answers[:, 0]]", "answers with a list; a tensor was expected: (2, 16, 16), a number for each pixel"),
        ("segmentation", "answers[:, :4]", "(2, 4, 16, 16); expected was (2, 5, 16, 16), a number for each label and pixel"),
        ("segmentation", "answers.mean((2, 3))", "(2, 5); expected was (2, 5, 16, 16)"),
        ("segmentation", "answers.argmax(1).float()", "(2, 16, 16); expected was (2, 5, 16, 16)"),
        ("segmentation", "answers.detach()", "no gradient"),
    ],
)  # fmt: skip
def test_a_guide_whose_answer_has_not_the_tasks_shape_is_one_line(
    preset: Path, guide: str, answer: str, message: str
) -> None:
    (preset.parent / "strange_model.py").write_text(NETWORK.format(answer))
    plain = yaml.safe_load(preset.read_text())
    plain["guides"][guide]["model"] = "user:strange_model.dense"
    preset.write_text(yaml.safe_dump(plain))
    done = ppap("config", "check", preset, check=False)
    [line] = [line for line in done.stderr.splitlines() if f"guides.{guide}" in line]
    assert done.returncode == 2 and message in line and "user:strange_model.dense" in line
    if "gradient" in message:
        return
    layout = opened(preset)
    network = models.new_network(layout, guide)
    files.write_tensors(layout.model(guide), network.state_dict(), {"model": guide})
    put(preset, "a.png", Image.new("RGB", (20, 20), (9, 99, 9)))
    assert message.replace("(2, ", "(1, ") in refused(preset, guide)


@pytest.mark.parametrize("size", [4, 8, 40])
def test_a_guide_may_answer_at_any_resolution(preset: Path, size: int) -> None:
    answer = f"nn.functional.interpolate(answers, ({size}, {size}))"
    (preset.parent / "strange_model.py").write_text(NETWORK.format(answer))
    plain = yaml.safe_load(preset.read_text())
    plain["guides"]["segmentation"]["model"] = "user:strange_model.dense"
    preset.write_text(yaml.safe_dump(plain))
    guide = models.new_guide(opened(preset), "segmentation")
    images = torch.zeros(2, 3, SIZE, SIZE, requires_grad=True)
    answers = guide(images)
    assert answers.shape == (2, 5, SIZE, SIZE)
    answers.sum().backward()
    assert images.grad is not None


# -- what presets must say ---------------------------------------------------------------------------


def broken(base: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """What is said of a preset with a change."""
    plain = yaml.safe_load(base.read_text())
    change(plain)
    with pytest.raises(presets.PresetError) as found:
        presets.validate(plain, base)
    return str(found.value)


def set_to(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    *parents, last = key.split(".")

    def change(plain: dict[str, Any]) -> None:
        for parent in parents:
            plain = plain[parent]
        plain[last] = value

    return change


def without_a_folder(plain: dict[str, Any]) -> None:
    """Pictures that are read as they are needed, and networks of others."""
    streamed(plain)
    for guide in ("depth", "segmentation"):
        plain["guides"][guide]["targets"] = {"folder": "shown"}


def streamed(plain: dict[str, Any]) -> None:
    plain["dataset"] = {"kind": "image_folder", "path": "x", "image_size": SIZE, "channels": 3,
                        "classes": 4, "segments": 5}  # fmt: skip


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (SMOKE_TASKS, set_to("guides.depth.task", "colour"),
         r"guides\.depth\.task: task 'colour': write classification, depth, segmentation or user:MODULE\.CLASS"),
        (SMOKE_TASKS, set_to("guides.depth.task", "user:nothing.Task"), r"guides\.depth\.task: .*there is no nothing\.py"),
        (SMOKE_TASKS, set_to("judges.depth_judge.task", "user:nothing.Task"), r"judges\.depth_judge\.task: .*no nothing\.py"),
        (SMOKE_TASKS, lambda p: p["judges"]["depth_judge"].pop("task"), r"judges\.depth_judge\.task: "),
        (SMOKE_TASKS, lambda p: p["dataset"].pop("segments"), r"dataset\.segments: guides\.segmentation needs it"),
        (SMOKE_TASKS, lambda p: p["dataset"].pop("segments"), r"dataset\.segments: judges\.label_judge needs it"),
        (SMOKE_TASKS, set_to("dataset.segments", 6), r"dataset\.segments: 6, but shapes have 5"),
        (SMOKE_TASKS, set_to("dataset.segments", 1), r"dataset\.segments: Input should be greater than 1"),
        (SMOKE_TASKS, set_to("guides.depth.train.shift", 1),
         r"guides\.depth\.train\.shift: would move the picture, but not what is true of it"),
        (SMOKE_TASKS, set_to("judges.label_judge.train.shift", 1), r"judges\.label_judge\.train\.shift: would move"),
        (SMOKE_TASKS, set_to("judges.label_judge.task", "depth"), r"judges\.label_judge\.task: two judges of depth; one is enough"),
        (SMOKE_TASKS, set_to("judges.label_judge.task", "classification"),
         r"judges\.label_judge\.task: classes are judged by the evaluator"),
        (SMOKE_TASKS, lambda p: p["judges"].update(depth=p["judges"].pop("depth_judge")),
         r"judges: 'depth' is the name of something else; choose another"),
        (SMOKE_TASKS, lambda p: p["judges"].update(evaluator=p["judges"].pop("depth_judge")),
         r"judges: 'evaluator' is the name of something else"),
        (SMOKE_TASKS, set_to("guides.depth.scales", {"ddpm9": 1.0}), r"guides\.depth\.scales: samplers has no 'ddpm9'"),
        (SMOKE_TASKS, set_to("guides.depth.scales", {"ddim25": -1.0}), r"guides\.depth\.scales\.ddim25: .*greater than or equal to 0"),
        (SMOKE_TASKS, set_to("guides.depth.targets.count", 0), r"guides\.depth\.targets\.count: .*greater than 0"),
        (SMOKE_TASKS, set_to("guides.class.targets", {"folder": "x"}),
         r"guides\.class\.targets\.folder: classes are given by sampling\.classes"),
        (SMOKE, set_to("guides.vit.task", "depth"), r"guides\.vit\.train: images of kind digits say nothing of depth \(vit\)"),
        (SMOKE, set_to("guides.resnet.task", "depth"), r"guides\.resnet\.train: images of kind digits say nothing of depth \(resnet\)"),
        (SMOKE, set_to("guides.vit.task", "depth"),
         r"guides\.vit\.targets: images of kind digits say nothing of depth; give a `folder`"),
        (SMOKE_TASKS, streamed, r"methods\.multi_experts_5\.supervision: images of kind image_folder say nothing of depth|"
         r"guides\.depth\.train: images of kind image_folder say nothing of depth"),
        (SMOKE_TASKS, streamed, r"dataset\.kind: images of kind image_folder are not read as a whole, for targets"),
        (SMOKE_TASKS, without_a_folder, r"methods\.real: images of kind image_folder are not read as a whole"),
        (SMOKE_TASKS, set_to("methods.real.experts", 3), r"methods\.real: supervision, experts and trainable belong to"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_task_is_one_line_with_its_key(
    base: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    lines = [line for line in broken(base, change).splitlines() if re.search(message, line)]
    assert len(lines) == 1, broken(base, change)


def test_labels_that_are_not_there_cannot_teach_a_task() -> None:
    def change(plain: dict[str, Any]) -> None:
        guide = plain["guides"]["vit"]
        guide |= {"task": "depth", "targets": {"folder": "x"}, "model": "user:m.f"}
        del guide["train"]
        plain["tables"]["main"][0]["methods"].append("multi_experts_5")

    said = broken(SMOKE, change)
    assert "methods.multi_experts_5.supervision: images of kind digits say nothing of depth (vit)" in said


def test_judges_are_optional_and_found_by_their_task() -> None:
    preset = presets.load(SMOKE_TASKS)
    assert [preset.judge(guide) for guide in preset.guides] == [None, "depth_judge", "label_judge"]
    plain = yaml.safe_load(SMOKE_TASKS.read_text())
    plain["judges"] = {}
    assert presets.validate(plain, SMOKE_TASKS).judge("depth") is None


def test_a_guides_own_scale_comes_before_the_samplers() -> None:
    preset = presets.load(SMOKE_TASKS)
    scales = {guide: preset.guidance_scale("ddim25", guide) for guide in preset.guides}
    assert scales == {"class": 4.0, "depth": 0.5, "segmentation": 0.5}
