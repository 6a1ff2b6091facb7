"""One resumable optimisation loop; every network of a preset is trained by it.

Step k draws its random numbers from a seed made of the run's seed and k, so a run that is killed and
started again from its last checkpoint ends with the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from ppap import files
from ppap.config import Training
from ppap.errors import NumericalError
from ppap.seeds import Stream, mix

log = logging.getLogger(__name__)
_WATCHED = 100


class Job(NamedTuple):
    """What a training run is called, where it keeps checkpoints, and what must not change in between."""

    name: str
    seed: int
    checkpoint: Path
    fingerprint: str


def train(
    network: nn.Module, loss_at: Callable[[int], Tensor], training: Training, job: Job
) -> dict[str, float]:
    """Train the network's trainable parameters in place, from its checkpoint if there is one.

    `loss_at(step)` returns a batch's loss; its random numbers come from torch's global generator. Returns
    the mean loss over the last steps. NumericalError, naming the step, if a loss is not finite.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    scheduler = LambdaLR(optimizer, lambda step: _rate(training, step))
    half = (
        torch.get_autocast_dtype("cuda") == torch.float16
    )  # the only one whose gradients underflow
    scaler = torch.amp.GradScaler(enabled=torch.is_autocast_enabled("cuda") and half)
    average = [p.detach().clone() for p in parameters] if training.ema else []
    parts = {"network": network, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    start, losses = _resume(parts, average, job)
    bar = tqdm(
        range(start, training.steps),
        job.name,
        training.steps,
        initial=start,
        mininterval=2,
        unit="step",
    )
    for step in bar:
        torch.manual_seed(mix(job.seed, Stream.TRAINING, step))
        loss = loss_at(step)
        losses[step % _WATCHED] = loss.detach()
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        if training.clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, training.clip)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        if average:
            decay = min(training.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        done = step + 1
        checkpoint_due = done % training.checkpoint_every == 0 and done < training.steps
        if done % _WATCHED == 0 or done == training.steps or checkpoint_due:
            _check(losses, step, job)
            bar.set_postfix(loss=f"{_mean(losses, done):.4f}", refresh=False)
        if checkpoint_due:
            _save(parts, average, losses, done, job)
    for parameter, averaged in zip(parameters, average, strict=False):
        parameter.data.copy_(averaged)
    return {"steps": training.steps, "final_loss": _mean(losses, training.steps)}


def finish(job: Job) -> None:
    """Drop the checkpoint, once the result has been written."""
    job.checkpoint.unlink(missing_ok=True)


def _rate(training: Training, step: int) -> float:
    """The learning rate of a step, as a share of the largest."""
    warmup = round(training.warmup * training.steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / (training.steps - warmup)
    if training.decay == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress)) if training.decay == "cosine" else 1.0


def _mean(losses: Tensor, done: int) -> float:
    return float(losses[:done].mean())


def _check(losses: Tensor, step: int, job: Job) -> None:
    bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
    if bad:
        first = min(step - (step - slot) % _WATCHED for slot in bad)
        kept = f"; the last good checkpoint is {job.checkpoint}" if job.checkpoint.exists() else ""
        raise NumericalError(f"{job.name}: the loss is not finite at step {first}{kept}")


def _save(
    parts: dict[str, Any], average: list[Tensor], losses: Tensor, step: int, job: Job
) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"average": average, "losses": losses, "step": step, "fingerprint": job.fingerprint}
    files.write_checkpoint(job.checkpoint, state)


def _resume(parts: dict[str, Any], average: list[Tensor], job: Job) -> tuple[int, Tensor]:
    """Load the job's checkpoint, if there is one of this very job: the next step, and recent losses."""
    state = load_checkpoint(job.checkpoint, job.fingerprint)
    if state is None:
        device = next(parts["network"].parameters()).device
        return 0, torch.zeros(_WATCHED, device=device)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    for mine, saved in zip(average, state["average"], strict=True):
        mine.copy_(saved)
    return state["step"], state["losses"]


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """A checkpoint written for this fingerprint; None, with a warning, for a stale or damaged one."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["fingerprint"] == fingerprint:
            log.info("resumed from %s", path)
            return state
        log.warning("%s: made under another configuration; starting anew", path)
    except (RuntimeError, EOFError, KeyError, OSError, ValueError) as error:
        log.warning("%s: damaged (%s); starting anew", path, error)
    return None
