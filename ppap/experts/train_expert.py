"""Training of one expert: the off-the-shelf model, adapted to one noise range (paper, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ppap.data import datasets
from ppap.data.image_folder import TrainingBatches, list_files
from ppap.data.shards import labelled_images
from ppap.diffusion.schedules import Schedule
from ppap.errors import ConfigError, DataError
from ppap.experts import adapters
from ppap.experts.bank import read_start
from ppap.experts.distill import class_kl
from ppap.experts.header import ExpertHeader, Purpose, purpose
from ppap.graph.checkpoints import Checkpoint, checkpoint_of
from ppap.graph.dependencies import fingerprint, of_clean_images, of_expert
from ppap.graph.layout import Layout
from ppap.networks import models, runtime
from ppap.networks.guide import Guide
from ppap.preset import DATASET, MethodConfig, Preset, Training
from ppap.preset.runs import WARM, ExpertJob, expert_steps, has_warm_start, warm_name
from ppap.seeds import Stream, mix, name_seed
from ppap.storage import files
from ppap.training.loop import Job, train
from ppap.training.pretrain import add_noise


class Lesson(NamedTuple):
    """A batch to learn from: clean images (B, C, H, W), and what the student should say of them."""

    x0: Tensor
    answers: Tensor


def train_expert(layout: Layout, expert: ExpertJob) -> None:
    """Train one expert (or, for part "warm", the shared start) and write what it changes."""
    preset = layout.preset
    method = preset.methods[expert.method]
    timesteps = expert_range(preset, expert)
    guide = models.load_guide(layout, expert.guide)
    base = {name: value.clone() for name, value in guide.network.state_dict().items()}
    size = sum(p.numel() for p in guide.network.parameters())
    name, out, start, steps = place(layout, expert)
    job = Job(name, name_seed(preset.seed, name), unfinished(layout, expert))
    files.check_writable(out, job.checkpoint.path)
    torch.manual_seed(mix(job.seed, Stream.INITIAL_WEIGHTS))
    wanted = purpose(preset, expert.guide, expert.method, layout.model(expert.guide))
    if expert.part == WARM:
        wanted = wanted.model_copy(update={"method": warm_name(method)})
    training = _make_student(preset, guide, expert, steps)
    if start is not None:
        changed = read_start(start, *_of_start(preset, expert, wanted), base)
        adapters.load_delta(guide.network, changed, start)
    guide.to(runtime.device(preset.runtime)).train()
    lesson = _lessons(layout, expert, training.batch_size, job.seed)
    loss_at = _loss(preset, guide, lesson, timesteps, method)
    with runtime.autocast(preset.runtime):
        summary = train(guide.network, loss_at, training, job)
    adapter = preset.guides[expert.guide].adapter
    header = ExpertHeader(
        **{**wanted.model_dump(), "lora_scale": adapter.alpha / adapter.rank},
        range_start=timesteps.start,
        range_stop=timesteps.stop,
        trainable_parameters=adapters.trainable_parameters(guide.network),
        guide_parameters=size,
        config=fingerprint(preset, *_parts(preset, expert)),
        **summary,
    )
    files.write_tensors(out, adapters.delta(guide.network, base), header.metadata())
    job.checkpoint.drop()


def unfinished(layout: Layout, expert: ExpertJob) -> Checkpoint:
    """The checkpoint of an expert's training."""
    preset = layout.preset
    fits_in = place(layout, expert)
    inputs = [layout.model(expert.guide), *_lesson_files(layout, expert)]
    inputs += [fits_in.start] if fits_in.start else []
    return checkpoint_of(layout, fits_in.out, _parts(preset, expert), inputs)


def _parts(preset: Preset, expert: ExpertJob) -> list[str]:
    return [*of_clean_images(preset), f"guides.{expert.guide}", *of_expert(expert)]


def _lesson_files(layout: Layout, expert: ExpertJob) -> list[Path]:
    """What the expert learns from, but for images in a folder of the user's."""
    preset = layout.preset
    if preset.methods[expert.method].supervision == "labels":
        return [layout.model(DATASET)] if preset.dataset.kind == "registered" else []
    shards, parts = range(len(layout.clean_sizes)), range(len(layout.label_sizes))
    clean = [layout.clean(shard) for shard in shards]
    return clean + [layout.labels(expert.guide, part) for part in parts]


def expert_range(preset: Preset, expert: ExpertJob) -> range:
    """The timesteps of the expert; all of them for the shared start. ConfigError if there is none such."""
    method = preset.methods[expert.method]
    if method.guidance != "experts":
        raise ConfigError(f"methods.{expert.method}: has no experts to train")
    if method.imported:
        raise ConfigError(f"methods.{expert.method}: its experts are imported, not trained")
    if expert.part == WARM and has_warm_start(preset, method):
        return range(preset.diffusion.timesteps)
    ranges = preset.ranges(method)
    if expert.part not in map(str, range(1, len(ranges) + 1)):
        raise ConfigError(
            f"methods.{expert.method}: no expert '{expert.part}': there are {len(ranges)}, counted from 1"
        )
    return ranges[int(expert.part) - 1]


def _make_student(preset: Preset, guide: Guide, expert: ExpertJob, steps: int) -> Training:
    """Make the guide the student, in place; return how it is trained."""
    spec, method = preset.guides[expert.guide], preset.methods[expert.method]
    if steps < 1:
        raise ConfigError(
            f"guides.{expert.guide}.experts.steps: too few for each expert to have one"
        )
    training = spec.experts.model_copy(update={"steps": steps})
    if method.trainable == "adapter":
        adapters.attach(guide.network, spec.adapter)
        rate = spec.adapter.learning_rate or training.learning_rate
        training = training.model_copy(update={"learning_rate": rate})
    else:
        guide.network.requires_grad_(True)
    return training


def _of_start(preset: Preset, expert: ExpertJob, wanted: Purpose) -> tuple[Purpose, range]:
    """What an expert's start was made for: what all of the method share, or the expert before it."""
    method = preset.methods[expert.method]
    if has_warm_start(preset, method):
        shared = wanted.model_copy(update={"method": warm_name(method)})
        return shared, range(preset.diffusion.timesteps)
    return wanted, preset.ranges(method)[int(expert.part) - 2]


class Place(NamedTuple):
    """Name, output file, file to start from (if any) and steps of an expert's training."""

    name: str
    out: Path
    start: Path | None
    steps: int


def place(layout: Layout, expert: ExpertJob) -> Place:
    """Where an expert's training fits in."""
    preset = layout.preset
    method = preset.methods[expert.method]
    warm_steps, steps = expert_steps(preset, expert.guide, method)
    warm = layout.warm(expert.guide, warm_name(method))
    if expert.part == WARM:
        return Place(f"{expert.guide}.{warm_name(method)}", warm, None, warm_steps)
    part = int(expert.part)
    name = f"{expert.guide}.{expert.method}.{part}"
    start = warm if has_warm_start(preset, method) else None
    if preset.experts.warm_start == "sequential" and part > 1:
        start = layout.expert(expert.guide, expert.method, part - 1)
    return Place(name, layout.expert(expert.guide, expert.method, part), start, steps)


def _loss(
    preset: Preset,
    guide: Guide,
    lesson: Callable[[int], Lesson],
    timesteps: range,
    method: MethodConfig,
) -> Callable[[int], Tensor]:
    schedule = Schedule.create(preset.diffusion.noise_schedule, preset.diffusion.timesteps)
    device = runtime.device(preset.runtime)
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)
    experts = preset.experts

    def loss_at(step: int) -> Tensor:
        x0, answers = lesson(step)
        t = torch.randint(timesteps.start, timesteps.stop, (len(x0),), device=device)
        student = guide(add_noise(x0, torch.randn_like(x0), abar[t]))
        if method.supervision == "labels":
            return F.cross_entropy(student.float(), answers)
        return class_kl(student, answers, experts.tau, experts.reduction)

    return loss_at


def _lessons(
    layout: Layout, expert: ExpertJob, batch_size: int, seed: int
) -> Callable[[int], Lesson]:
    """A source of random batches by step: real images with labels, or clean ones with a teacher's answers."""
    preset = layout.preset
    if preset.methods[expert.method].supervision == "teacher":
        return _distilled(layout, expert.guide, batch_size)
    if preset.dataset.kind == "image_folder":
        return _streamed(preset, batch_size, seed)
    return _supervised(layout, batch_size)


def _supervised(layout: Layout, batch_size: int) -> Callable[[int], Lesson]:
    preset = layout.preset
    device = runtime.device(preset.runtime)
    data = datasets.load(layout, "train")
    real, labels = datasets.to_tensor(data.images).to(device), data.labels.to(device)

    def lesson(step: int) -> Lesson:
        chosen = torch.randint(len(real), (batch_size,))
        coin = _coin(batch_size, preset.dataset.mirror)
        return Lesson(_mirrored(real[chosen], coin), labels[chosen])

    return lesson


def _streamed(preset: Preset, batch_size: int, seed: int) -> Callable[[int], Lesson]:
    data = preset.dataset
    try:
        found = list_files(Path(data.path or ""), data.classes)
    except DataError as error:
        raise DataError(
            f"dataset.path: {error}; `supervised: false` leaves out the rows that need it"
        ) from None
    device = runtime.device(preset.runtime)
    batches = TrainingBatches(found, data.image_size, batch_size, seed, data.mirror, device=device)
    return lambda step: Lesson(*batches(step))


def _distilled(layout: Layout, guide: str, batch_size: int) -> Callable[[int], Lesson]:
    preset = layout.preset
    device, mirror = runtime.device(preset.runtime), preset.dataset.mirror
    images, targets = labelled_images(layout, guide)

    def lesson(step: int) -> Lesson:
        chosen = torch.randint(len(images), (batch_size,))
        coin = _coin(batch_size, mirror)
        x0 = datasets.to_tensor(torch.from_numpy(images.take(chosen)).to(device))
        return Lesson(_mirrored(x0, coin), targets.take(chosen, coin).to(device))

    return lesson


def _coin(batch_size: int, mirror: bool) -> Tensor:
    return torch.rand(batch_size) < (0.5 if mirror else 0.0)


def _mirrored(x: Tensor, coin: Tensor) -> Tensor:
    return torch.where(coin.to(x.device)[:, None, None, None], x.flip(-1), x)
