"""The full check of a preset before any job starts: all that it names is built, and tried on noise.

Networks are tried on the meta device, which has shapes and no memory; a user's own, and those that do not work
there, on the CPU. Nothing is downloaded: weights that are not there yet are not looked at. What code of the user's
own raises comes as it is.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppap.config import runs
from ppap.config.preset import Preset
from ppap.config.sections import GuideConfig, JudgeConfig
from ppap.data.image_folder import list_files, unreadable
from ppap.data.realdata import reader_of, reference_paths
from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.goals import own_objective
from ppap.diffusion.samplers import State
from ppap.diffusion.sampling import trajectory
from ppap.diffusion.schedules import Schedule
from ppap.evaluation.evaluator import check_answers
from ppap.experts import lora as adapters
from ppap.experts.settings import AdapterConfig
from ppap.guides.guide import Guide
from ppap.guides.libraries.library import building
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.target_files import target_paths, unreadable_targets
from ppap.utils.arguments import has_shape
from ppap.utils.device import Runtime, try_network
from ppap.utils.errors import ConfigError, DataError, PPAPError
from ppap.utils.settings import DATASET, DIFFUSION, EVALUATOR, REFERENCE
from ppap.utils.user_code import is_named
from ppap.workflow import evaluator, prompts, targets
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout

Check = Callable[[], object]
_IMAGES = 2  # in a batch on trial


def problems(layout: Layout, files: bool = False) -> list[PPAPError]:
    """List what is wrong, an error each that begins with its key; with `files`, also what is missing on this machine."""
    preset = layout.preset
    judged: dict[str, JudgeConfig | GuideConfig] = {**preset.judges, **preset.guides}  # of one task, a guide is tried
    tasks = {(spec.task, str(spec.task_options)): name for name, spec in judged.items() if is_named(spec.task)}
    methods = (name for name, m in preset.methods.items() if is_named(m.guidance) or m.options or m.objective)
    registered = {"dataset.name": preset.dataset.name}
    if compared := preset.evaluator.compared_with:
        registered[f"{EVALUATOR}.{REFERENCE}.registered"] = compared.registered
    checks: list[tuple[str, Check]] = [
        (DIFFUSION, partial(preset.diffusion.source.check, preset.diffusion, preset.dataset, try_network)),
        *((f"{key}.prompts", partial(prompts.check, layout, key)) for key in prompts.SECTIONS),
        *((f"{preset.key(name)}.task", partial(_own_task, preset, name)) for name in tasks.values()),
        *((f"guides.{name}.targets", partial(_words, layout, name)) for name in runs.guides_of_pictures(preset)),
        *((f"methods.{name}", partial(_own_method, preset, name)) for name in methods),
        *_own_samplers(preset),
        *([] if preset.evaluator.judged_by else [(EVALUATOR, partial(_own_evaluator, layout))]),
        *((preset.key(name), partial(_network, layout, name)) for name in preset.networks),
        *((key, partial(reader_of, name)) for key, name in registered.items() if name),
    ]
    wrong = [problem for key, check in checks if (problem := _problem(key, check))]
    return wrong + (list(_missing(layout)) if files else [])


def _problem(key: str, check: Check) -> PPAPError | None:
    """Say in one line what a check refuses, with the key in front."""
    try:
        with _quietly():
            check()
    except PPAPError as error:
        text = " ".join(str(error).split())
        if text.startswith(f"{key}."):
            return ConfigError(text)
        return ConfigError(f"{key}.{text}" if text.startswith("adapter.") else f"{key}: {text}")
    return None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the warnings of libraries back, and draw no other random numbers than without the check."""
    with warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices=[]):
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _network(layout: Layout, name: str) -> None:
    """Try a guide, a judge or the evaluator: there is such a model, and it does what the jobs ask of it."""
    preset, spec = layout.preset, layout.preset.networks[name]
    if spec.published:
        with building(spec.model):
            spec.library.check(spec, models.shape_of(preset, name), preset.key(name))
    try:
        spec.library.options(spec, layout.model(name))
    except DataError:
        return  # its download says what it is
    trial = partial(_trial, layout, name, spec)
    if spec.library.of_user:
        trial()
    else:
        try_network(trial, f"model '{spec.model}'")


def _trial(layout: Layout, name: str, spec: NetworkConfig) -> None:
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


def _words(layout: Layout, guide: str) -> None:
    """Refuse words as targets that are not there, or of a model that reads none."""
    if targets.stated_words(layout, guide):
        try:
            reads = models.reader(layout, guide)
        except DataError:
            return  # its download says what it is
        if reads is None:
            raise ConfigError(f"guides.{guide}.targets.words: its model has no text tower, which reads them")


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


def _own_task(preset: Preset, guide: str) -> None:
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


def _own_evaluator(layout: Layout) -> None:
    evaluator.untrained_extractor(layout)(_pixels(layout.preset))


def _own_method(preset: Preset, method: str) -> None:
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


def _own_samplers(preset: Preset) -> Iterator[tuple[str, Check]]:
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


def _missing(layout: Layout) -> Iterator[ConfigError]:
    """Look for the folders and files that the preset names by their path, and at the pictures in folders."""
    preset, compared = layout.preset, layout.preset.evaluator.compared_with
    wanted: dict[str, Path | str | None] = {f"{key}.url": source.local for key, source in preset.files.items()}
    wanted[f"{EVALUATOR}.{REFERENCE}.folder"] = compared.folder if compared else None
    wanted[f"{DATASET}.path"] = preset.dataset.path if runs.needs_data(preset) else None
    for guide in runs.guides_of_pictures(preset):
        wanted[f"guides.{guide}.targets.folder"] = preset.guides[guide].targets.folder
    for key, path in wanted.items():
        if path and not Path(path).exists():
            hint = "; `supervised: false` leaves out the rows that need it" * runs.streams_data(preset)
            yield ConfigError(f"{key}: {path}: is not there{hint if key == 'dataset.path' else ''}")
        elif path and Path(path).is_dir():
            yield from (ConfigError(f"{key}: {problem}") for problem in _pictures(layout, key, Path(path)))


def _pictures(layout: Layout, key: str, folder: Path) -> Iterator[str]:
    """Say what of a folder's pictures cannot be read, unless a job has read them all already."""
    preset, name = layout.preset, key.split(".")[1]
    try:
        if key == f"{DATASET}.path":
            listed, own = list_files(folder, preset.dataset.classes), list(preset.dataset.class_names)
            if sorted(own) == listed.names != own:
                yield f"{folder}: its classes are in the order of their names, dataset.class_names in another"
            taught = [
                (guide, name) for guide, name in runs.banks(preset) if preset.methods[name].supervision == "labels"
            ]
            experts = [path for bank in taught for path in layout.experts(*bank)]
            made = experts if runs.streams_data(preset) else [layout.model(DATASET)]
            if not all(path.exists() for path in made):
                yield from unreadable(listed.paths)
        elif name == REFERENCE and not layout.model(REFERENCE).exists():
            yield from unreadable(reference_paths(folder))
        elif name in preset.guides and not layout.picture_targets(name).exists():
            task = preset.task_of(name)
            task.maps = preset.guides[name].targets.maps
            yield from unreadable_targets(target_paths(folder, key), task)
    except DataError as error:
        yield str(error)
