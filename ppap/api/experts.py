"""The training of a bank of experts from images in memory, and the bank as a folder."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data import datasets
from ppap.data.gathering import ImagesInMemory
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.noise_ranges import Allocation, noise_ranges
from ppap.diffusion.schedules import Schedule
from ppap.experts.bank import Expert, ExpertBank
from ppap.experts.distillation import Learned, Start, Student, learn
from ppap.experts.header import ExpertHeader
from ppap.experts.lessons import AnswersInMemory, LessonAt, Teaching, of_a_teacher, of_truths
from ppap.experts.settings import AdapterConfig, ExpertsConfig
from ppap.experts.teacher import answers_on, check_finite
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Task
from ppap.training.loop import Session
from ppap.training.settings import Training
from ppap.utils.checkpoint import Unkept
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.seeds import name_seed

ALL_LAYERS = AdapterConfig(layers=("*",))
"""LoRA on every convolution and linear layer but the heads (`fc`, `head`, `classifier`), and all biases."""


def train_experts(
    guide: Guide,
    model: DiffusionModel,
    images: NDArray[np.uint8],
    *,
    experts: int = 5,
    training: Training,
    adapter: AdapterConfig | None = ALL_LAYERS,
    truths: Tensor | None = None,
    allocation: Allocation = "uniform",
    warm_share: float = 0.5,
    mirror: bool = False,
    tau: float = 0.25,
    seed: int = 0,
) -> ExpertBank:
    """Train a bank of noise-aware experts of a guide, without data: from images that the diffusion model draws.

    The guide's own answers on `images`, uint8 (N, H, W, C), are what each expert learns to give on x_t (paper,
    section 4.2), x_t being noised by the schedule of `model`. The timesteps are divided among the experts
    (section 4.1). `training` is what all of them take together: a share of its steps, `warm_share`, goes to a start that
    they have in common. `adapter` says which few parameters they train; None: all. With `truths` (N, ...), which are
    classes, depth maps or label maps, they learn these instead: the supervised baselines. `mirror`: mirror images are
    as valid. The guide itself stays as it is. Training runs where the guide's weights are, in the precision of the
    autocast around the call. ConfigError for settings that cannot be; NumericalError if a loss is not finite.
    """
    task = guide.own_task
    ranges = noise_ranges(model.schedule, experts, allocation)
    _check_images(images, truths)
    lesson = _lessons(guide, task, images, truths, training.batch_size, mirror)
    warm, each = _shares(training.steps, experts, warm_share)
    settings = ExpertsConfig(tau=tau)

    def learned(name: str, timesteps: range, steps: int, start: Start | None) -> Learned:
        own = training.model_copy(update={"steps": steps})
        taught = truths is None
        student = Student(task, model.schedule, timesteps, own, adapter, taught, settings)
        session = Session(name, name_seed(seed, name), Unkept())
        return learn(copy.deepcopy(guide), student, lesson, session, guide.device, start)

    start = None
    if warm:
        shared = learned("shared start", range(ranges[-1].stop), warm, None)
        start = Start(shared.delta, Path("shared start"))
    about = _purpose(guide, task, model.schedule, adapter, truths is None)
    bank = []
    for number, timesteps in enumerate(ranges, 1):
        made = learned(f"expert {number} of {experts}", timesteps, each, start)
        header = ExpertHeader(**about | made.facts)
        bank.append(Expert(Path(f"expert_{number}.safetensors"), header, made.delta))
    return ExpertBank(copy.deepcopy(guide), bank)


def load_experts(folder: str | Path, guide: Guide) -> ExpertBank:
    """The bank that `ExpertBank.save`, or the workflow, wrote to a folder, for the guide that it was made of.

    DataError if an expert is missing, or was made for another guide. The guide itself stays as it is.
    """
    from ppap.experts.folder import read_bank

    experts = read_bank(Path(folder))
    state = state_of(guide)
    for expert in experts:
        if expert.header.guide_state not in (None, state):
            raise DataError(f"{expert.path}: made of another guide than '{guide.name}'")
    return ExpertBank(copy.deepcopy(guide), experts)


def state_of(guide: Guide) -> str:
    """A hash of the off-the-shelf parameters and buffers."""
    digest = hashlib.sha256()
    for piece in _pieces(guide):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(guide: Guide) -> Iterator[bytes]:
    for name, value in sorted(guide.network.state_dict().items()):
        yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def _check_images(images: NDArray[np.uint8], truths: Tensor | None) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise ConfigError(
            f"images: {images.dtype} {images.shape}; uint8 (N, height, width, channels) was expected"
        )
    if truths is not None and len(truths) != len(images):
        raise ConfigError(f"truths: {len(truths)} for {len(images)} images")


def _lessons(
    guide: Guide,
    task: Task,
    images: NDArray[np.uint8],
    truths: Tensor | None,
    batch_size: int,
    mirror: bool,
) -> LessonAt:
    device = guide.device
    if truths is not None:
        real = datasets.to_tensor(images).to(device)
        return of_truths(real, truths.to(device), task, batch_size, mirror)
    held = ImagesInMemory(images)
    batches = torch.arange(len(held)).split(batch_size)
    answers = answers_on(held, batches, guide, mirror, torch.float32, device)
    check_finite(answers, guide.name)
    taught = AnswersInMemory(answers)
    return of_a_teacher(Teaching(held, taught, batch_size, mirror, device))


def _shares(steps: int, experts: int, warm_share: float) -> tuple[int, int]:
    """Steps of the shared start, and of each expert."""
    if not 0 <= warm_share < 1:
        raise ConfigError(f"warm_share: {warm_share}; a number from 0, and below 1, was expected")
    warm = round(warm_share * steps) if experts > 1 else 0
    each = (steps - warm) // experts
    if each < 1:
        raise ConfigError(f"training.steps: {steps} are too few for {experts} experts")
    return warm, each


def _purpose(
    guide: Guide, task: Task, schedule: Schedule, adapter: AdapterConfig | None, taught: bool
) -> dict[str, object]:
    """What the experts are made for, as their headers say it."""
    betas = hashlib.sha256(np.round(schedule.betas, 9).tobytes()).hexdigest()[:12]
    return {
        "guide": guide.name,
        "guide_sha256": None,
        "guide_state": state_of(guide),
        "task": type(task).__name__,
        "timesteps": schedule.train_timesteps,
        "noise_schedule": f"betas {betas}",
        "supervision": "teacher" if taught else "labels",
        "trainable": "all" if adapter is None else "adapter",
        "rank": adapter.rank if adapter else None,
        "lora_scale": adapter.alpha / adapter.rank if adapter else 1.0,
    }
