"""Targets of samples: read from files and looked at in pictures, or refused in one line; and what presets must say."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from ppap.config import reading as presets
from ppap.config.guidance_scales import guidance_scale
from ppap.data import shapes
from ppap.data.datasets import DatasetConfig
from ppap.data.images import to_tensor
from ppap.guides.target_files import unreadable_targets
from ppap.guides.tasks.depth import Depth
from ppap.guides.tasks.segmentation import VOID, Segmentation
from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import PICTURE, TARGET
from ppap.workflow import networks as models
from ppap.workflow import stored_images, targets
from ppap.workflow.layout import Layout
from ppap.workflow.targets import real_pictures
from tests.conftest import ROOT, SMOKE, SMOKE_TASKS, changed, ppap, refused
from tests.test_image_folder import encoded

SIZE = 16
RAMP = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
LABELS = (RAMP % 5).astype(np.uint8)


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
    """A file in the folder of targets."""
    return kept(preset.parent / "shown", name, content)


def read(preset: Path, guide: str) -> dict[str, Tensor]:
    ppap("targets", preset, guide, cwd=preset.parent)
    return targets.read(opened(preset), guide)


# -- read --------------------------------------------------------------------------------------------

DATA = DatasetConfig(kind="shapes", pictures=9, image_size=SIZE, channels=3, classes=4, segments=5)
EIGHT = (RAMP % 256).astype(np.uint8)
DEEP = (RAMP * 257).astype(np.uint16)
FLOATS = (RAMP / 7 - 3).astype(np.float32)
PAINTED = {name: colormaps[name](EIGHT)[..., :3] * 255 for name in ("Spectral", "inferno", "magma_r", "turbo")}


def three(values: Any) -> Image.Image:
    """Grey in three equal channels, as `cv2.imwrite` of a repeated map."""
    return Image.fromarray(np.repeat(values[..., None], 3, axis=-1))


def indexed(labels: Any, palette: Any = None) -> Image.Image:
    """A label map as segmenters' data sets keep it: indices into a palette."""
    image = Image.fromarray(np.asarray(labels, dtype=np.uint8)).convert("P")
    image.putdata(np.asarray(labels).ravel().tolist())
    colours = [(i, 255 - i, 7 * i % 256) for i in range(256)] if palette is None else palette
    image.putpalette(np.asarray(colours).ravel().astype(int).tolist())
    return image


def pfm(values: Any) -> bytes:
    """Write a map as MiDaS does: little-endian, from the bottom row."""
    return b"Pf\n%d %d\n-1.000000\n" % values.shape[::-1] + np.flipud(values).astype("<f4").tobytes()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def kept(folder: Path, name: str, content: Any) -> Path:
    """A file: an array, an image, or bytes."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif isinstance(content, Image.Image):
        content.save(path)
    else:
        path.write_bytes(content)
    return path


VOID_LABELS = np.where(RAMP < 50, 255, LABELS).astype(np.uint8)
WHITE = (RAMP % 3 == 0).astype(np.uint8)
MAPS = [
    ("nearness", "a.npy", RAMP.astype(np.float64), RAMP),
    ("nearness", "a.npz", npz(depth=FLOATS), FLOATS),
    ("nearness", "a.pfm", pfm(FLOATS), FLOATS),
    ("nearness", "a.png", Image.fromarray(DEEP), DEEP),
    ("nearness", "a.png", indexed(EIGHT, [(i, i, i) for i in range(256)]), EIGHT),
    ("depth", "a.png", Image.fromarray(DEEP), -DEEP.astype(float)),
    ("metres", "a.png", Image.fromarray(DEEP // 2 + 256), 1 / (DEEP // 2 + 256.0)),
    ("labels", "a.npy", LABELS.astype(np.float32), LABELS),
    ("labels", "a.png", Image.fromarray(LABELS), LABELS),
    ("labels", "a.png", three(LABELS), LABELS),
    ("labels", "a.png", indexed(VOID_LABELS), np.where(RAMP < 50, VOID, RAMP % 5)),
    ("labels", "a.png", Image.fromarray(WHITE * 255).convert("1"), WHITE),
]


@pytest.mark.parametrize(("kind", "name", "content", "wanted"), MAPS)
def test_a_map_is_its_numbers_in_whatever_form_tools_write_it(tmp_path: Path, kind, name, content, wanted) -> None:
    task = Segmentation(DATA) if kind == "labels" else Depth(DATA)
    task.maps = "nearness" if kind == "labels" else kind
    (found,) = task.read_target(kept(tmp_path, name, content))
    assert found.dtype == (torch.int64 if kind == "labels" else torch.float32)
    assert torch.equal(found, torch.from_numpy(wanted).to(found.dtype))


@pytest.mark.parametrize(
    ("task", "name", "content"),
    [
        (Depth, "a.jpg", Image.fromarray(EIGHT)),
        (Depth, "a.png", Image.fromarray(np.dstack([EIGHT, EIGHT.T, EIGHT]))),
        (Depth, "a.png", indexed(EIGHT)),
        (Segmentation, "a.png", Image.fromarray(np.dstack([EIGHT, EIGHT.T, EIGHT]))),
    ],
)
def test_what_is_in_colour_or_lossy_is_a_picture(tmp_path: Path, task, name: str, content: Any) -> None:
    assert task(DATA).read_target(kept(tmp_path, name, content)) is None


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        *((Depth, Image.fromarray(p.astype(np.uint8)), f"the colours of {n.removesuffix('_r')}") for n, p in PAINTED.items()),
        (Segmentation, indexed(LABELS).convert("RGB"), "shows a map in 5 colours; write its numbers"),
    ],
)  # fmt: skip
def test_a_painted_map_is_refused(tmp_path: Path, task, content: Image.Image, message: str) -> None:
    with pytest.raises(DataError, match=message):
        task(DATA).read_target(kept(tmp_path, "a.png", content))


def test_holes_in_distances_are_refused(tmp_path: Path) -> None:
    task = Depth(DATA)
    task.maps = "metres"
    with pytest.raises(DataError, match=r"a.png: holds 0, which is no distance in metres"):
        task.read_target(kept(tmp_path, "a.png", Image.fromarray(DEEP)))


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


@pytest.mark.parametrize(("guide", "suffix"), [("depth", "png"), ("segmentation", "jpg")])
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
        answers = network(to_tensor(np.stack(stored)))
    wanted = answers if guide == "depth" else answers.argmax(1)
    torch.testing.assert_close(found[TARGET], wanted)
    if guide == "depth":  # an untrained segmenter sees one label everywhere
        assert len({str(target.tolist()) for target in found[TARGET]}) == 3


def test_targets_are_in_the_order_of_their_names_however_deep_they_lie(preset: Path) -> None:
    for i, name in enumerate(("b/1.npy", "a.npy", "c.png", "b/0.npy")):
        array = np.where(i == RAMP, 1, 0).astype(np.uint8)
        put(preset, name, Image.fromarray(array) if name.endswith("png") else array)
    put(preset, "notes.txt", b"no target")
    found = read(preset, "depth")[TARGET]
    assert found.flatten(1).argmax(1).tolist() == [1, 3, 0, 2]


def test_held_out_pictures_are_targets_with_what_is_true_of_them(tmp_path: Path) -> None:
    layout = Layout(presets.load(SMOKE_TASKS), tmp_path / "results")
    held = stored_images.real(layout, "holdout")
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
    held = stored_images.real(layout, "holdout")
    numbers = torch.tensor([2, 0, 2, 2, 1, 0])
    shown = real_pictures(layout, "class", numbers)
    taken: dict[int, int] = {}
    for number, picture in zip(numbers.tolist(), shown, strict=True):
        places = (held.classes == number).nonzero().flatten()
        assert np.array_equal(picture, held.images[places[taken.get(number, 0)]])
        taken[number] = taken.get(number, 0) + 1


# -- refused -----------------------------------------------------------------------------------------


class Touch:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
HOLE = np.where(RAMP == 7, np.nan, RAMP).astype(np.float32)


@pytest.mark.parametrize(
    ("guide", "name", "content", "message"),
    [
        ("depth", "a.npy", HOLE, "has numbers that are not finite"),
        ("depth", "a.npy", np.ones((9, 9), np.float32), "is the same depth everywhere"),
        ("depth", "a.npy", np.zeros((4, 4, 3)), "holds float64 (4, 4, 3); a map of numbers (height, width) was expected"),
        ("depth", "a.npz", npz(depth=FLOATS, conf=FLOATS), "holds 2 arrays (depth, conf); one map was expected"),
        ("depth", "a.png", encoded(Image.fromarray(NOISE), "png")[:900], "cannot be decoded"),
        ("segmentation", "a.npy", np.full((4, 4), 5), "holds 5; labels are whole numbers from 0 to 4, and 255 for none"),
        ("segmentation", "a.npy", np.full((4, 4), 255), "no pixel has a label"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_target_is_one_line(
    tmp_path: Path, guide: str, name: str, content: Any, message: str
) -> None:
    task = Segmentation(DATA) if guide == "segmentation" else Depth(DATA)
    (line,) = unreadable_targets([kept(tmp_path, name, content)], task)
    assert line.startswith(f"{tmp_path / name}: ") and message in line and "\n" not in line


def test_each_of_them_is_named_when_the_preset_is_checked_and_the_first_where_it_is_read(preset: Path) -> None:
    put(preset, "good.npy", LABELS)
    for name in ("flat.npy", "hole.npy"):
        put(preset, name, HOLE if name == "hole.npy" else np.full((9, 9), 7))
    checked = ppap("config", "check", preset, "--files", cwd=preset.parent, check=False).stderr
    for name, guides in {
        "hole.npy": ("depth", "segmentation"),
        "flat.npy": ("depth", "segmentation"),
        "good.npy": (),
    }.items():
        said = [line for line in checked.splitlines() if f"shown/{name}: " in line]
        assert len(said) == len(guides) and all(
            f"guides.{g}.targets.folder" in line for g, line in zip(guides, said, strict=True)
        )
    assert "shown/flat.npy: is the same depth everywhere" in refused("targets", preset, "depth", cwd=preset.parent)


def test_objects_are_never_unpickled(preset: Path) -> None:
    touched = preset.parent / "touched"
    buffer = io.BytesIO()
    np.save(buffer, np.array([[Touch(touched)]], dtype=object), allow_pickle=True)
    put(preset, "a.npy", buffer.getvalue())
    assert "shown/a.npy" in refused("targets", preset, "depth", cwd=preset.parent)
    put(preset, "a.npy", pickle.dumps(Touch(touched)))
    assert "shown/a.npy" in refused("targets", preset, "depth", cwd=preset.parent)
    assert not touched.exists()


def test_a_folder_that_is_empty_or_missing_or_a_file_is_named(preset: Path) -> None:
    folder = preset.parent / "shown"
    assert "shown: no targets there (guides.depth.targets.folder)" in refused(
        "targets", preset, "depth", cwd=preset.parent
    )
    folder.rmdir()
    assert "shown: no such folder (guides.depth.targets.folder)" in refused(
        "targets", preset, "depth", cwd=preset.parent
    )
    folder.write_text("")
    assert "shown: no such folder" in refused("targets", preset, "depth", cwd=preset.parent)


def test_targets_that_are_classes_have_no_file(preset: Path) -> None:
    assert "guides.class.task: its targets are classes" in refused("targets", preset, "class", cwd=preset.parent)


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
        files.write_tensors(layout.picture_targets("depth"), good | change, about)
        done = ppap("--results", layout.results, "sample", SMOKE_TASKS, "ddim25", "depth", "real", check=False)
        assert done.returncode == 2 and "depth/targets.safetensors: " in done.stderr
        assert message in done.stderr and len(done.stderr.splitlines()) == 1
    files.write_tensors(layout.picture_targets("depth"), good, {"guide": "other"})
    with pytest.raises(Exception, match="made for guide other, not depth"):
        targets.read(layout, "depth")


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
        return self.bn1(self.conv1(x))[:, :4]
def dense(channels, classes, width):
    return Net(channels, classes)
"""


def test_a_guide_whose_answer_has_not_the_tasks_shape_is_one_line(preset: Path) -> None:
    (preset.parent / "strange_model.py").write_text(NETWORK)
    plain = changed(yaml.safe_load(preset.read_text()), guides__segmentation__model="user:strange_model.dense")
    preset.write_text(yaml.safe_dump(plain))
    said = ppap("config", "check", preset, check=False).stderr
    [line] = [line for line in said.splitlines() if "guides.segmentation" in line]
    message = "(2, 4, 16, 16); (2, 5, 16, 16) was expected, a number for each label and pixel"
    assert message in line and "user:strange_model.dense" in line
    layout = opened(preset)
    network = models.new_network(layout, "segmentation")
    files.write_tensors(layout.model("segmentation"), network.state_dict(), {"model": "segmentation"})
    put(preset, "a.png", Image.new("RGB", (20, 20), (9, 99, 9)))
    assert message.replace("(2, ", "(1, ") in refused("targets", preset, "segmentation", cwd=preset.parent)


# -- what presets must say ---------------------------------------------------------------------------


NONE = {"dataset": {"kind": "none", "image_size": SIZE, "channels": 3, "classes": 4, "segments": 5}}
SHOWN = {f"guides__{guide}__targets": {"folder": "shown"} for guide in ("depth", "segmentation")}
DEPTH_OF_OTHERS = {"task": "depth", "targets": {"folder": "x"}, "model": "user:m.f", "train": None}
LABELLED = [{"guides": ["vit"], "samplers": ["ddim25"], "methods": ["naive", "multi_experts_5"]}]


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (SMOKE_TASKS, {"guides__depth__task": "colour"},
         "guides.depth.task: task 'colour': write classification, depth, segmentation, embedding, score or user:MODULE.CLASS"),
        (SMOKE_TASKS, {"dataset__segments": None}, "dataset.segments: guides.segmentation needs it"),
        (SMOKE_TASKS, {"guides__depth__train__shift": 1},
         "guides.depth.train.shift: would move the picture, but not what is true of it"),
        (SMOKE_TASKS, {"judges__label_judge__task": "depth"}, "judges.label_judge.task: two judges of depth; one is enough"),
        (SMOKE_TASKS, {"guides__class__targets": {"folder": "x"}},
         "guides.class.targets.folder: classes are given by sampling.classes"),
        (SMOKE, {"guides__vit__task": "depth"}, "guides.vit.train: images of kind digits say nothing of depth (vit)"),
        (SMOKE, {"guides__vit__task": "depth"},
         "guides.vit.targets: images of kind digits say nothing of depth; give a `folder`"),
        (SMOKE, {**{f"guides__vit__{key}": value for key, value in DEPTH_OF_OTHERS.items()}, "tables__main": LABELLED},
         "methods.multi_experts_5.supervision: images of kind digits say nothing of depth (vit)"),
        (SMOKE_TASKS, NONE, "guides.depth.targets: images of kind none are not read as a whole"),
        (SMOKE_TASKS, NONE | SHOWN, "methods.real: images of kind none are not read as a whole"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_task_is_one_line_with_its_key(base: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(presets.PresetError) as error:
        presets.validate(changed(yaml.safe_load(base.read_text()), **changes), base)
    assert sum(message in problem for problem in error.value.problems) == 1, error.value.problems


def test_judges_are_optional_and_found_by_their_task() -> None:
    preset = presets.load(SMOKE_TASKS)
    assert [preset.judge(guide) for guide in preset.guides] == [None, "depth_judge", "label_judge"]
    plain = yaml.safe_load(SMOKE_TASKS.read_text())
    plain["judges"] = {}
    assert presets.validate(plain, SMOKE_TASKS).judge("depth") is None


def test_a_guides_own_scale_comes_before_the_samplers() -> None:
    preset = presets.load(SMOKE_TASKS)
    scales = {guide: guidance_scale(preset, "ddim25", guide) for guide in preset.guides}
    assert scales == {"class": 4.0, "depth": 0.5, "segmentation": 0.5}
