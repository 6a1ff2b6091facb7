"""The training of a preset's experts: where each starts, what it learns from, and where it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ppap.config import Preset
from ppap.config.runs import expert_steps, has_warm_start, warm_name, warm_steps
from ppap.data import datasets, streams
from ppap.data.shards import labelled_images
from ppap.diffusion.schedules import Schedule
from ppap.experts.bank import read_start
from ppap.experts.distillation import Start, Student, learn
from ppap.experts.header import ExpertHeader, Purpose, purpose, purpose_of
from ppap.experts.lessons import (
    Lesson,
    LessonAt,
    Teaching,
    of_a_teacher,
    of_a_teacher_ahead,
    of_truths,
)
from ppap.training.loop import Session
from ppap.utils import files, runtime
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.errors import ConfigError
from ppap.utils.seeds import name_seed
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from ppap.workflow.targets import task_of


class StartFile(NamedTuple):
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
    start: StartFile | None = None

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


def _start(
    layout: Layout, guide: str, method: str, expert: int, made_for: Purpose
) -> StartFile | None:
    """What an expert starts from: what all of the method share, or the expert before it."""
    path = layout.start(guide, method, expert)
    if path is None:
        return None
    preset, spec = layout.preset, layout.preset.methods[method]
    if has_warm_start(preset, spec):
        name = warm_name(str(spec.supervision), str(spec.trainable))
        shared = made_for.model_copy(update={"method": name})
        return StartFile(path, shared, range(preset.diffusion.timesteps))
    return StartFile(path, made_for, preset.ranges(spec)[expert - 2])


def _train(layout: Layout, course: Course, checkpoint: Checkpoint, mark: str) -> None:
    """Train a student, and write what differs from the off-the-shelf guide."""
    preset = layout.preset
    guide = models.load_guide(layout, course.guide)
    session = Session(course.name, name_seed(preset.seed, course.name), checkpoint)
    files.check_writable(course.out, checkpoint.path)
    start = None
    if course.start is not None:
        start = Start(read_start(*course.start, guide.network.state_dict()), course.start.path)
    student = _student(preset, course)
    device = runtime.device(preset.runtime)
    with runtime.autocast(preset.runtime), _lessons(layout, course, student, session) as lesson:
        learned = learn(guide, student, lesson, session, device, start)
    header = ExpertHeader(
        **course.purpose.model_dump(exclude={"lora_scale"}),
        lora_scale=course.purpose.lora_scale or 1.0,
        config=mark,
        **learned.facts,
    )
    files.write_tensors(course.out, learned.delta, header.metadata())
    checkpoint.drop()


def _student(preset: Preset, course: Course) -> Student:
    spec, diffusion = preset.guides[course.guide], preset.diffusion
    return Student(
        task=task_of(preset, course.guide),
        schedule=Schedule.create(diffusion.noise_schedule, diffusion.timesteps),
        timesteps=course.timesteps,
        training=spec.experts.model_copy(update={"steps": course.steps}),
        adapter=spec.adapter if course.adapted else None,
        taught=course.supervision == "teacher",
        settings=preset.experts,
    )


@contextmanager
def _lessons(
    layout: Layout, course: Course, student: Student, session: Session
) -> Iterator[LessonAt]:
    """A source of random batches by step: real images with labels, or clean ones with a teacher's answers."""
    preset, batch_size = layout.preset, student.training.batch_size
    device, mirror = runtime.device(preset.runtime), preset.dataset.mirror
    if student.taught:
        images, answers = labelled_images(layout, course.guide)
        teaching = Teaching(images, answers, batch_size, mirror, device)
        if teaching.is_large:
            with of_a_teacher_ahead(teaching, session.seed_at, course.steps) as lesson:
                yield lesson
        else:
            yield of_a_teacher(teaching)
    elif preset.dataset.facts.streamed:
        batches = streams.training_batches(preset.dataset, batch_size, session.seed, device)
        yield lambda step: Lesson(*batches(step))
    else:
        data = datasets.load(layout, "train")
        real = datasets.to_tensor(data.images).to(device)
        truths = data.truth_of(preset, course.guide).to(device)
        yield of_truths(real, truths, student.task, batch_size, mirror)
