"""The full check of a preset before any job starts: every network that it names is built and tried.

Nothing is downloaded: weights that are not there yet are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ppap.config import Preset, runs
from ppap.diffusion.networks import sources as diffusion_sources
from ppap.evaluation.evaluators import evaluator_of
from ppap.utils.errors import ConfigError, ModelError, PPAPError, UserCodeError
from ppap.utils.settings import DATASET, DIFFUSION, EVALUATOR, REFERENCE
from ppap.workflow.check.classifiers import check_classifier
from ppap.workflow.check.tasks import check_task
from ppap.workflow.check.trial import quietly, try_network
from ppap.workflow.layout import Layout

Check = Callable[[], None]


def problems(layout: Layout, files: bool = False) -> list[PPAPError]:
    """What is wrong, an error each that begins with its key; with `files`, also what is missing on this machine."""
    preset = layout.preset
    checks: list[tuple[str, Check]] = [(DIFFUSION, partial(_diffusion, preset))]
    checks += [
        (preset.key(name), partial(check_classifier, layout, name)) for name in preset.networks
    ]
    checks += [(f"guides.{name}.task", partial(check_task, preset, name)) for name in preset.guides]
    checks += [(EVALUATOR, partial(_evaluator, preset))]
    checks += [(DATASET, partial(_registered, preset)), ("guides", partial(_stands_for, preset))]
    found = [problem for key, check in checks if (problem := _problem(key, check))]
    return found + (list(_missing(preset)) if files else [])


def _problem(key: str, check: Check) -> PPAPError | None:
    """What a check says, with the key in front, in one line."""
    try:
        with quietly():
            check()
    except PPAPError as error:
        text = " ".join(str(error).split())
        if not text.startswith(f"{key}."):
            text = f"{key}.{text}" if text.startswith("adapter.") else f"{key}: {text}"
        kinds = (ModelError, UserCodeError)  # whose tracebacks are kept
        problem = next((kind for kind in kinds if isinstance(error, kind)), ConfigError)(text)
        problem.__cause__ = error.__cause__
        return problem
    return None


def _diffusion(preset: Preset) -> None:
    diffusion_sources.code_of(preset).check(preset, try_network)


def _evaluator(preset: Preset) -> None:
    """The evaluator as a whole; the classifiers in it are tried as guides are."""
    evaluator_of(preset).check()


def _registered(preset: Preset) -> None:
    judge = preset.evaluator
    reference = judge.compared_with.registered if judge.compared_with else None
    wanted = {
        "dataset.name": preset.dataset.name,
        f"{EVALUATOR}.{REFERENCE}.registered": reference,
    }
    if not any(wanted.values()):
        return
    from torch_fidelity.registry import DATASETS_REGISTRY

    for key, name in wanted.items():
        if name and name not in DATASETS_REGISTRY:
            there = ", ".join(DATASETS_REGISTRY)
            raise ConfigError(f"{key}: torch-fidelity has no data set '{name}' (it has {there})")


def _stands_for(preset: Preset) -> None:
    named = {name: spec.stands_for for name, spec in preset.guides.items() if spec.stands_for}
    if not named:
        return
    from ppap.report.paper import printed
    from ppap.report.tables import TITLES

    there = dict.fromkeys(row.architecture for table in TITLES for row in printed(table))
    for name, architecture in named.items():
        if architecture not in there:
            raise ConfigError(
                f"guides.{name}.stands_for: the paper has no '{architecture}' (it has {', '.join(there)})"
            )


def _missing(preset: Preset) -> Iterator[ConfigError]:
    """Folders and files that the preset names by their path."""
    wanted = {f"{key}.url": source.local for key, source in preset.files.items() if source.local}
    judge, data = preset.evaluator, preset.dataset
    if judge.compared_with and judge.compared_with.folder:
        wanted[f"{EVALUATOR}.{REFERENCE}.folder"] = Path(judge.compared_with.folder)
    if data.path and runs.needs_data(preset):
        wanted[f"{DATASET}.path"] = Path(data.path)
    for guide in runs.shown_guides(preset):
        if folder := preset.guides[guide].targets.folder:
            wanted[f"guides.{guide}.targets.folder"] = Path(folder)
    for key, path in wanted.items():
        if not path.exists():
            hint = "; `supervised: false` leaves out the rows that need it" * (
                key == "dataset.path"
            )
            yield ConfigError(f"{key}: {path}: is not there{hint}")
