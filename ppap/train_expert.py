"""Training of one expert: the off-the-shelf model, adapted to one noise range (paper, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ppap import adapters, datasets, files, models, runtime
from ppap.checkpoints import Checkpoint, checkpoint_of
from ppap.config import DATASET, Config, MethodConfig, Training
from ppap.dependencies import fingerprint, of_clean_images, of_expert
from ppap.distill import class_kl
from ppap.errors import ConfigError, DataError
from ppap.expert_header import ExpertHeader, Purpose, purpose
from ppap.experts import read_start
from ppap.guides import Guide
from ppap.image_folder import TrainingBatches, list_files
from ppap.pretrain import add_noise
from ppap.runs import (
    WARM,
    ExpertJob,
    Layout,
    expert_steps,
    has_warm_start,
    warm_name,
)
from ppap.schedules import Schedule
from ppap.seeds import Stream, mix, name_seed
from ppap.shards import labelled_images
from ppap.training import Job, train


class Lesson(NamedTuple):
    """A batch to learn from: clean images (B, C, H, W), and what the student should say of them."""

    x0: Tensor
    answers: Tensor


def train_expert(config: Config, layout: Layout, expert: ExpertJob) -> None:
    """Train one expert (or, for part "warm", the shared start) and write what it changes."""
    method = config.methods[expert.method]
    timesteps = expert_range(config, expert)
    guide = models.load_guide(config, layout, expert.guide)
    base = {name: value.clone() for name, value in guide.network.state_dict().items()}
    size = sum(p.numel() for p in guide.network.parameters())
    name, out, start, steps = place(config, layout, expert)
    job = Job(name, name_seed(config.seed, name), unfinished(config, layout, expert))
    files.check_writable(out, job.checkpoint.path)
    torch.manual_seed(mix(job.seed, Stream.INITIAL_WEIGHTS))
    wanted = purpose(config, expert.guide, expert.method, layout.model(expert.guide))
    if expert.part == WARM:
        wanted = wanted.model_copy(update={"method": warm_name(method)})
    training = _make_student(config, guide, expert, steps)
    if start is not None:
        changed = read_start(start, *_of_start(config, expert, wanted), base)
        adapters.load_delta(guide.network, changed, start)
    guide.to(runtime.device(config.runtime)).train()
    lesson = _lessons(config, layout, expert, training.batch_size, job.seed)
    loss_at = _loss(config, guide, lesson, timesteps, method)
    with runtime.autocast(config.runtime):
        summary = train(guide.network, loss_at, training, job)
    adapter = config.guides[expert.guide].adapter
    header = ExpertHeader(
        **{**wanted.model_dump(), "lora_scale": adapter.alpha / adapter.rank},
        range_start=timesteps.start,
        range_stop=timesteps.stop,
        trainable_parameters=adapters.trainable_parameters(guide.network),
        guide_parameters=size,
        config=fingerprint(config, *_parts(config, expert)),
        **summary,
    )
    files.write_tensors(out, adapters.delta(guide.network, base), header.metadata())
    job.checkpoint.drop()


def unfinished(config: Config, layout: Layout, expert: ExpertJob) -> Checkpoint:
    """The checkpoint of an expert's training."""
    fits_in = place(config, layout, expert)
    inputs = [layout.model(expert.guide), *_lesson_files(config, layout, expert)]
    inputs += [fits_in.start] if fits_in.start else []
    return checkpoint_of(config, layout, fits_in.out, _parts(config, expert), inputs)


def _parts(config: Config, expert: ExpertJob) -> list[str]:
    return [*of_clean_images(config), f"guides.{expert.guide}", *of_expert(expert)]


def _lesson_files(config: Config, layout: Layout, expert: ExpertJob) -> list[Path]:
    """What the expert learns from, but for images in a folder of the user's."""
    if config.methods[expert.method].supervision == "labels":
        return [layout.model(DATASET)] if config.dataset.kind == "registered" else []
    shards, parts = range(len(layout.clean_sizes)), range(len(layout.label_sizes))
    clean = [layout.clean(shard) for shard in shards]
    return clean + [layout.labels(expert.guide, part) for part in parts]


def expert_range(config: Config, expert: ExpertJob) -> range:
    """The timesteps of the expert; all of them for the shared start. ConfigError if there is none such."""
    method = config.methods[expert.method]
    if method.guidance != "experts":
        raise ConfigError(f"methods.{expert.method}: has no experts to train")
    if method.imported:
        raise ConfigError(f"methods.{expert.method}: its experts are imported, not trained")
    if expert.part == WARM and has_warm_start(config, method):
        return range(config.diffusion.timesteps)
    ranges = config.ranges(method)
    if expert.part not in map(str, range(1, len(ranges) + 1)):
        raise ConfigError(
            f"methods.{expert.method}: no expert '{expert.part}': there are {len(ranges)}, counted from 1"
        )
    return ranges[int(expert.part) - 1]


def _make_student(config: Config, guide: Guide, expert: ExpertJob, steps: int) -> Training:
    """Make the guide the student, in place; return how it is trained."""
    spec, method = config.guides[expert.guide], config.methods[expert.method]
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


def _of_start(config: Config, expert: ExpertJob, wanted: Purpose) -> tuple[Purpose, range]:
    """What an expert's start was made for: what all of the method share, or the expert before it."""
    method = config.methods[expert.method]
    if has_warm_start(config, method):
        shared = wanted.model_copy(update={"method": warm_name(method)})
        return shared, range(config.diffusion.timesteps)
    return wanted, config.ranges(method)[int(expert.part) - 2]


class Place(NamedTuple):
    """Name, output file, file to start from (if any) and steps of an expert's training."""

    name: str
    out: Path
    start: Path | None
    steps: int


def place(config: Config, layout: Layout, expert: ExpertJob) -> Place:
    """Where an expert's training fits in."""
    method = config.methods[expert.method]
    warm_steps, steps = expert_steps(config, expert.guide, method)
    warm = layout.warm(expert.guide, warm_name(method))
    if expert.part == WARM:
        return Place(f"{expert.guide}.{warm_name(method)}", warm, None, warm_steps)
    part = int(expert.part)
    name = f"{expert.guide}.{expert.method}.{part}"
    start = warm if has_warm_start(config, method) else None
    if config.experts.warm_start == "sequential" and part > 1:
        start = layout.expert(expert.guide, expert.method, part - 1)
    return Place(name, layout.expert(expert.guide, expert.method, part), start, steps)


def _loss(
    config: Config,
    guide: Guide,
    lesson: Callable[[int], Lesson],
    timesteps: range,
    method: MethodConfig,
) -> Callable[[int], Tensor]:
    schedule = Schedule.create(config.diffusion.noise_schedule, config.diffusion.timesteps)
    device = runtime.device(config.runtime)
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)
    experts = config.experts

    def loss_at(step: int) -> Tensor:
        x0, answers = lesson(step)
        t = torch.randint(timesteps.start, timesteps.stop, (len(x0),), device=device)
        student = guide(add_noise(x0, torch.randn_like(x0), abar[t]))
        if method.supervision == "labels":
            return F.cross_entropy(student.float(), answers)
        return class_kl(student, answers, experts.tau, experts.reduction)

    return loss_at


def _lessons(
    config: Config, layout: Layout, expert: ExpertJob, batch_size: int, seed: int
) -> Callable[[int], Lesson]:
    """A source of random batches by step: real images with labels, or clean ones with a teacher's answers."""
    if config.methods[expert.method].supervision == "teacher":
        return _distilled(config, layout, expert.guide, batch_size)
    if config.dataset.kind == "image_folder":
        return _streamed(config, batch_size, seed)
    return _supervised(config, layout, batch_size)


def _supervised(config: Config, layout: Layout, batch_size: int) -> Callable[[int], Lesson]:
    device = runtime.device(config.runtime)
    data = datasets.load(config, layout, "train")
    real, labels = datasets.to_tensor(data.images).to(device), data.labels.to(device)

    def lesson(step: int) -> Lesson:
        chosen = torch.randint(len(real), (batch_size,))
        coin = _coin(batch_size, config.dataset.mirror)
        return Lesson(_mirrored(real[chosen], coin), labels[chosen])

    return lesson


def _streamed(config: Config, batch_size: int, seed: int) -> Callable[[int], Lesson]:
    data = config.dataset
    try:
        found = list_files(Path(data.path or ""), data.classes)
    except DataError as error:
        raise DataError(
            f"dataset.path: {error}; `supervised: false` leaves out the rows that need it"
        ) from None
    device = runtime.device(config.runtime)
    batches = TrainingBatches(found, data.image_size, batch_size, seed, data.mirror, device=device)
    return lambda step: Lesson(*batches(step))


def _distilled(
    config: Config, layout: Layout, guide: str, batch_size: int
) -> Callable[[int], Lesson]:
    device, mirror = runtime.device(config.runtime), config.dataset.mirror
    images, targets = labelled_images(config, layout, guide)

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
