"""The paper's scale: shards read as one, the size of the graph, and what runs without ImageNet."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from ppap.config import reading as presets
from ppap.config import runs
from ppap.data.shards import ShardedAnswers, ShardedImages
from ppap.experts import lora as adapters
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.registry import build_network
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils import files
from ppap.workflow.layout import Layout
from ppap.workflow.steps import all_jobs
from tests.conftest import IMAGENET, ppap, refused

SHARDS, SIZE, SIDE, CLASSES = 5, 300, 8, 10


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """1,500 images of 8 pixels, with answers of ten classes in half precision."""
    folder = tmp_path_factory.mktemp("shards")
    for i in range(SHARDS):
        images = np.full((SIZE, SIDE, SIDE, 3), i, np.uint8)
        images[:, 0, 0, 0] = np.arange(SIZE) % 256
        np.save(folder / f"{i}.npy", images)
        answers = torch.full((SIZE, CLASSES), float(i), dtype=torch.float16)
        save_file({"image": answers, "mirror": -answers}, folder / f"{i}.safetensors")
    return folder


def test_shards_are_read_as_one(shards: Path) -> None:
    sizes = [SIZE] * SHARDS
    paths = [shards / f"{i}.npy" for i in range(SHARDS)]
    images = ShardedImages(paths, sizes, (SIDE, SIDE, 3))
    answers = ShardedAnswers([path.with_suffix(".safetensors") for path in paths], sizes, (CLASSES,), mirrored=True)
    for chosen in torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).split(500):
        taken = images.take(chosen)
        assert (taken[:, 1, 1, 1] == chosen.numpy() // SIZE).all()
        assert (taken[:, 0, 0, 0] == chosen.numpy() % SIZE % 256).all()
        mirrored = chosen % 3 == 0
        said = answers.take(chosen, mirrored)[:, 7]
        assert torch.equal(said, torch.where(mirrored, -1.0, 1.0) * (chosen // SIZE))


def test_labels_in_several_parts_are_the_same_answers(preset_file, tmp_path: Path) -> None:
    train = {"steps": 1, "batch_size": 8}
    small = {"diffusion__train": train, "guides__resnet__train": train}
    one = preset_file(name="one.yaml", **small)
    two = preset_file(name="two.yaml", clean_images__label_shards=1, **small)
    for arguments in (("pretrain", one, "diffusion"), ("pretrain", one, "resnet"),
                      ("generate", one, "--shard", 0), ("generate", one, "--shard", 1),
                      ("label", one, "resnet")):  # fmt: skip
        ppap(*arguments, cwd=tmp_path)
    labels = tmp_path / "results" / "smoke" / "labels" / "resnet"
    together = files.read_tensors(labels / "0000.safetensors")["image"]
    for part in (0, 1):
        ppap("label", two, "resnet", "--part", part, cwd=tmp_path)
    parts = [files.read_tensors(labels / f"000{part}.safetensors")["image"] for part in (0, 1)]
    assert [len(part) for part in parts] == [50, 50]
    assert torch.equal(torch.cat(parts), together)
    assert "no part 2: there are 2, counted from 0" in refused("label", two, "resnet", "--part", 2, cwd=tmp_path)


def test_the_papers_graph_has_few_jobs() -> None:
    """That these are Snakemake's own is seen in tests/test_plan.py."""
    jobs = Counter(job.rule() for job in all_jobs(Layout(presets.load(IMAGENET))))
    assert jobs.total() < 2000
    assert (jobs["generate"], jobs["train_expert"], jobs["label"]) == (500, 53, 60)
    assert jobs["sample"] == 20 * (2 + 2 * 2 * 6 + 4)


def test_without_supervision_only_those_rows_are_missing(preset_file) -> None:
    with_labels = presets.load(IMAGENET)
    without = presets.load(preset_file(IMAGENET, supervised=False))
    assert len(runs.all_runs(with_labels)) == 30
    left = {run.method for run in runs.all_runs(without)}
    assert left == {"none", "naive", "x0_gradient", "ppap_5", "ppap_10"}
    assert len(runs.table_runs(without, "main")) == 28  # the rows stay, their cells are empty
    assert not runs.needs_data(without) and runs.needs_data(with_labels)
    made = [str(path) for job in all_jobs(Layout(without)) for path in job.outputs(Layout(without))]
    assert not any("single_noise_aware" in path or "multi_experts" in path for path in made)


@pytest.mark.parametrize(
    ("guide", "count", "five", "ten"), [("resnet50", 1_459_632, 7.30, 14.60), ("deit_s", 927_592, 4.64, 9.28)]
)
def test_the_presets_adapters_train_the_papers_number_of_parameters(guide, count, five, ten) -> None:
    spec = presets.load(IMAGENET).guides[guide]
    network = build_network(spec.model, spec.options, Shape(3, 1000))
    adapters.attach(network, spec.adapter)
    assert adapters.trainable_parameters(network) == count
    assert (round(5 * count / 1e6, 2), round(10 * count / 1e6, 2)) == (five, ten)


@pytest.mark.parametrize(
    ("guide", "copies", "millions"),
    [("resnet50", 1, 25.56), ("deit_s", 1, 22.05), ("resnet18", 5, 58.45), ("resnet152", 1, 60.19)],
)
def test_the_presets_full_fine_tunes_train_the_papers_number(guide, copies, millions) -> None:
    spec: NetworkConfig = presets.load(IMAGENET).guides[guide]
    with torch.device("meta"):
        network = build_network(spec.model, spec.options, Shape(3, 1000))
    assert round(copies * adapters.trainable_parameters(network) / 1e6, 2) == millions


def test_the_preset_says_what_the_paper_says() -> None:
    data = yaml.safe_load(IMAGENET.read_text())
    for guide in data["guides"].values():
        experts = guide["experts"]
        assert (experts["steps"], experts["batch_size"]) == (300_000, 256)
        assert (experts["learning_rate"], experts["weight_decay"]) == (1e-4, 0.05)
    assert {s["scale"] for s in data["samplers"].values()} == {7.5}
    assert data["sampling"]["samples"] == 10_000 and data["experts"]["tau"] == 0.25
    assert data["clean_images"]["count"] == 500_000
