"""The work of PPAP's jobs, with random networks: the diffusion network, drawing, and the training of an expert."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import NamedTuple

import torch

from benchmarks import networks
from benchmarks.setting import SCALE, Setting
from benchmarks.timing import Stopwatch, Work, stepwise
from ppap.data.images import to_uint8
from ppap.diffusion.denoiser import Denoiser
from ppap.diffusion.guidance import GuidanceCall, NoGuidance
from ppap.diffusion.guidance_kinds import GUIDANCE
from ppap.diffusion.samplers import State, ddim
from ppap.diffusion.sampling import trajectory
from ppap.experts.distillation import train_expert
from ppap.experts.examples import Batch, Batches
from ppap.guides.tasks.classification import class_log_probability
from ppap.training.loop import TrainingRun
from ppap.utils.seeds import initial_noise
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout


def forward(setting: Setting, held: bool = True) -> Work:
    """The diffusion network alone."""
    denoiser = networks.new_denoiser(setting.preset, held)
    x = _noise(setting, denoiser).x

    def steps() -> Iterator[None]:
        with torch.no_grad():
            while True:
                denoiser(x, len(denoiser.schedule) // 2)
                yield

    return lambda watch: stepwise(steps(), watch)


def drawing(setting: Setting, kind: str, guide: str, held: bool = True) -> Work:
    """Batches of images, one after the other, by DDIM-25 with a kind of guidance."""
    denoiser = networks.new_denoiser(setting.preset, held)
    chosen = GUIDANCE.get(kind)
    guidance: GuidanceCall = NoGuidance()
    if chosen.guided:
        at = networks.guide_at(setting.preset, guide, chosen.experts)
        guidance = chosen(at, class_log_probability(setting.classes), SCALE)
    return lambda watch: stepwise(_batches(setting, denoiser, guidance), watch)


def calls(setting: Setting, kind: str, guide: str) -> Work:
    """The networks' part of `drawing` alone: as many calls, and gradients, on the same x_t each time."""
    denoiser = networks.new_denoiser(setting.preset)
    facts, half = GUIDANCE.get(kind), len(denoiser.schedule) // 2
    at = networks.guide_at(setting.preset, guide, facts.experts) if facts.guided else None
    x = _noise(setting, denoiser).x
    t, log_snr = denoiser.schedule.timesteps[half], float(denoiser.schedule.log_snr[half])
    ts = torch.full((len(x),), t, device=x.device)

    def step() -> None:
        leaf = x.detach().requires_grad_()
        with torch.set_grad_enabled(facts.through_denoiser):
            out = denoiser.network(leaf, ts)[:, : x.shape[1]]
        if at is not None:
            with torch.enable_grad():
                seen = out if facts.through_denoiser else leaf
                torch.autograd.grad(at(seen, log_snr).sum(), leaf)

    def steps() -> Iterator[None]:
        while True:
            step()
            yield

    return lambda watch: stepwise(steps(), watch)


def states(setting: Setting, denoiser: Denoiser, guidance: GuidanceCall) -> Iterator[State]:
    """A batch's states by DDIM, from its own noise; the last is x_0."""
    start = _noise(setting, denoiser)
    yield from trajectory(denoiser, ddim, guidance, start, setting.seeds, name="benchmark")


def _noise(setting: Setting, denoiser: Denoiser) -> State:
    """Return x_T of the batch."""
    x = initial_noise(setting.seeds, setting.preset.dataset.shape)
    return State(len(denoiser.schedule), x.to(setting.device))


def _batches(setting: Setting, denoiser: Denoiser, guidance: GuidanceCall) -> Iterator[State]:
    """The states of batch after batch, without end; each ends with its images."""
    while True:
        for state in states(setting, denoiser, guidance):
            if not state.steps_left:
                to_uint8(state.x)
            yield state


def training(setting: Setting, guide: str) -> Work:
    """The steps of an expert's training, of the adapters that the preset gives its guide."""
    preset, spec = setting.preset, setting.preset.guides[guide]
    network = networks.new_guide(preset, guide)
    models.place_guide(Layout(preset), guide, network)
    batch = setting.examples()

    class Timed(NamedTuple):
        """The same examples at each step, which the watch sees begin."""

        watch: Stopwatch
        from_teacher: bool = True
        estimated: bool = False

        def batches(self, batch_size: int, run: TrainingRun, device: torch.device) -> Batches:
            def at(step: int) -> Batch:
                if step < self.watch.needed:  # after the last come those for batch norms' averages
                    self.watch.tick()
                return batch

            return at

    def run(watch: Stopwatch) -> None:
        length = {"steps": watch.needed, "checkpoint_every": watch.needed}
        with contextlib.redirect_stderr(io.StringIO()):  # its bar
            train_expert(
                network,
                Timed(watch),
                schedule=networks.full_schedule(preset),
                timesteps=range(preset.diffusion.timesteps // networks.EXPERTS),
                training=spec.experts.model_copy(update=length),
                adapter=spec.adapter,
                settings=preset.experts,
                run=TrainingRun("benchmark", 0),
            )

    return run
