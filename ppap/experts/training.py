"""The training of experts: the off-the-shelf model, adapted to one noise range (paper, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.data import datasets, streams
from ppap.data.shards import labelled_images
from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.schedules import Schedule
from ppap.errors import ConfigError
from ppap.experts import adapters
from ppap.experts.bank import read_start
from ppap.experts.header import ExpertHeader, Purpose, purpose, purpose_of
from ppap.graph.checkpoints import Checkpoint
from ppap.graph.layout import Layout
from ppap.graph.targets import task_of
from ppap.networks import models, runtime
from ppap.networks.guide import Guide
from ppap.preset import Preset, Training
from ppap.preset.runs import expert_steps, has_warm_start, warm_name, warm_steps
from ppap.seeds import Stream, mix, name_seed
from ppap.storage import files
from ppap.training.loop import Session, train


class Lesson(NamedTuple):
    """A batch to learn from: clean images (B, C, H, W), and what the student should say of them."""

    x0: Tensor
    answers: Tensor


class Start(NamedTuple):
    """The expert file that a training starts from, and what that expert must have been made for."""

    path: Path
    purpose: Purpose
    timesteps: range


@dataclass(frozen=True)
class Course:
    """One training of a guide as a student: `name` seeds its random numbers."""

    name: str
    guide: str
    purpose: Purpose
    timesteps: range
    steps: int
    out: Path
    start: Start | None = None

    @property
    def supervision(self) -> str:
        return str(self.purpose.supervision)

    @property
    def adapted(self) -> bool:
        return self.purpose.trainable == "adapter"


def train_warm_start(
    layout: Layout, guide: str, supervision: str, trainable: str, checkpoint: Checkpoint, mark: str
) -> None:
    """Train the start that experts of this supervision and these parameters share; write what it changes."""
    preset = layout.preset
    name = warm_name(supervision, trainable)
    steps = warm_steps(preset, guide)
    made_for = purpose(preset, guide, name, supervision, trainable, layout.model(guide))
    everywhere = range(preset.diffusion.timesteps)
    out = layout.warm(guide, name)
    course = Course(f"{guide}.{name}", guide, made_for, everywhere, steps, out)
    _train(layout, course, checkpoint, mark)


def train_expert(
    layout: Layout, guide: str, method: str, expert: int, checkpoint: Checkpoint, mark: str
) -> None:
    """Train one expert, from its start if it has one, and write what it changes.

    ConfigError if the preset's method has no such expert to train.
    """
    preset = layout.preset
    spec = preset.methods[method]
    timesteps = expert_range(preset, method, expert)
    made_for = purpose_of(preset, guide, method, layout.model(guide))
    _, steps = expert_steps(preset, guide, spec)
    if steps < 1:
        raise ConfigError(f"guides.{guide}.experts.steps: too few for each expert to have one")
    name, out = f"{guide}.{method}.{expert}", layout.expert(guide, method, expert)
    start = _start(layout, guide, method, expert, made_for)
    _train(layout, Course(name, guide, made_for, timesteps, steps, out, start), checkpoint, mark)


def expert_range(preset: Preset, method: str, expert: int) -> range:
    """The timesteps of the expert; ConfigError if there is none such."""
    spec = preset.methods[method]
    if not preset.guidance(method).experts:
        raise ConfigError(f"methods.{method}: has no experts to train")
    if spec.imported:
        raise ConfigError(f"methods.{method}: its experts are imported, not trained")
    ranges = preset.ranges(spec)
    if not 1 <= expert <= len(ranges):
        raise ConfigError(
            f"methods.{method}: no expert '{expert}': there are {len(ranges)}, counted from 1"
        )
    return ranges[expert - 1]


def _start(layout: Layout, guide: str, method: str, expert: int, made_for: Purpose) -> Start | None:
    """What an expert starts from: what all of the method share, or the expert before it."""
    path = layout.start(guide, method, expert)
    if path is None:
        return None
    preset, spec = layout.preset, layout.preset.methods[method]
    if has_warm_start(preset, spec):
        name = warm_name(str(spec.supervision), str(spec.trainable))
        shared = made_for.model_copy(update={"method": name})
        return Start(path, shared, range(preset.diffusion.timesteps))
    return Start(path, made_for, preset.ranges(spec)[expert - 2])


def _train(layout: Layout, course: Course, checkpoint: Checkpoint, mark: str) -> None:
    """Train a student, and write what differs from the off-the-shelf guide."""
    preset = layout.preset
    guide = models.load_guide(layout, course.guide)
    base = {name: value.clone() for name, value in guide.network.state_dict().items()}
    size = sum(p.numel() for p in guide.network.parameters())
    session = Session(course.name, name_seed(preset.seed, course.name), checkpoint)
    files.check_writable(course.out, checkpoint.path)
    torch.manual_seed(mix(session.seed, Stream.INITIAL_WEIGHTS))
    training = _make_student(preset, guide, course)
    if course.start is not None:
        changed = read_start(*course.start, base)
        adapters.load_delta(guide.network, changed, course.start.path)
    guide.to(runtime.device(preset.runtime)).train()
    lesson = _lessons(layout, course, training.batch_size, session.seed)
    loss_at = _loss(preset, guide, lesson, course)
    with runtime.autocast(preset.runtime):
        summary = train(guide.network, loss_at, training, session)
    header = ExpertHeader(
        **course.purpose.model_dump(exclude={"lora_scale"}),
        lora_scale=course.purpose.lora_scale or 1.0,
        range_start=course.timesteps.start,
        range_stop=course.timesteps.stop,
        trainable_parameters=adapters.trainable_parameters(guide.network),
        guide_parameters=size,
        config=mark,
        **summary,
    )
    files.write_tensors(course.out, adapters.delta(guide.network, base), header.metadata())
    checkpoint.drop()


def _make_student(preset: Preset, guide: Guide, course: Course) -> Training:
    """Make the guide the student, in place; return how it is trained."""
    spec = preset.guides[course.guide]
    training = spec.experts.model_copy(update={"steps": course.steps})
    if not course.adapted:
        guide.network.requires_grad_(True)
        return training
    adapters.attach(guide.network, spec.adapter)
    rate = spec.adapter.learning_rate
    return training if rate is None else training.model_copy(update={"learning_rate": rate})


def _loss(
    preset: Preset, guide: Guide, lesson: Callable[[int], Lesson], course: Course
) -> Callable[[int], Tensor]:
    schedule = Schedule.create(preset.diffusion.noise_schedule, preset.diffusion.timesteps)
    device = runtime.device(preset.runtime)
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)
    first, end = course.timesteps.start, course.timesteps.stop

    task = task_of(preset, course.guide)

    def loss_at(step: int) -> Tensor:
        x0, answers = lesson(step)
        t = torch.randint(first, end, (len(x0),), device=device)
        student = guide(add_noise(x0, torch.randn_like(x0), abar[t]))
        if course.supervision == "labels":
            return task.supervised(student, answers)
        return task.distillation(student, answers, preset.experts)

    return loss_at


def _lessons(layout: Layout, course: Course, batch_size: int, seed: int) -> Callable[[int], Lesson]:
    """A source of random batches by step: real images with labels, or clean ones with a teacher's answers."""
    preset = layout.preset
    if course.supervision == "teacher":
        return _distilled(layout, course.guide, batch_size)
    if preset.dataset.facts.streamed:
        return _streamed(preset, batch_size, seed)
    return _supervised(layout, course.guide, batch_size)


def _supervised(layout: Layout, guide: str, batch_size: int) -> Callable[[int], Lesson]:
    preset, task = layout.preset, task_of(layout.preset, guide)
    device = runtime.device(preset.runtime)
    data = datasets.load(layout, "train")
    real = datasets.to_tensor(data.images).to(device)
    truths = data.truth_of(preset, guide).to(device)

    def lesson(step: int) -> Lesson:
        chosen = torch.randint(len(real), (batch_size,))
        coin = _coin(batch_size, preset.dataset.mirror)
        true = truths[chosen]
        return Lesson(
            _chosen(coin, real[chosen].flip(-1), real[chosen]),
            _chosen(coin, task.mirrored(true), true),
        )

    return lesson


def _streamed(preset: Preset, batch_size: int, seed: int) -> Callable[[int], Lesson]:
    device = runtime.device(preset.runtime)
    batches = streams.training_batches(preset.dataset, batch_size, seed, device)
    return lambda step: Lesson(*batches(step))


def _distilled(layout: Layout, guide: str, batch_size: int) -> Callable[[int], Lesson]:
    preset = layout.preset
    device, mirror = runtime.device(preset.runtime), preset.dataset.mirror
    images, targets = labelled_images(layout, guide)

    def lesson(step: int) -> Lesson:
        chosen = torch.randint(len(images), (batch_size,))
        coin = _coin(batch_size, mirror)
        x0 = datasets.to_tensor(torch.from_numpy(images.take(chosen)).to(device))
        return Lesson(_chosen(coin, x0.flip(-1), x0), targets.take(chosen, coin).to(device))

    return lesson


def _coin(batch_size: int, mirror: bool) -> Tensor:
    return torch.rand(batch_size) < (0.5 if mirror else 0.0)


def _chosen(coin: Tensor, mirrored: Tensor, plain: Tensor) -> Tensor:
    """Of each pair (B, ...) the mirrored one where the coin (B,) says so."""
    return torch.where(coin.to(plain.device).view(-1, *[1] * (plain.ndim - 1)), mirrored, plain)
