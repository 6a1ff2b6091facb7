"""A student's training: the off-the-shelf model, adapted to one noise range (paper, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.schedules import Schedule
from ppap.experts import lora as adapters
from ppap.experts.lessons import LessonAt
from ppap.experts.settings import AdapterConfig
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Settings, Task
from ppap.training.loop import Session, train
from ppap.training.settings import Training
from ppap.utils.seeds import Stream, mix


@dataclass(frozen=True)
class Student:
    """What a guide is to become: an expert for these timesteps of a schedule.

    It trains the parameters that `adapter` says, or all of them if there is none, on answers that are `taught`, a
    teacher's, or true.
    """

    task: Task
    schedule: Schedule
    timesteps: range
    training: Training
    adapter: AdapterConfig | None
    taught: bool
    settings: Settings


class Start(NamedTuple):
    """Another expert's delta, from which a training starts, and its file or name."""

    changed: dict[str, Tensor]
    source: Path


class Learned(NamedTuple):
    """What a training came to: what it changed of the guide, and facts for the expert's header."""

    delta: dict[str, Tensor]
    facts: dict[str, float]


def learn(
    guide: Guide,
    student: Student,
    lesson: LessonAt,
    session: Session,
    device: torch.device,
    start: Start | None = None,
) -> Learned:
    """Train the guide in place, on the device, in the precision of the autocast around it.

    NumericalError, naming the step, if a loss is not finite.
    """
    network = guide.network
    base = {name: value.clone() for name, value in network.state_dict().items()}
    size = sum(p.numel() for p in network.parameters())
    torch.manual_seed(mix(session.seed, Stream.INITIAL_WEIGHTS))
    training = _make_student(guide, student)
    if start is not None:
        adapters.load_delta(network, start.changed, start.source)
    guide.to(device).train()
    summary = train(network, _loss(guide, student, lesson, device), training, session)
    facts = {
        "range_start": student.timesteps.start,
        "range_stop": student.timesteps.stop,
        "trainable_parameters": adapters.trainable_parameters(network),
        "guide_parameters": size,
        **summary,
    }
    return Learned(adapters.delta(network, base), facts)


def _make_student(guide: Guide, student: Student) -> Training:
    """Choose the parameters that are trained; return how."""
    adapter, training = student.adapter, student.training
    if adapter is None:
        guide.network.requires_grad_(True)
        return training
    adapters.attach(guide.network, adapter)
    rate = adapter.learning_rate
    return training if rate is None else training.model_copy(update={"learning_rate": rate})


def _loss(
    guide: Guide, student: Student, lesson: LessonAt, device: torch.device
) -> Callable[[int], Tensor]:
    task, schedule = student.task, student.schedule
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)
    first, end = student.timesteps.start, student.timesteps.stop

    def loss_at(step: int) -> Tensor:
        x0, answers = lesson(step)
        t = torch.randint(first, end, (len(x0),), device=device)
        said = guide(add_noise(x0, torch.randn_like(x0), abar[t]))
        if student.taught:
            return task.distillation(said, answers, student.settings)
        return task.supervised(said, answers)

    return loss_at
