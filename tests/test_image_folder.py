"""Folders of labelled images: classes, crops against a plain implementation, batches that never change."""

import io
import math
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.config.runs import external_models
from ppap.data import realdata
from ppap.data.augmentation import random_crop
from ppap.data.image_folder import LabelledFiles, TrainingBatches, list_files, pictures_under, read_image
from ppap.utils.errors import DataError
from ppap.utils.files import write_tensors
from ppap.workflow import stored_images
from ppap.workflow.check import problems
from ppap.workflow.layout import Layout
from ppap.workflow.steps import all_jobs
from ppap.workflow.steps.download import Download
from ppap.workflow.steps.train_expert import TrainExpert
from ppap.workflow.targets import class_names
from tests.conftest import IMAGENET, ROOT, SMOKE, SMOKE_TASKS, ppap, refused

CLASSES = ("n02123045", "n01440764", "n09999999")  # not in order


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three classes of four images of many sizes; JPEG and PNG, grey, with a palette, in capitals."""
    where = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for n, name in enumerate(CLASSES):
        (where / name).mkdir()
        for i, size in enumerate([(40, 50), (97, 33), (160, 170), (20, 64)]):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).convert(["RGB", "L", "P"][n])
            image.save(where / name / f"{name}_{i}.{['JPEG', 'png', 'png'][n]}")
    (where / CLASSES[0] / "notes.txt").write_text("no image")
    return where


def batches(folder: Path, workers: int = 0, seed: int = 7, mirror: bool = True) -> TrainingBatches:
    return TrainingBatches(list_files(folder, 3), 16, 5, seed, mirror, workers)


def test_files_are_listed_as_torchvision_lists_them(tmp_path: Path) -> None:
    """In the same order, which decides what a training draws; a class is the place of its sorted folder."""
    for name in ("a/z.png", "a/b/c.png", "a/b.png", "a-b/b.png", "a-b/b-c/d.png", "a-b/b/e.PNG", "a-b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    paths, labels, names = list_files(tmp_path, 2)
    theirs = ImageFolder(tmp_path)
    assert list(zip(paths, labels, strict=True)) == theirs.samples and names == theirs.classes


def test_batches_have_shapes_types_ranges_and_the_images_of_their_labels(folder: Path) -> None:
    images, labels = batches(folder)(0)
    assert images.shape == (5, 3, 16, 16) and images.dtype == torch.float32
    assert labels.shape == (5,) and labels.dtype == torch.int64
    assert -1 <= images.min() < -0.5 and 0.5 < images.max() <= 1
    grey = (images[:, 0] == images[:, 1]).flatten(1).all(1)
    is_grey = torch.tensor([sorted(CLASSES)[label] == CLASSES[1] for label in labels])
    assert torch.equal(grey, is_grey)


def test_every_image_is_drawn_once_an_epoch_in_an_order_of_its_own(folder: Path) -> None:
    draws = batches(folder)
    labels = torch.cat([draws(step).labels for step in range(24)])  # ten epochs of twelve
    epochs = labels.view(10, 12)
    assert all(torch.bincount(epoch).tolist() == [4, 4, 4] for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 5


def test_batches_do_not_depend_on_workers_or_restarts(folder: Path) -> None:
    undisturbed, other = batches(folder), batches(folder, workers=2)
    expected = [undisturbed(step) for step in range(8)]
    for step in (0, 1, 2, 5, 6, 7, 3):  # as if killed twice
        images, labels = other(step)
        assert torch.equal(images, expected[step].images)
        assert torch.equal(labels, expected[step].labels)
    assert not torch.equal(batches(folder, seed=8)(0).images, expected[0].images)


def by_hand(image: Image.Image, shorter: int) -> np.ndarray:
    """Resized as ADM's code does it, written down anew."""
    while image.width >= 2 * shorter and image.height >= 2 * shorter:
        image = image.resize((image.width // 2, image.height // 2), Image.BOX)
    if image.width <= image.height:
        size = (shorter, round(image.height * shorter / image.width))
    else:
        size = (round(image.width * shorter / image.height), shorter)
    return np.array(image.resize(size, Image.BICUBIC))


sizes = st.tuples(st.integers(5, 40), st.integers(5, 40))


@given(sizes, st.integers(2, 10), st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_random_crops_are_windows_of_the_resized_image(sides, size: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*sides, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    crop = random_crop(image, size, random.Random(seed))
    assert crop.shape == (size, size, 3) and crop.dtype == np.uint8
    resized = (by_hand(image, n) for n in range(size, math.ceil(size / 0.8) + 1))
    windows = (np.lib.stride_tricks.sliding_window_view(one, (size, size, 3)) for one in resized)
    assert any((window == crop).all((-3, -2, -1)).any() for window in windows)


def test_random_crops_reach_every_scale_and_both_borders() -> None:
    ramp = np.arange(40, dtype=np.uint8)
    image = Image.fromarray(np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, 0 * ramp[:, None] * ramp], -1))  # fmt: skip
    source = random.Random(0)
    crops = [random_crop(image, 32, source).astype(int) for _ in range(600)]  # sides 32 to 40
    assert min(c[0, 0, 0] for c in crops) == min(c[0, 0, 1] for c in crops) == 0
    assert max(c[-1, -1, 0] for c in crops) == max(c[-1, -1, 1] for c in crops) == 39
    spans = {int(c[-1, 0, 0] - c[0, 0, 0]) for c in crops}
    assert min(spans) == 31 and max(spans) == 39


def test_half_of_the_crops_are_mirrored_and_none_where_that_changes_the_class(tmp_path) -> None:
    """White on the left: a crop that is white on the right has been mirrored."""
    for name in "ab":
        (tmp_path / name).mkdir()
        pixels = np.zeros((40, 40, 3), np.uint8)
        pixels[:, :20] = 255
        Image.fromarray(pixels).save(tmp_path / name / "half.png")
    files = list_files(tmp_path, 2)
    for mirror, low, high in ((True, 70, 130), (False, 0, 0)):
        images, _ = TrainingBatches(files, 16, 200, 3, mirror, 0)(0)
        mirrored = int((images[:, 0, 8, -1] > images[:, 0, 8, 0]).sum())
        assert low <= mirrored <= high


def test_missing_folders_and_classes_and_stray_pictures_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder of images"):
        list_files(tmp_path / "none", 3)
    with pytest.raises(DataError, match=r"holds 3 classes, the preset has 1000 \(n01440764, n02123045, n09999999\)"):
        list_files(folder, 1000)
    for name in ("full", "empty"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "full" / "a.png")
    with pytest.raises(DataError, match=r"empty: no images in this class's folder$"):
        list_files(tmp_path, 2)
    (tmp_path / "full" / "a.png").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: lies in no class's folder; write .*/CLASS/a.png$"):
        list_files(tmp_path, 2)


def test_linked_folders_are_followed_and_hidden_files_are_not(tmp_path: Path) -> None:
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    hidden = (".ipynb_checkpoints", "__MACOSX", "b/.hidden", "b/@eaDir")
    for place in (images / "b", *(images / name for name in hidden)):
        place.mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(place / "in.png")
    Image.new("RGB", (9, 9)).save(elsewhere / "linked.PNG")
    for name in ("._in.png", ".DS_Store", "Thumbs.db"):
        (images / "b" / name).write_bytes(b"AppleDouble, and the like")
    (images / "b" / "folder.png").mkdir()
    (images / "a").symlink_to(tmp_path / "elsewhere")
    (elsewhere / "back").symlink_to(tmp_path / "elsewhere")  # a circle
    wanted = [images / "a" / "deep" / "linked.PNG", images / "b" / "in.png"]
    assert list_files(images, 2) == LabelledFiles([str(path) for path in wanted], [0, 1], ["a", "b"])
    assert pictures_under(images) == wanted


def test_a_file_that_a_worker_cannot_decode_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.jpeg").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"a/broken.jpeg: cannot be decoded") as caught:
        TrainingBatches(list_files(tmp_path, 1), 8, 2, 0, True, workers=2)(0)
    assert "\n" not in str(caught.value)


# -- pictures as people have them --------------------------------------------------------------------

TOP = np.linspace(0, 255, 30 * 20).reshape(20, 30).round().astype(np.uint8)
COLOURS = np.stack([TOP, TOP[::-1], TOP[:, ::-1]], -1)
RGB = Image.fromarray(COLOURS)
RGBA = Image.fromarray(np.dstack([COLOURS, TOP]))
ON_WHITE = COLOURS * (TOP / 255)[..., None] + 255 - TOP[..., None].astype(float)  # alpha c + (1 - alpha) white
GREY = np.repeat(TOP[..., None], 3, -1)
DEEP = (TOP.astype(np.uint16) << 8) + 77


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(RGB, "png", exif=exif)


def key_coloured(image: Image.Image) -> bytes:
    """Of which one colour is transparent."""
    image.putpixel((0, 0), 7)
    return encoded(image, "png", transparency=7)


def sixteen_bits(colours: np.ndarray) -> bytes:
    """A png of three channels of 16 bits, which cv2 writes and Pillow does not."""
    height, width, _ = colours.shape
    lines = b"".join(b"\0" + line.tobytes() for line in colours.astype(">u2"))
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


INDEXED = RGB.quantize(64)
READ = {
    "capitals.JPEG": (encoded(RGB, "jpeg", quality=100, subsampling=0), COLOURS),
    "grey.png": (encoded(Image.fromarray(TOP), "png"), GREY),
    "deep.png": (encoded(Image.fromarray(DEEP), "png"), GREY),
    "deep_colours.png": (sixteen_bits(COLOURS * np.uint16(256) + 77), COLOURS),
    "cmyk.jpg": (encoded(RGB.convert("CMYK"), "jpeg", quality=100, subsampling=0), COLOURS),
    "palette.png": (encoded(INDEXED, "png"), INDEXED.convert("RGB")),
    "alpha.png": (encoded(RGBA, "png"), ON_WHITE),
    "key.png": (key_coloured(Image.new("L", (30, 20), 3)), np.pad([[[255] * 3]], ((0, 19), (0, 29), (0, 0)), constant_values=3)),
    **{f"turned{i}.png": (turned(i), ImageOps.exif_transpose(Image.open(io.BytesIO(turned(i))))) for i in (3, 6)},
    "turned.jpg": (turned(6), np.rot90(COLOURS, -1)),
    **{
        f"frames.{kind}": (
            encoded(INDEXED.convert("RGB"), kind, save_all=True, append_images=[Image.new("RGB", RGB.size)], **how),
            INDEXED.convert("RGB"),
        )
        for kind, how in {"gif": {}, "webp": {"lossless": True}}.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_picture_is_read_as_a_viewer_shows_it(tmp_path: Path, name: str, recwarn) -> None:
    content, shown = READ[name]
    (tmp_path / name).write_bytes(content)
    found, wanted = np.asarray(read_image(tmp_path / name)).astype(float), np.asarray(shown).astype(float)
    assert found.shape == wanted.shape and np.abs(found - wanted).max() <= (4 if "jp" in name.lower() else 1)
    assert pictures_under(tmp_path) == [tmp_path / name] and not recwarn.list


def bomb() -> bytes:
    """Too large a picture, by its header."""
    png = encoded(RGB, "png")
    head = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:29]
    return head + zlib.crc32(head[12:29]).to_bytes(4, "big") + png[33:]


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
PNG = encoded(NOISE, "png")
REFUSED = {
    "corrupt.png": PNG[:200] + bytes(100) + PNG[300:], "truncated.png": PNG[:3000], "empty.png": b"",
    "cut.jpg": encoded(NOISE, "jpeg")[:-900], "page.jpeg": b"<html>not found</html>", "bomb.png": bomb(), "phone.HEIC": b"?",
    "floats.tiff": encoded(Image.fromarray(TOP / np.float32(255)), "tiff"),
    "ints.tiff": encoded(Image.fromarray(TOP.astype(np.int32)), "tiff"), "broken_link.png": None,
}  # fmt: skip


def test_what_is_no_picture_is_named_in_one_line_each_when_the_preset_is_checked(tmp_path: Path) -> None:
    """A folder of a data set, whole or streamed, of the reference, and of targets; and by what would learn from it."""
    (tmp_path / "shown" / "a").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "shown" / "a" / "good.png")
    for name, content in REFUSED.items():
        path = tmp_path / "shown" / "a" / name
        path.write_bytes(content) if content is not None else path.symlink_to("nowhere.png")
    plain = yaml.safe_load(SMOKE_TASKS.read_text()) | {"judges": {}, "modules": [str(ROOT / "config")]}
    plain["dataset"] = {"kind": "image_folder", "path": "shown", "image_size": 16, "channels": 3, "classes": 1}
    plain["figures"].pop("target_class", None)
    plain["guides"].pop("segmentation")
    plain["guides"]["depth"] |= {"train": None, "targets": {"folder": "shown"}}
    plain["tables"] = {"main": [{"guides": ["class", "depth"], "samplers": ["ddim25"], "methods": ["none", "naive"]}]}
    preset = tmp_path / "preset.yaml"
    preset.write_text(yaml.safe_dump(plain))
    done = ppap("config", "check", preset, "--files", cwd=tmp_path, check=False)
    for key in ("dataset.path", "guides.depth.targets.folder"):
        for name in REFUSED:
            maps = key.startswith("guides") and name in ("floats.tiff", "ints.tiff")
            lines = [line for line in done.stderr.splitlines() if key in line and f"shown/a/{name}: " in line]
            assert len(lines) == (0 if maps else 1), (key, name, done.stderr)
    line = refused("download", preset, "dataset", cwd=tmp_path)
    assert "shown/a/" in line and "cannot be decoded" in line
    with pytest.raises(DataError, match=r"shown/a/bomb.png: "):
        realdata.read_folder(tmp_path / "shown", 8)


def test_a_folder_that_experts_alone_learn_from_is_decoded_until_they_are_there(
    preset_file, folder: Path, tmp_path: Path
) -> None:
    pictures = shutil.copytree(folder, tmp_path / "pictures")
    (pictures / CLASSES[0] / "cut.jpg").write_bytes(encoded(NOISE, "jpeg")[:-900])
    preset = presets.load(preset_file(
        IMAGENET, dataset__path=str(pictures), dataset__classes=3, figures__target_class=0,
    ))  # fmt: skip
    layout = Layout(preset, tmp_path / "results")

    def said() -> list[str]:
        return [line for line in map(str, problems(layout, files=True)) if line.startswith("dataset.path: ")]

    assert [line.split(" (")[0] for line in said()] == [
        f"dataset.path: {pictures}/{CLASSES[0]}/cut.jpg: cannot be decoded"
    ]
    taught = [job for job in all_jobs(layout) if isinstance(job, TrainExpert) and job.method != "ppap_5"]
    for path in [path for job in taught for path in job.outputs(layout)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert not said()


def test_truths_that_are_computed_from_pictures_need_them_all_in_one_file(preset_file, tmp_path: Path) -> None:
    own = "from ppap.guides.tasks.classification import Classification\nclass Own(Classification): own_truth = True\n"
    (tmp_path / "own_task.py").write_text(own)
    for task, whole in (("classification", False), ("user:own_task.Own", True)):
        path = preset_file(IMAGENET, modules=["."], guides__resnet50__task=task)
        assert ("dataset" in external_models(presets.load(path))) is whole


# -- read as a whole ---------------------------------------------------------------------------------


@pytest.fixture
def of_folder(preset_file, folder: Path) -> Callable[..., Preset]:
    """A preset with the folder as data set; keys of that can be changed."""

    def write(**changes: Any) -> Preset:
        data = {"kind": "image_folder", "path": str(folder), "image_size": 16, "channels": 3, "classes": 3}
        data |= {"holdout": 0.25}
        network = yaml.safe_load(SMOKE.read_text())["diffusion"]["architecture"] | {"in_channels": 3}
        figures = {"sampler": "ddim25", "target_class": 0, "samples": 4}
        return presets.load(preset_file(dataset=data | changes, figures=figures, diffusion__architecture=network))

    return write


def test_a_folder_becomes_the_real_images_and_its_folders_name_the_classes(of_folder, folder: Path, tmp_path) -> None:
    layout = Layout(of_folder(), tmp_path / "results", tmp_path / "downloads")
    Download("dataset").run(layout)
    train, held = (stored_images.real(layout, split) for split in ("train", "holdout"))
    found = [
        (image.tobytes(), int(label))
        for part in (train, held)
        for image, label in zip(part.images, part.classes, strict=True)
    ]
    fit = v2.Compose([v2.Resize(16), v2.CenterCrop(16)])
    files = list_files(folder, 3)
    wanted = {
        (np.asarray(fit(read_image(p))).tobytes(), label) for p, label in zip(files.paths, files.labels, strict=True)
    }
    assert set(found) == wanted and (len(train.images), len(held.images)) == (9, 3)
    write_tensors(layout.model("resnet"), {"w": torch.zeros(1)}, {"model": "resnet"})
    assert class_names(layout, "resnet") == sorted(CLASSES)


def test_another_folder_is_read_anew_and_names_in_another_order_are_refused(of_folder, tmp_path: Path) -> None:
    hashes = [
        Download("dataset").fingerprint(of_folder(**change)) for change in ({}, {"path": "other"}, {"image_size": 8})
    ]
    assert len(set(hashes)) == 3
    named = [of_folder(class_names=names) for names in (["cat", "dog", "fox"], CLASSES)]
    said = [[str(p) for p in problems(Layout(preset, tmp_path), files=True)] for preset in named]
    assert not said[0] and "in the order of their names, dataset.class_names in another" in said[1][0]
