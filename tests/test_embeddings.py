"""Guides that answer a vector or a number: what is a target of theirs, and a preset's way from pictures to scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor, nn

import ppap
from ppap.config import reading as presets
from ppap.config.consistency import problems
from ppap.data.images import to_tensor
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Clip
from ppap.guides.tasks.score import ENDLESS
from ppap.guides.views import ViewName
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.tensor_spec import PICTURE, TARGET
from ppap.workflow import networks, targets
from ppap.workflow.finished_run import FinishedRun
from ppap.workflow.layout import Layout
from ppap.workflow.steps import all_jobs
from tests.conftest import SMOKE_TASKS, changed
from tests.recorder import run_jobs, undeclared
from tests.test_growth import Still
from tests.test_latents import SCHEDULE as FLOW
from tests.test_latents import Velocity, kl
from tests.test_libraries import SQUARE, TINY, shaken

SHAPE, SIZE, D = (3, 8, 8), 8, 5


def guide_of(task: str, outputs: int) -> ppap.Guide:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, outputs))
    return ppap.wrap_guide(network, task, outputs=outputs, image_size=SIZE)


VECTOR, NUMBER = guide_of("embedding", D), guide_of("score", 1)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = [tmp_path / "shown" / f"{name}.png" for name in "ab"]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(path)
    return paths


def seen(paths: list[Path]) -> Tensor:
    return VECTOR.look(to_tensor(np.stack([np.asarray(Image.open(path)) for path in paths])))


def targets_of(target: Any, guide: ppap.Guide = VECTOR, count: int = 4) -> Tensor:
    return ppap.Goal(guide, target).targets(count, SHAPE)


# -- targets -------------------------------------------------------------------------------------------


def test_a_target_is_a_picture_that_the_guide_looks_at_or_the_mean_direction_of_several(pictures: list[Path]) -> None:
    torch.testing.assert_close(targets_of(pictures[0]), seen(pictures[:1]).expand(4, D))
    vectors = seen(pictures).numpy()
    mean = sum(vector / np.linalg.norm(vector) for vector in vectors)
    for several in (pictures, [*map(str, pictures)], pictures[0].parent):
        found = targets_of(several)
        assert found.shape == (4, D)
        assert cosine_similarity(found, mean[None]) == pytest.approx(np.ones((4, 1)))


def test_a_target_is_a_vector_in_a_file(tmp_path: Path) -> None:
    vector = np.arange(1.0, D + 1)
    np.save(path := tmp_path / "vector.npy", vector)
    torch.testing.assert_close(targets_of(path), torch.from_numpy(vector).float().expand(4, D))


def test_of_maps_each_sample_has_its_own_file(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, SIZE, SIZE)).astype(np.float32)
    for i, each in enumerate(maps):
        np.save(tmp_path / f"{i}.npy", each)
    depth = ppap.wrap_guide(nn.Identity(), "depth", image_size=SIZE)
    assert torch.equal(targets_of(tmp_path, depth, 2), torch.from_numpy(maps))
    with pytest.raises(ConfigError, match=r"a target is \(2, 8, 8\); \(8, 8\) was expected"):
        targets_of(tmp_path, depth, 3)


def test_a_number_is_a_target_and_without_one_the_score_is_raised() -> None:
    assert targets_of(None, NUMBER).tolist() == [ENDLESS] * 4
    assert targets_of(2.5, NUMBER).tolist() == targets_of(np.float32(2.5), NUMBER).tolist() == [2.5] * 4


def drawn(goal: ppap.Goal | None) -> Tensor:
    model = ppap.DiffusionModel(Still(), SHAPE, ppap.Schedule.create("cosine", 1000))
    return to_tensor(ppap.sample(model, 16, [goal] if goal else [], steps=20))


def test_guidance_turns_vectors_to_the_target_and_raises_a_score_or_pulls_it_to_a_number(pictures: list[Path]) -> None:
    plain, turned = drawn(None), drawn(ppap.Goal(VECTOR, pictures[0], 1.0))
    cosines = [cosine_similarity(VECTOR.look(images), seen(pictures[:1])).mean() for images in (plain, turned)]
    assert cosines[1] > cosines[0] + 0.3
    raised, pulled = drawn(ppap.Goal(NUMBER, scale=1.0)), drawn(ppap.Goal(NUMBER, 0.5, 10.0))
    assert NUMBER.look(raised).mean() > NUMBER.look(plain).mean() + 0.3
    distances = [float((NUMBER.look(images) - 0.5).abs().mean()) for images in (plain, pulled)]
    assert distances[1] < 0.6 * distances[0]


@pytest.mark.parametrize("view", ["linear", "decoder"])
def test_experts_of_latents_turn_vectors_of_what_these_decode_to(view: ViewName, pictures: list[Path]) -> None:
    torch.manual_seed(0)
    network, space = Velocity().requires_grad_(False), Autoencoder(kl(), 0.5, 0.1)
    model = ppap.DiffusionModel(network, (4, 8, 8), FLOW, "fixed_small", "flow", Clip(None), space)
    guide = ppap.wrap_guide(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, D)), "embedding", outputs=D, image_size=32
    )
    latents = ppap.sample(model, 12, sampler="euler", steps=2, decode=False)
    adapter = {"rank": 1, "freeze": ()}
    bank = ppap.train_experts(guide, model, latents, view=view, experts=1, training={"steps": 3}, adapter=adapter)
    goals = [None, ppap.Goal(bank, pictures[0], 1.0)]
    found = [ppap.sample(model, 8, [goal] if goal else [], sampler="euler", steps=4) for goal in goals]
    wanted = goals[1].targets(1, model.picture_shape)
    plain, turned = (cosine_similarity(guide.look(to_tensor(images)), wanted).mean() for images in found)
    assert turned > plain + 0.2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones(4), r"vector.npy: holds float64 \(4,\); a vector of 5 numbers was expected$"),
        (np.zeros(D), "vector.npy: has no direction: its numbers are not finite, or all 0$"),
        (np.array(["a"] * D), "vector.npy: holds <U1"),
    ],
)
def test_a_file_that_holds_no_vector_of_this_guide_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    np.save(path := tmp_path / "vector.npy", content)
    with pytest.raises(DataError, match=message):
        targets_of(path)


def test_what_is_no_target_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}: no targets there \(target\)$"):
        targets_of(tmp_path)
    with pytest.raises(ConfigError, match=r"a target is \(7,\); \(5,\) was expected"):
        targets_of(torch.ones(7))
    with pytest.raises(ConfigError, match=r"^a red car: no such file, which guide 'guide' needs$"):
        targets_of("a red car")
    with pytest.raises(ConfigError, match=r"^guide 'guide': has no text tower, so that words are no target$"):
        VECTOR.text("a red car")
    with pytest.raises(ConfigError, match=r"^image_size: a task Depth needs that of the samples$"):
        ppap.load_guide("timm:resnet18", "depth")
    with pytest.raises(ConfigError, match=r"^dimensions: None; .*in Python: `outputs`"):
        ppap.wrap_guide(nn.Flatten(), "embedding", image_size=SIZE)


# -- a preset ------------------------------------------------------------------------------------------

RATING = """
import torch
from torch import nn

def rating(channels, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
"""
EXPERTS = {"adapter": {"rank": 2, "alpha": 2}, "experts": {"steps": 8, "batch_size": 4}, "targets": {"count": 6}}


def saved(folder: Path, width: int) -> str:
    """Save a network of random weights and its processor as publishers do."""
    network = transformers.Dinov2Model(transformers.Dinov2Config(**TINY | {"hidden_size": width}))
    shaken(network)
    network.save_pretrained(folder)
    transformers.BitImageProcessor(**SQUARE | {"do_center_crop": False}).save_pretrained(folder)
    return f"transformers:./{folder.name}"


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vector and a number guide; their judges are other networks: that of vectors, of another size, is trained here."""
    folder = tmp_path_factory.mktemp("embeddings")
    (folder / "ratings.py").write_text(RATING)
    plain = yaml.safe_load(SMOKE_TASKS.read_text())
    plain["diffusion"]["train"] |= {"steps": 10}
    plain["evaluator"]["train"] |= {"steps": 5}
    vector = {"task": "embedding", "task_options": {"dimensions": 16}, "model": saved(folder / "small", 16)}
    number = {"task": "score", "model": "user:ratings.rating", "options": {"seed": 0}, "input_size": 16}
    plain["guides"] = {"vector": vector | EXPERTS, "number": number | EXPERTS}
    wide = {"task": "embedding", "task_options": {"dimensions": 64}, "model": "timm:resnet18d", "input_size": 32,
            "options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 64], "stem_width": 4},
            "train": {"steps": 3, "batch_size": 8}}  # fmt: skip
    plain["judges"] = {"vector_judge": wide, "number_judge": number | {"options": {"seed": 1}}}
    plain["clean_images"] |= {"count": 12, "batch_size": 12, "shard_size": 12}
    plain["sampling"] |= {"samples": 6, "seeds": [1]}
    rows = {"vector": ["none", "ppap_5", "multi_experts_5", "real"], "number": ["ppap_5", "real"]}
    plain["tables"] = {"main": [{"guides": [guide], "samplers": ["ddim25"], "methods": m} for guide, m in rows.items()]}
    plain["figures"]["samples"] = 6
    (path := folder / "preset.yaml").write_text(yaml.safe_dump(plain))
    return path


@pytest.fixture(scope="module")
def layout(preset: Path) -> Layout:
    """Every job but some figures has run, and read what it says that it reads."""
    layout = Layout(presets.load(preset), preset.parent / "results", preset.parent / "scratch")
    jobs = [job for job in all_jobs(layout) if job.rule() != "figure" or "samples" in str(job)]
    assert not undeclared(layout, run_jobs(layout, jobs))
    return layout


def measured(layout: Layout, guide: str, method: str) -> dict[str, float]:
    methods = json.loads(layout.metrics("ddim25", guide).read_text())["methods"]
    return {name: spread["mean"] for name, spread in methods[method].items()}


def test_targets_are_what_the_guide_sees_in_pictures(layout: Layout) -> None:
    known = targets.read(layout, "vector")
    with torch.no_grad():
        wanted = networks.load_guide(layout, "vector")(to_tensor(known[PICTURE]))
    torch.testing.assert_close(known[TARGET], wanted)
    assert targets.read(layout, "number")[TARGET].tolist() == [ENDLESS] * 6


def test_samples_are_scored_by_what_the_judge_sees_in_the_same_pictures(layout: Layout) -> None:
    real = measured(layout, "vector", "real")
    assert (real["cosine"], real["nearest"]) == pytest.approx((1, 1))
    found = measured(layout, "vector", "ppap_5")
    assert found["cosine"] < 0.999 and 0 <= found["nearest"] <= 1


def test_of_a_number_the_judges_mean_is_the_score(layout: Layout) -> None:
    found, known = measured(layout, "number", "real"), targets.read(layout, "number")
    with torch.no_grad():
        wanted = networks.load_guide(layout, "number_judge")(to_tensor(known[PICTURE]))
    assert found["score"] == pytest.approx(float(wanted.mean())) and "score_error" not in found


def test_a_folder_of_their_experts_makes_the_guide_anew(layout: Layout, tmp_path: Path) -> None:
    bank, pictures = FinishedRun(layout).experts("vector", "ppap_5"), to_tensor(targets.read(layout, "vector")[PICTURE])
    bank.save(tmp_path / "bank")
    weights = layout.preset.guides["vector"].name
    again = ppap.load_experts(tmp_path / "bank", weights=weights, downloads=tmp_path)
    torch.testing.assert_close(again.at(pictures, 0.0), bank.at(pictures, 0.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guides__vector__task_options": {}}, "guides.vector.task_options: dimensions: None; the size of"),
        ({"judges__number_judge__task_options": {"target": "x"}},
         "judges.number_judge.task: task 'score': options: target: 'x' (str); float or None was expected"),
        ({"guides__number__train": {"steps": 3, "batch_size": 2}},
         "guides.number.train: images of kind shapes say nothing of score"),
    ],
)  # fmt: skip
def test_what_a_preset_lacks_is_one_line_with_its_key(preset: Path, changes: dict[str, Any], message: str) -> None:
    try:
        found = problems(presets.validate(changed(yaml.safe_load(preset.read_text()), **changes), preset))
    except ConfigError as error:
        found = str(error).splitlines()
    assert sum(message in line for line in found) == 1, found
