"""The training of an expert: the off-the-shelf model, adapted to one noise range (paper, section 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ppap.diffusion.denoiser import add_noise
from ppap.diffusion.schedules import Schedule
from ppap.experts import lora
from ppap.experts.examples import Batch, Examples
from ppap.experts.expert import Expert, read_delta
from ppap.experts.settings import AdapterConfig
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Settings
from ppap.training.loop import TrainingRun, train
from ppap.training.settings import Training
from ppap.utils.seeds import Stream, mix


class TrainedExpert(NamedTuple):
    """The tensors of the guide that the training has changed, and facts for the expert's header."""

    delta: dict[str, Tensor]
    facts: dict[str, float]


def expert_loss(
    guide: Guide, batch: Batch, abar: Tensor, timesteps: range, settings: Settings, from_teacher: bool
) -> Tensor:
    """Return the loss of one step: of the guide's answers on x_t, each at a random t of these timesteps.

    It is the task's distance to the teacher's answers on x_0 (paper, section 4.2), or to what is true. `abar` are
    the schedule's alphas_cumprod (T,).
    """
    x0, answers = batch
    t = torch.randint(timesteps.start, timesteps.stop, (len(x0),), device=x0.device)
    student = guide(add_noise(x0, torch.randn_like(x0), abar[t]))
    if from_teacher:
        return guide.own_task.distillation(student, answers, settings)
    return guide.own_task.supervised(student, answers)


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
    initialisation: Expert | None = None,
) -> TrainedExpert:
    """Train a guide in place to be the expert of these timesteps, by examples.

    It trains the parameters that `adapter` says, all if that is None, from those of another expert if that is its
    `initialisation`; where the guide's weights are, in the precision of the autocast around the call. ConfigError if
    the adapter does not fit the network, DataError if the initialisation does not; NumericalError, naming the step,
    if a loss is not finite.
    """
    network, device = guide.network, guide.device
    buffers = {name for name, _ in network.named_buffers()}
    base = {name: value.clone() for name, value in network.state_dict().items()}
    size = sum(p.numel() for p in network.parameters())
    torch.manual_seed(mix(run.seed, Stream.INITIAL_WEIGHTS))
    if adapter is None:
        network.requires_grad_(True)
    else:
        lora.attach(network, adapter)
        if adapter.learning_rate is not None:
            training = training.model_copy(update={"learning_rate": adapter.learning_rate})
    if initialisation is not None:
        lora.load_delta(network, read_delta(initialisation, base, buffers), initialisation.path)
    guide.to(device).train()  # adapters are made on the CPU
    abar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float32, device=device)
    batches = examples.batches(training.batch_size, run, device)

    def loss_at(step: int) -> Tensor:
        return expert_loss(guide, batches(step), abar, timesteps, settings, examples.from_teacher)

    summary = train(network, loss_at, training, run)
    facts = {
        "range_start": timesteps.start,
        "range_stop": timesteps.stop,
        "trainable_parameters": lora.trainable_parameters(network),
        "guide_parameters": size,
        **summary,
    }
    return TrainedExpert(lora.delta(network, base), facts)
