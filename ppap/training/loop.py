"""One resumable optimisation loop; every network of a preset is trained by it.

Step k draws its random numbers from a seed made of the run's seed and k, so a run that is killed and
started again from its last checkpoint ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ppap.training.ema import EMA
from ppap.training.settings import Training
from ppap.utils.checkpoint import Checkpoint, Unkept
from ppap.utils.errors import NumericalError
from ppap.utils.progress import Bar
from ppap.utils.seeds import Stream, mix

_WATCHED = 100
"""Recent losses that are kept: they are averaged, and looked at only so often, since a GPU is waited for."""


class TrainingRun(NamedTuple):
    """The name of a training, the seed of its random numbers, and its checkpoint."""

    name: str
    seed: int
    checkpoint: Checkpoint | Unkept = Unkept()

    def seed_at(self, step: int) -> int:
        """Return the seed that torch's global generator is given at a step."""
        return mix(self.seed, Stream.TRAINING, step)


def train(
    network: nn.Module, loss_at: Callable[[int], Tensor], training: Training, run: TrainingRun
) -> dict[str, float]:
    """Train the network's trainable parameters in place, from its checkpoint if there is one.

    `loss_at(step)` returns a batch's loss; its random numbers come from torch's global generator. Returns
    the mean loss over the last steps. NumericalError, naming the step, if a loss is not finite.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: _rate(training, step))
    # the only precision whose gradients underflow
    half = torch.get_autocast_dtype("cuda") == torch.float16
    scaler = torch.amp.GradScaler(enabled=torch.is_autocast_enabled("cuda") and half)
    average = EMA(parameters, training.ema)
    parts = {"network": network, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    start, losses = _resume(parts, average, run)
    steps = range(start, training.steps)
    bar = Bar(steps, run.name, training.steps, initial=start, unit="step")
    for step in bar:
        torch.manual_seed(run.seed_at(step))
        loss = loss_at(step)
        losses[step % _WATCHED] = loss.detach()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        if training.clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, training.clip)
        scaler.step(optimizer)
        scaler.update()
        torch.clear_autocast_cache()  # the autocast around the call would go on with the weights of the first step
        scheduler.step()
        average.update(step)
        done = step + 1
        checkpoint_due = done % training.checkpoint_every == 0 and done < training.steps
        if done % _WATCHED == 0 or done == training.steps or checkpoint_due:
            _check(losses, step, run)
            bar.set_postfix(loss=f"{_mean(losses, done):.4f}", refresh=False)
        if checkpoint_due or done == training.steps:
            _check_weights(parameters, step, run)
        if checkpoint_due:
            _save(parts, average, losses, done, run)
    average.apply()
    return {"steps": training.steps, "final_loss": _mean(losses, training.steps)}


def _rate(training: Training, step: int) -> float:
    """Return the learning rate of a step, as a share of the largest."""
    warmup = round(training.warmup * training.steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / (training.steps - warmup)
    if training.decay == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress)) if training.decay == "cosine" else 1.0


def _mean(losses: Tensor, done: int) -> float:
    return float(losses[:done].mean())


def _check(losses: Tensor, step: int, run: TrainingRun) -> None:
    bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
    if bad:
        first = min(step - (step - slot) % _WATCHED for slot in bad)
        raise NumericalError(f"{run.name}: the loss is not finite at step {first}{run.checkpoint.hint}")


def _check_weights(parameters: Sequence[Tensor], step: int, run: TrainingRun) -> None:
    """Raise NumericalError unless all weights are finite: a loss tells of those before its step only."""
    if not all(torch.isfinite(parameter).all() for parameter in parameters):
        raise NumericalError(f"{run.name}: a weight is not finite after step {step}{run.checkpoint.hint}")


def _save(parts: dict[str, Any], average: EMA, losses: Tensor, step: int, run: TrainingRun) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    run.checkpoint.save(state | {"average": average.averages, "losses": losses, "step": step})


def _resume(parts: dict[str, Any], average: EMA, run: TrainingRun) -> tuple[int, Tensor]:
    """Load the checkpoint, if there is one of this very training: the next step, and recent losses."""
    state = run.checkpoint.load()
    if state is None:
        device = next(parts["network"].parameters()).device
        return 0, torch.zeros(_WATCHED, device=device)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    average.load(state["average"])
    return state["step"], state["losses"]
