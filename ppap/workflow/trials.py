"""Trials of what a preset names, on noise: its networks, and tasks, methods, samplers and evaluators of the user's own.

What cannot be used is a ConfigError; what code of the user's own raises comes as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ppap.config import runs
from ppap.config.preset import Preset
from ppap.config.sections import GuideConfig
from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.goals import own_objective
from ppap.diffusion.samplers import State
from ppap.diffusion.sampling import trajectory
from ppap.diffusion.schedules import Schedule
from ppap.evaluation.evaluator import check_answers
from ppap.experts import lora as adapters
from ppap.experts.settings import AdapterConfig
from ppap.guides.guide import Guide
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils.arguments import has_shape
from ppap.utils.device import Runtime
from ppap.utils.errors import ConfigError
from ppap.utils.settings import DIFFUSION, EVALUATOR
from ppap.utils.user_code import is_named
from ppap.workflow import evaluator
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout

Check = Callable[[], object]
_IMAGES = 2  # in a batch on trial


def network(layout: Layout, name: str, spec: NetworkConfig) -> None:
    """Try a guide, a judge or the evaluator: it answers, learns, and takes its adapters, as the jobs ask of it."""
    preset = layout.preset
    guide = models.new_guide(layout, name).eval().requires_grad_(False)
    _guides(guide, _noise(preset))
    if name == EVALUATOR:
        extract = preset.evaluator.extractor({EVALUATOR: guide}, Runtime(device="cpu"), None, ())
        described = preset.evaluator.describe(_IMAGES, preset.dataset.classes)
        check_answers(f"model '{guide.name}'", extract(_pixels(preset)), described)
    trainings = filter(None, (spec.train, getattr(spec, "experts", None)))
    if sizes := [training.batch_size for training in trainings]:
        _learns(guide.requires_grad_(True), _noise(preset, min(_IMAGES, *sizes)))
    for adapter in _adapters(preset, name) if isinstance(spec, GuideConfig) else ():
        _adapt(models.new_guide(layout, name), adapter)


def _noise(preset: Preset, count: int = _IMAGES) -> Tensor:
    return torch.rand(count, *preset.dataset.shape) * 2 - 1


def _pixels(preset: Preset) -> Tensor:
    return (_noise(preset) * 127.5 + 127.5).byte()


def _guides(guide: Guide, images: Tensor) -> None:
    """Refuse an answer that is not finite, or has no gradient for the images."""
    answer = guide(images.requires_grad_())
    if not answer.is_meta and not torch.isfinite(answer).all():
        raise ConfigError(f"model '{guide.name}': its answer to noise is not finite")
    if not _reaches(answer, [images]):
        raise ConfigError(
            f"model '{guide.name}': its answer has no gradient for the images; it must come from them, "
            "without detach() and no_grad()"
        )


def _adapters(preset: Preset, guide: str) -> list[AdapterConfig]:
    """List the adapters of a guide that methods train, each once."""
    training = [name for name, m in preset.methods.items() if m.trainable == "adapter" and not m.imported]
    return list(dict.fromkeys(preset.trained_for(name).guides[guide].adapter for name in training))


def _adapt(guide: Guide, adapter: AdapterConfig) -> None:
    """Attach an adapter; ConfigError unless its patterns fit the network."""
    names = [name for name, _ in guide.network.named_parameters()]
    for key in {"train", "freeze"} & adapter.model_fields_set:
        for pattern in getattr(adapter, key):
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"adapter.{key}: '{pattern}' matches no parameter")
    adapters.attach(guide.network, adapter)


def _learns(guide: Guide, images: Tensor) -> None:
    """Refuse a network of which a step of training would reach no parameter; one image may be too few for it."""
    trained = [p for p in guide.network.parameters() if p.requires_grad]
    if not trained:
        raise ConfigError(f"model '{guide.name}': has no parameters to train")
    if not _reaches(guide.train()(images), trained):
        raise ConfigError(f"model '{guide.name}': its answer has no gradient for what is trained")


def _reaches(answer: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Say whether an answer has a gradient for any of the inputs."""
    if not answer.requires_grad:
        return False
    return any(g is not None for g in torch.autograd.grad(answer.sum(), inputs, allow_unused=True))


def own_task(preset: Preset, guide: str) -> None:
    """Try a task of the user's own on answers that are noise: what experts minimise and guidance raises, the scores."""
    task = preset.task_of(guide)
    teacher, student = torch.randn(2, _IMAGES, *task.shape)
    student.requires_grad_()
    targets = task.target_of(teacher)
    tried: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "distillation": (task.distillation(student, teacher, preset.experts), ()),
        "supervised": (task.supervised(student, targets), ()),
        "the objective": (task.objective(targets)(student), (_IMAGES,)),
    }
    for what, (value, shape) in tried.items():
        has_shape(what, value, shape)
        if not value.isfinite().all():
            raise ConfigError(f"{what} is not finite for answers that are noise")
        if not _reaches(value, [student]):
            raise ConfigError(f"{what} has no gradient for the answers")
    has_shape("belief", task.belief(teacher, targets), (_IMAGES,))
    scores, names = task.scored(task.statistics(teacher, targets)), [score.name for score in task.scores]
    if sorted(scores) != sorted(names):
        raise ConfigError(f"scored gives {', '.join(scores)}; {', '.join(names)} was expected")


def own_evaluator(layout: Layout) -> None:
    evaluator.untrained_extractor(layout)(_pixels(layout.preset))


def own_method(preset: Preset, method: str) -> None:
    """Try a method's own guidance, and its own objective with each of its guides, in one step."""
    kind, objective = preset.guidance(method), preset.objective(method)
    if not kind.drawn:
        return
    denoiser = _denoiser(preset.schedule(next(iter(preset.samplers))))
    rows = (row for table in preset.tables for row in runs.table_runs(preset, table))
    for guide in {row.guide for row in rows if row.method == method} or preset.guides:
        task, x = preset.task_of(guide), _noise(preset)
        targets = task.target_of(torch.randn(_IMAGES, *task.shape))
        answers = partial(_answers, torch.randn(task.shape)) if kind.guided else None
        raised = own_objective(objective, _IMAGES, targets) if objective else task.objective(targets)
        guidance = kind(answers, raised, 1.0)  # type: ignore[arg-type]
        if hasattr(guidance, "noise"):
            guidance.noise = lambda number: _noise(preset)
        for step in range(0, len(denoiser.schedule), max(1, len(denoiser.schedule) // 5)):
            prediction, gradient = guidance(denoiser, x, step)
            for part, value in {**prediction._asdict(), "gradient": gradient}.items():
                if value is not None:
                    has_shape(f"guidance: its {part}", value, tuple(x.shape))


def _answers(weights: Tensor, images: Tensor, log_snr: float) -> Tensor:
    """Answer as a guide might, whose answers have the shape of these weights: by the mean of each image."""
    return torch.tensordot(images.flatten(1).mean(1), weights, 0)


def own_samplers(preset: Preset) -> Iterator[tuple[str, Check]]:
    """Yield the trials of samplers of the user's own, that of a cascade's second stage too."""
    for name, spec in preset.samplers.items():
        if is_named(spec.kind):
            how, shape = preset.drawing(name), preset.drawn_shape
            yield f"samplers.{name}", partial(_two_steps, preset.schedule(name), how, shape)
    if (second := preset.diffusion.upsampling) and is_named(second.kind):
        schedule = second.schedule(preset.diffusion.timesteps, preset.module_folders)
        how, shape = second.drawing(preset.module_folders), preset.finished_shape
        yield f"{DIFFUSION}.{preset.diffusion.source.upsampling}", partial(_two_steps, schedule, how, shape)


def _two_steps(schedule: Schedule, how: dict[str, Any], shape: tuple[int, int, int]) -> None:
    """Draw noise in two steps, the first of them guided."""
    denoiser = _denoiser(schedule)
    start = State(min(2, len(schedule)), torch.randn(_IMAGES, *shape))
    seeds = [(0, image) for image in range(_IMAGES)]

    def guidance(denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]:
        return denoiser(x, step), None if step == 0 else 0.01 * x

    for _ in trajectory(denoiser, how["sampler"], guidance, start, seeds, how["eta"], "kind"):
        pass  # it looks at each state itself


def _denoiser(schedule: Schedule) -> Denoiser:
    """Make a denoiser that sees no noise in anything."""
    return Denoiser(lambda x, t: torch.zeros_like(x), schedule, "fixed_small")
