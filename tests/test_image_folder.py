"""Folders of labelled images: classes, crops against a plain implementation, batches that never change."""

import io
import math
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from ppap.data import realdata
from ppap.data.augmentation import random_crop
from ppap.data.image_folder import LabelledFiles, TrainingBatches, list_files, pictures_under, read_image
from ppap.utils.errors import DataError

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


def test_a_class_is_the_place_of_its_sorted_folder(folder: Path) -> None:
    files = list_files(folder, 3)
    assert len(files.paths) == 12
    for path, label in zip(files.paths, files.labels, strict=True):
        assert sorted(CLASSES)[label] == Path(path).parent.name


def test_files_are_listed_as_torchvision_lists_them(tmp_path: Path) -> None:
    """In the same order, which decides what a training draws."""
    for name in ("a/z.png", "a/b/c.png", "a/b.png", "a-b/b.png", "a-b/b-c/d.png", "a-b/b/e.PNG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = list_files(tmp_path, 2)
    assert list(zip(*listed, strict=True)) == ImageFolder(tmp_path).samples


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


def test_an_image_is_cropped_anew_whenever_it_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a" / "only.png")
    drawn = TrainingBatches(list_files(tmp_path, 1), 32, 6, 0, True, 0)
    crops = torch.cat([drawn(0).images, drawn(1).images]).flatten(1)
    assert len(torch.unique(crops, dim=0)) > 9  # of 12


def test_random_numbers_of_the_training_are_left_alone(folder: Path) -> None:
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    drawn = batches(folder, workers=2)
    drawn(3), drawn(4), drawn(0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]


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
@settings(max_examples=20, deadline=None)
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


def test_missing_folders_and_classes_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such folder of images"):
        list_files(tmp_path / "none", 3)
    with pytest.raises(DataError, match=r"holds 3 classes, the preset has 1000"):
        list_files(folder, 1000)
    for name in ("full", "empty"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "full" / "a.png")
    with pytest.raises(DataError, match=r"empty: no images in this class's folder$"):
        list_files(tmp_path, 2)


def test_linked_folders_are_followed_and_hidden_files_are_not(tmp_path: Path) -> None:
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    for place in (images / "b", images / ".ipynb_checkpoints", images / "b" / ".hidden"):
        place.mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(place / "in.png")
    Image.new("RGB", (9, 9)).save(elsewhere / "linked.PNG")
    (images / "b" / "._in.png").write_bytes(b"AppleDouble")
    (images / "b" / "folder.png").mkdir()
    (images / "a").symlink_to(tmp_path / "elsewhere")
    (elsewhere / "back").symlink_to(tmp_path / "elsewhere")  # a circle
    wanted = [images / "a" / "deep" / "linked.PNG", images / "b" / "in.png"]
    assert list_files(images, 2) == LabelledFiles([str(path) for path in wanted], [0, 1])
    assert pictures_under(images) == wanted


def test_a_file_that_a_worker_cannot_decode_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.jpeg").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"a/broken.jpeg: cannot be decoded") as caught:
        TrainingBatches(list_files(tmp_path, 1), 8, 2, 0, True, workers=2)(0)
    assert "\n" not in str(caught.value)


# -- pictures that are not 8-bit RGB, or no pictures -------------------------------------------------


def ramp(dtype: type, top: int) -> np.ndarray:
    return np.linspace(0, top, 64 * 64).reshape(64, 64).astype(dtype)


@pytest.mark.parametrize("name", ["grey.png", "grey.tiff", "grey.pgm"])
def test_sixteen_bits_become_the_upper_eight(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(ramp(np.uint16, 65535)).save(path)
    found = np.asarray(read_image(path)).astype(int)
    expected = (ramp(np.uint16, 65535) >> 8)[..., None].astype(int)
    assert np.abs(found - expected).max() <= 1  # PGM's reader rounds
    assert found.min() == 0 and found.max() == 255 and len(np.unique(found)) == 256


def test_a_format_whose_white_is_not_known_is_refused(tmp_path: Path) -> None:
    for dtype, top in ((np.int32, 70_000), (np.float32, 1)):
        Image.fromarray(ramp(dtype, top)).save(tmp_path / "deep.tiff")
        with pytest.raises(DataError, match=r"deep.tiff: cannot be decoded \(32 bits a pixel"):
            read_image(tmp_path / "deep.tiff")


def test_palettes_transparency_and_cmyk_become_their_colours(tmp_path: Path, recwarn) -> None:
    red = (255, 0, 0)
    pictures = {
        "palette.png": Image.new("RGB", (8, 8), red).convert("P"),
        "alpha.png": Image.new("RGBA", (8, 8), (*red, 10)),
        "cmyk.jpg": Image.new("RGB", (8, 8), red).convert("CMYK"),
        "half.png": Image.new("LA", (8, 8), (77, 10)),
        "bits.png": Image.new("1", (8, 8), 1),
    }
    pictures["palette.png"].info["transparency"] = bytes([0] * 100)
    colours = {}
    for name, image in pictures.items():
        image.save(tmp_path / name)
        found = read_image(tmp_path / name)
        assert found.mode == "RGB"
        colours[name] = np.asarray(found)[4, 4].astype(int)
    for name in ("palette.png", "alpha.png", "cmyk.jpg"):
        assert np.abs(colours[name] - red).max() <= 2
    assert colours["half.png"].tolist() == [77] * 3 and colours["bits.png"].tolist() == [255] * 3
    assert not recwarn.list


def test_orientation_is_not_applied_as_published_statistics_have_it(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=turned)
    assert read_image(tmp_path / "turned.jpg").size == (40, 20)


def no_pictures(folder: Path) -> dict[str, Path]:
    """Files with a picture's suffix that are none."""
    folder.mkdir(parents=True, exist_ok=True)
    good = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(good, "PNG")
    content = good.getvalue()
    bomb = content[:16] + (60_000).to_bytes(4, "big") * 2 + content[24:29]
    bomb += zlib.crc32(bomb[12:29]).to_bytes(4, "big") + content[33:]
    files = {
        "corrupt.png": content[:200] + bytes(100) + content[300:], "truncated.png": content[:3000],
        "empty.png": b"", "page.png": b"<html>not found</html>", "bomb.png": bomb,
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    return {path.stem: path for path in folder.iterdir()}


def test_what_is_no_picture_is_named_in_one_line_wherever_it_lies(tmp_path: Path) -> None:
    for name, path in no_pictures(tmp_path / "bad").items():
        images = tmp_path / name
        images.mkdir()
        path.rename(images / path.name)
        Image.new("RGB", (9, 9)).save(images / "a_good_one.png")
        for reader in (
            lambda images=images: realdata.read_folder(images, 8),
            lambda path=images / path.name: TrainingBatches(LabelledFiles([str(path)], [0]), 8, 2, 0, True, 0)(0),
        ):
            with pytest.raises(DataError, match=rf"{name}/{path.name}: ") as caught:
                reader()
            assert "\n" not in str(caught.value)
