"""Each option of a GPU is held to float32 on the CPU; options that the CPU has too run there by the same bodies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ppap
from ppap.data import loading
from ppap.data.loading import ImagesInMemory
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.networks.adm import ADM
from ppap.diffusion.networks.architectures import ADMArchitecture
from ppap.diffusion.training import train_diffusion
from ppap.experts.examples import AnsweredImages
from ppap.experts.teacher import TeacherAnswers
from ppap.training.loop import TrainingRun
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.device import Runtime, device_of, place
from ppap.utils.mixed_precision import autocast, hold_precision

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
FLOAT32 = Runtime(device="cpu")
SHAPE = (3, 16, 16)
SCHEDULE = ppap.Schedule.create("cosine", 1000)


def on_gpu(*values: object) -> object:
    """Mark a case that only a GPU can run."""
    return pytest.param(*values, marks=GPU)


def network() -> ADM:
    arch = ADMArchitecture(
        model_channels=16, channel_mult=(1, 2), num_res_blocks=1, attention_factors=(2,), head_channels=16,
        norm_groups=8, learn_sigma=False,
    )  # fmt: skip
    torch.manual_seed(0)
    made = ADM(arch).eval().requires_grad_(False)
    for parameter in made.parameters():  # as drawn, ADM's last layers are zero
        parameter.normal_(std=0.08)
    return made


def classifier() -> ppap.Guide:
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 8, 3, stride=2), nn.Tanh(), nn.Conv2d(8, 8, 3, stride=2), nn.Tanh(), nn.Flatten())
    return ppap.wrap_guide(nn.Sequential(*layers, nn.Linear(72, 4)), outputs=4, image_size=16)


def drawn(how: Runtime) -> np.ndarray:
    """Draw guided images in two batches, as jobs do: networks hold their weights in the precision of the arithmetic."""
    diffusion, guide = place(hold_precision(network(), how), how), classifier()
    hold_precision(guide, how)
    place(guide, how)
    with autocast(how):
        # what it answers is taken for v: as eps, it would leave white and black alone
        model = ppap.DiffusionModel(diffusion, SHAPE, SCHEDULE, predicts="v")
        images = ppap.sample(model, 8, [ppap.Goal(guide, 1, 5.0)], steps=10, batch_size=4)
    return images.astype(int)


@cache
def plainly_drawn() -> np.ndarray:
    return drawn(FLOAT32)


# Largest mean difference of images, in grey levels of 256. TF32, a GPU's float32 in convolutions, rounds to 10 bits, as
# float16 does; bfloat16 rounds to 7. On a CPU it was 0.003 in float16, 0.016 in bfloat16, and 0 with channels last.
ROUNDED, COARSE, SAME = 0.2, 1.0, 0.05


@pytest.mark.parametrize(
    ("option", "bound"),
    [
        ({"device": "cpu", "channels_last": True}, SAME),
        ({"device": "cpu", "precision": "bfloat16"}, COARSE),
        ({"device": "cpu", "precision": "float16"}, ROUNDED),
        on_gpu({"device": "cuda"}, ROUNDED),
        on_gpu({"device": "cuda", "channels_last": True}, ROUNDED),
        on_gpu({"device": "cuda", "precision": "bfloat16"}, COARSE),
        on_gpu({"device": "cuda", "precision": "float16"}, ROUNDED),
        on_gpu({"device": "cuda", "precision": "bfloat16", "channels_last": True}, COARSE),
        on_gpu({"device": "cuda", "compile": True}, ROUNDED),
        on_gpu({"device": "cuda", "compile": "reduce-overhead"}, ROUNDED),
        on_gpu({"device": "cuda", "compile": "reduce-overhead", "precision": "bfloat16"}, COARSE),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_an_option_changes_images_by_rounding_only(option: dict, bound: float) -> None:
    images = drawn(Runtime(**option))
    assert np.abs(images - plainly_drawn()).mean() < bound
    if "precision" in option:
        assert (images != plainly_drawn()).any(), "nothing is in half precision"


class Halved(nn.Module):
    """An autoencoder whose latents are pictures of half the size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.mixed = nn.Conv2d(3, 3, 3, padding=1)

    def encode(self, pictures: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(pictures, 2)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.tanh(self.mixed(nn.functional.interpolate(latents, scale_factor=2.0)))


def latents_drawn(how: Runtime, guidance: str) -> np.ndarray:
    """Draw latents that are guided by what they decode to: through the decoder, and for x0_gradient the network."""
    diffusion, guide = place(hold_precision(network(), how), how), place(classifier(), how)
    autoencoder = Autoencoder(Halved(), scale=0.5).to(device_of(how))
    with autocast(how):
        model = ppap.DiffusionModel(diffusion, (3, 8, 8), ppap.Schedule.create("flow", 1000), predicts="flow",
                                    autoencoder=autoencoder)  # fmt: skip
        goals = [ppap.Goal(guide, 1, 100.0)]
        return ppap.sample(model, 4, goals, guidance=guidance, sampler="euler", steps=10).astype(int)


@pytest.mark.parametrize("guidance", ["x0_estimate", "x0_gradient_bounded"])
@pytest.mark.parametrize(
    ("option", "bound"),
    [
        ({"device": "cpu", "precision": "bfloat16"}, COARSE),
        ({"device": "cpu", "precision": "float16"}, ROUNDED),
        on_gpu({"device": "cuda"}, ROUNDED),
        on_gpu({"device": "cuda", "precision": "bfloat16"}, COARSE),
        on_gpu({"device": "cuda", "precision": "float16"}, ROUNDED),
    ],
)
def test_latents_of_a_flow_are_guided_alike(option: dict, bound: float, guidance: str) -> None:
    images, plain = latents_drawn(Runtime(**option), guidance), latents_drawn(FLOAT32, guidance)
    assert np.abs(images - plain).mean() < bound
    assert plain.std() > 10, "pictures are flat"


compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no C++ compiler")


@pytest.mark.parametrize(
    "option",
    [
        pytest.param({"device": "cpu", "compile": True}, marks=[compiler, pytest.mark.exhaustive]),
        on_gpu({"device": "cuda", "compile": True}),
        on_gpu({"device": "cuda", "compile": "reduce-overhead"}),
    ],
)
def test_a_compiled_guide_answers_alike_and_has_the_same_gradient(option: dict) -> None:
    def answered(how: Runtime) -> list[Tensor]:
        guide = place(classifier(), how)
        parts = []
        for seed in range(3):  # graphs are recorded in the first calls, and played in the later ones
            x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(seed))
            x = x.to(device_of(how)).requires_grad_()
            answer = guide(x)
            (gradient,) = torch.autograd.grad(answer.log_softmax(1)[:, 1].sum(), x)
            parts += [answer.detach().cpu().clone(), gradient.cpu().clone()]
        return parts

    for mine, plain in zip(answered(Runtime(**option)), answered(FLOAT32), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-2, atol=1e-3)


def stripes(count: int) -> np.ndarray:
    """Draw images uint8 (N, 16, 16, 3) that are learned in a few steps: stripes of two colours, at random heights."""
    generator = np.random.default_rng(0)
    images = np.zeros((count, 16, 16, 3), np.uint8)
    for image, first in zip(images, generator.integers(0, 8, count), strict=True):
        image[first : first + 8] = (255, 128, 0)
    return images


def error_after_training(how: Runtime, folder: Path) -> tuple[float, dict]:
    """Train a network; its mean squared error on noise that all devices share, and the scaler's state on the way."""
    student = place(network(), how).requires_grad_(True)
    images = ppap.to_tensor(stripes(64)).to(device_of(how))
    training = ppap.Training(steps=80, batch_size=4, learning_rate=3e-3, clip=1.0, checkpoint_every=40)
    checkpoint = Checkpoint(folder / "training.ckpt", "mine")
    with autocast(how):
        train_diffusion(student.train(), images, SCHEDULE, training, TrainingRun("student", 0, checkpoint))
    state = checkpoint.load()
    assert state is not None
    generator = torch.Generator().manual_seed(1)
    x0 = images.cpu()
    t = torch.randint(1000, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    abar = torch.tensor(SCHEDULE.alphas_cumprod, dtype=torch.float32)[t, None, None, None]
    with torch.no_grad():
        answer = student.cpu().eval()(abar.sqrt() * x0 + (1 - abar).sqrt() * eps, t)
    return float((answer - eps).square().mean()), state["scaler"]


@pytest.mark.parametrize(
    ("option", "scaled"),
    [
        ({"device": "cpu", "precision": "bfloat16"}, False),
        on_gpu({"device": "cuda"}, False),
        on_gpu({"device": "cuda", "precision": "bfloat16"}, False),
        on_gpu({"device": "cuda", "precision": "float16"}, True),  # whose gradients would underflow
    ],
)
def test_training_in_half_precision_learns_as_much(option: dict, scaled: bool, tmp_path: Path) -> None:
    """A GPU draws other random numbers, so that the errors are those of two trainings."""
    plain, _ = error_after_training(FLOAT32, tmp_path / "plain")
    error, scaler = error_after_training(Runtime(**option), tmp_path / "option")
    assert error == pytest.approx(plain, abs=0.1)  # 0.446 on the CPU, 0.446 in bfloat16; 1.0 where nothing is learned
    assert bool(scaler) == scaled and (not scaled or scaler["scale"] > 1)


class Hungry(nn.Module):
    """A network that takes 8 MiB for each image of a batch, and remembers the batches that it answered."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.answered: list[int] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scratch = torch.empty(len(x), 8 << 20, dtype=torch.uint8, device=x.device)
        self.answered.append(len(scratch))
        return self.weight * x.tanh()


@pytest.fixture
def a_gigabyte() -> Iterator[None]:
    """A GPU that has a gigabyte for this process."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((1 << 30) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.gpu
@GPU[1]
def test_a_batch_that_memory_does_not_hold_is_halved_and_no_image_changes(a_gigabyte) -> None:
    def images(device: str, size: int | str) -> tuple[np.ndarray, list[int]]:
        hungry = Hungry().requires_grad_(False).to(device)
        model = ppap.DiffusionModel(hungry, (1, 4, 4), SCHEDULE)
        return ppap.sample(model, 300, steps=5, batch_size=size).astype(int), hungry.answered

    fitted, answered = images("cuda", "auto")
    assert max(answered) in (32, 64)  # 256 and 128 take a gigabyte and more
    assert np.abs(fitted - images("cpu", 10)[0]).max() <= 1
    with pytest.raises(torch.OutOfMemoryError):
        images("cuda", 256)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("device", ["cpu", on_gpu("cuda")])
def test_a_loader_gives_what_was_read_and_pins_it_for_a_gpu(device: str, large: bool) -> None:
    read = list(loading.load(lambda n: torch.full((1000,), n), range(6), torch.device(device), large))
    assert [int(batch.unique()) for batch in read] == [*range(6)]
    assert all(batch.is_pinned() == (device == "cuda") for batch in read)
    assert [int(batch.to(device, non_blocking=True).sum()) for batch in read] == [1000 * n for n in range(6)]


@pytest.mark.parametrize("device", ["cpu", on_gpu("cuda")])
def test_batches_of_answered_images_are_the_same_on_every_device(device: str) -> None:
    images = ImagesInMemory(stripes(50))
    examples = AnsweredImages(images, TeacherAnswers(torch.arange(50.0), -torch.arange(50.0)), mirror=True)
    run = TrainingRun("run", 3)

    def batches(where: str) -> list[Tensor]:
        batch = examples.batches(8, run, torch.device(where))
        parts: list[Tensor] = []
        for step in range(4):
            torch.manual_seed(run.seed_at(step))
            parts += [part.cpu() for part in batch(step)[:2]]
        return parts

    for mine, plain in zip(batches(device), batches("cpu"), strict=True):
        assert torch.equal(mine, plain)


@pytest.mark.parametrize("device", ["cpu", on_gpu("cuda")])
def test_a_bank_of_experts_may_be_trained_and_used_anywhere(device: str) -> None:
    guide = deepcopy(classifier()).to(device)
    model = ppap.DiffusionModel(network().to(device), SHAPE, SCHEDULE)
    images = ppap.sample(model, 32, steps=5)
    training = ppap.Training(steps=40, batch_size=16, learning_rate=1e-2)
    bank = ppap.train_experts(guide, model, images, experts=2, training=training)
    moved = ppap.ExpertBank(deepcopy(classifier()), bank.experts)
    x = ppap.to_tensor(images)
    for log_snr in SCHEDULE.log_snr[[900, 100, 900]]:
        torch.testing.assert_close(bank.at(x.to(device), log_snr).cpu(), moved.at(x, log_snr), rtol=1e-2, atol=1e-2)
