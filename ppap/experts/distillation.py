"""The training of an expert: the off-the-shelf model, adapted to one noise range (paper, section 4)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ppap.diffusion.denoiser import Denoiser, add_noise
from ppap.diffusion.noise_ranges import TrainedAt, log_snr_range, midpoint
from ppap.diffusion.schedules import Schedule
from ppap.experts import lora
from ppap.experts.examples import Batch, Examples, HeldOut
from ppap.experts.expert import Expert, read_delta
from ppap.experts.settings import AdapterConfig
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Settings
from ppap.guides.views import TRAINED
from ppap.training.loop import TrainingRun, train
from ppap.training.settings import Training
from ppap.utils.seeds import Stream, mix

log = logging.getLogger(__name__)

_AVERAGED = 32
"""Batches that batch-norm statistics are averages of."""


class TrainedExpert(NamedTuple):
    """The tensors of the guide that the training has changed, and facts for the expert's header."""

    delta: dict[str, Tensor]
    facts: dict[str, float]


class Lesson(NamedTuple):
    """The noise that an expert sees, and the loss of its answers. `abar` are the schedule's alphas_cumprod (T,).

    With a `denoiser`, of the full schedule, the expert sees that one's estimate of x_0; with `estimated` images, these
    themselves.
    """

    abar: Tensor
    timesteps: range
    settings: Settings
    from_teacher: bool
    denoiser: Denoiser | None = None
    estimated: bool = False

    def noised(self, batch: Batch) -> Tensor:
        """Return what the expert sees of clean images (B, C, H, W), each at a random t of these timesteps."""
        x0 = batch.x0
        t = torch.randint(self.timesteps.start, self.timesteps.stop, (len(x0),), device=x0.device)
        return self.seen(batch, torch.randn_like(x0), t)

    def seen(self, batch: Batch, eps: Tensor, t: Tensor) -> Tensor:
        """Return x_t at timesteps (B,), or the estimate of x_0 in it."""
        if self.estimated:
            return batch.x0
        x_t = add_noise(batch.x0, eps, self.abar[t])
        return x_t if self.denoiser is None else self.denoiser.told(batch.labels).x0_hat(x_t, t)

    def loss(self, guide: Guide, seen: Tensor, answers: Tensor) -> Tensor:
        """Return the task's distance to the teacher's answers on x_0 (paper, section 4.2), or to what is true."""
        if self.from_teacher:
            return guide.own_task.distillation(guide(seen), answers, self.settings)
        return guide.own_task.supervised(guide(seen), answers)

    @torch.no_grad()
    def held_out_loss(self, guide: Guide, images: HeldOut, batch_size: int) -> float:
        """Return the mean loss over images whose timesteps and noise are the same for every guide."""
        guide.eval()
        generator = torch.Generator().manual_seed(mix(Stream.HELD_OUT))
        total, count = 0.0, 0
        for batch in images.in_order(batch_size, guide.device):
            x0 = batch.x0
            t = torch.randint(self.timesteps.start, self.timesteps.stop, (len(x0),), generator=generator)
            noise = torch.randn(x0.shape, generator=generator).to(x0)
            seen = self.seen(batch, noise, t.to(x0.device))
            total += len(x0) * float(self.loss(guide, seen, batch.answers))
            count += len(x0)
        torch.clear_autocast_cache()  # or training would go on with the weights of now
        return total / count


def train_expert(
    guide: Guide,
    examples: Examples,
    *,
    schedule: Schedule,
    timesteps: range,
    training: Training,
    adapter: AdapterConfig | None,
    settings: Settings,
    run: TrainingRun,
    held_out: HeldOut | None = None,
    initialisation: Expert | None = None,
    denoiser: Denoiser | None = None,
    trained_at: TrainedAt = "range",
) -> TrainedExpert:
    """Train a guide in place to be the expert of these timesteps, by examples.

    It sees x_t or, with a `denoiser` of the full schedule, that one's estimate of x_0; `trained_at` the midpoint of the
    timesteps alone, or everywhere in them. It trains the parameters that
    `adapter` says, all if that is None, and a linear view of latents, from those of another expert if that is its
    `initialisation`; where the guide's weights are, in the precision of the autocast around the call. Its batch-norm
    statistics end as averages over what it is trained at. Its loss over the range, on images that are held out, and that of
    the guide before, are facts; a warning is logged if it is worse. ConfigError if the adapter does not fit the network, DataError if the
    initialisation does not; NumericalError, naming the step, if a loss is not finite.
    """
    network, device = guide.network, guide.device
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)
    lesson = Lesson(abar, timesteps, settings, examples.from_teacher, denoiser, examples.estimated)
    taught = lesson if trained_at == "range" else lesson._replace(timesteps=midpoint(timesteps))
    before = lesson.held_out_loss(guide, held_out, training.batch_size) if held_out else None
    buffers = {name for name, _ in network.named_buffers()}
    base = {name: value.clone() for name, value in network.state_dict().items()}
    size = sum(p.numel() for p in network.parameters())
    torch.manual_seed(mix(run.seed, Stream.INITIAL_WEIGHTS))
    if adapter is None:
        network.requires_grad_(True)
    else:
        lora.attach(network, adapter.model_copy(update={"train": (*adapter.train, f"{TRAINED}*")}))
        if adapter.learning_rate is not None:
            training = training.model_copy(update={"learning_rate": adapter.learning_rate})
    if initialisation is not None:
        lora.load_delta(network, read_delta(initialisation, base, buffers), initialisation.path)
    guide.to(device).train()  # adapters are made on the CPU
    batches = examples.batches(training.batch_size, run, device)

    def loss_at(step: int) -> Tensor:
        batch = batches(step)
        return taught.loss(guide, taught.noised(batch), batch.answers)

    def noised_at(step: int) -> Tensor:
        torch.manual_seed(run.seed_at(step))
        return taught.noised(batches(step))

    log_snr_min, log_snr_max = log_snr_range(schedule, timesteps)
    facts = {
        "range_start": timesteps.start,
        "range_stop": timesteps.stop,
        "log_snr_min": log_snr_min,
        "log_snr_max": log_snr_max,
        "trainable_parameters": lora.trainable_parameters(network),
        "guide_parameters": size,
        **train(network, loss_at, training, run),
    }
    average_statistics(guide, map(noised_at, range(training.steps, training.steps + _AVERAGED)))
    if held_out and before is not None:
        after = lesson.held_out_loss(guide, held_out, training.batch_size)
        facts |= {"held_out_loss": after, "off_the_shelf_loss": before}
        worse = "; it is worse than the model it came from: train it for longer" if after > before else ""
        said = "%s: loss on held-out images %.4g, off-the-shelf model %.4g%s"
        log.log(logging.WARNING if worse else logging.INFO, said, run.name, after, before, worse)
    return TrainedExpert(lora.delta(network, base), facts)


@torch.no_grad()
def average_statistics(guide: Guide, inputs: Iterable[Tensor]) -> None:
    """Recompute the statistics of batch norms that training moved: plain averages over batches of images.

    Those of a training lag behind by 1 / momentum steps, a hundred in networks from TensorFlow. The inputs are only
    drawn if there are such norms.
    """
    norms = [m for m in guide.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    guide.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average of all batches
        norm.train()
    if norms:
        for x_t in inputs:
            guide(x_t)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    guide.eval()
