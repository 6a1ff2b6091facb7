"""The full check of a preset before any job starts: all that it names is built, and tried on noise.

Networks are tried on the meta device, which has shapes and no memory; a user's own, and those that do not work
there, on the CPU. Nothing is downloaded: weights that are not there yet are not looked at. What code of the user's
own raises comes as it is.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from ppap.config import runs
from ppap.config.sections import GuideConfig, JudgeConfig
from ppap.data.image_folder import list_files, unreadable
from ppap.data.realdata import reader_of, reference_paths
from ppap.guides.libraries.library import building
from ppap.guides.target_files import target_paths, unreadable_targets
from ppap.utils.device import try_network
from ppap.utils.errors import ConfigError, DataError, PPAPError
from ppap.utils.settings import DATASET, DIFFUSION, EVALUATOR, REFERENCE
from ppap.utils.user_code import is_named
from ppap.workflow import networks as models
from ppap.workflow import prompts, targets, trials
from ppap.workflow.layout import Layout
from ppap.workflow.trials import Check


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
        *((f"{preset.key(name)}.task", partial(trials.own_task, preset, name)) for name in tasks.values()),
        *((f"guides.{name}.targets", partial(_words, layout, name)) for name in runs.guides_of_pictures(preset)),
        *((f"methods.{name}", partial(trials.own_method, preset, name)) for name in methods),
        *trials.own_samplers(preset),
        *([] if preset.evaluator.judged_by else [(EVALUATOR, partial(trials.own_evaluator, layout))]),
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
    trial = partial(trials.network, layout, name, spec)
    if spec.library.of_user:
        trial()
    else:
        try_network(trial, f"model '{spec.model}'")


def _words(layout: Layout, guide: str) -> None:
    """Refuse words as targets that are not there, or of a model that reads none."""
    if targets.stated_words(layout, guide):
        try:
            reads = models.reader(layout, guide)
        except DataError:
            return  # its download says what it is
        if reads is None:
            raise ConfigError(f"guides.{guide}.targets.words: its model has no text tower, which reads them")


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
