"""Commands that run one job of a step: what the workflow's rules call, and people by hand."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppap.cli.arguments import Guide, Method, PresetName, Sampler, app, names_in, open_preset

if TYPE_CHECKING:
    from ppap.config.preset import Preset
    from ppap.config.runs import Run

Shard = Annotated[int, typer.Option(min=0, help="which shard, counted from 0")]


class NetworkInput(enum.StrEnum):
    normalised = "normalised"
    unnormalised = "unnormalised"


def step(declared: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function that declares it: it runs the job of the step of its name with these wildcards."""

    @functools.wraps(declared)
    def command(preset: str, **wildcards: Any) -> None:
        from ppap.workflow.steps import STEPS

        layout = open_preset(preset)
        kind = next(kind for kind in STEPS if kind.rule() == declared.__name__)
        kind.of(layout, **_there(layout.preset, **wildcards)).run(layout)

    return app.command()(command)


@step
def download(
    preset: PresetName,
    model: Annotated[
        str, typer.Argument(help="diffusion, evaluator, classifier, reference, dataset, or a key of `guides`")
    ],
) -> None:
    """Download what the preset takes from elsewhere (weights, reference images), and check it.

    Goes on where a broken download stopped. A file that lies in downloads/ already is used: on a machine
    without network, place it there by hand. What a publisher prints no sha256 of is remembered in
    downloads.lock beside the preset, and checked ever after.
    """


@step
def pretrain(
    preset: PresetName, model: Annotated[str, typer.Argument(help="diffusion, evaluator, or a key of `guides`")]
) -> None:
    """Train the diffusion model, the evaluator or an off-the-shelf guide on real images.

    Resumes from its checkpoint. Steps, batch size and learning rate are the preset's.
    """


@step
def generate(preset: PresetName, shard: Shard = 0) -> None:
    """Draw one shard of clean images from the diffusion model, without guidance (uint8 pixels)."""


@step
def upsample_clean(preset: PresetName, shard: Shard = 0) -> None:
    """Draw one shard of clean images larger, by the second stage of a cascade (uint8 pixels)."""


@step
def estimate(preset: PresetName, shard: Shard = 0) -> None:
    """Store the diffusion model's estimates of one shard of clean images, at several levels of noise each."""


@step
def label(
    preset: PresetName,
    guide: Guide,
    part: Annotated[int, typer.Option(min=0, help="which group of shards, counted from 0")] = 0,
) -> None:
    """Compute an off-the-shelf guide's answers (logits) on a part of the clean images.

    A part has `clean_images.label_shards` shards.
    """


@step
def targets(preset: PresetName, guide: Guide) -> None:
    """Read what samples of a guide are guided to, where that is what pictures show: depth, labels.

    The pictures are held-out real ones, or lie in the folder `guides.NAME.targets.folder`; or words are the targets,
    `guides.NAME.targets.words`.
    """


@step
def warm_start(
    preset: PresetName,
    guide: Guide,
    start: Annotated[str, typer.Argument(help="who teaches, and what is trained, such as teacher_adapter")],
) -> None:
    """Train the start that all experts of a guide share which learn the same parameters from the same teacher.

    Resumes from its checkpoint. It takes the share `experts.warm_share` of the steps of a method.
    """


@step
def train_expert(
    preset: PresetName,
    guide: Guide,
    method: Method,
    expert: Annotated[int, typer.Argument(help="1 (least noise) to N")],
) -> None:
    """Train one noise-aware expert of a guide on its range of timesteps.

    Resumes from its checkpoint. The preset's `experts.steps` of the guide are the total of all
    experts of the method, the shared start included.
    """


@step
def sample(preset: PresetName, sampler: Sampler, guide: Guide, method: Method, shard: Shard = 0) -> None:
    """Draw one shard of guided samples (uint8 pixels). Resumes from its checkpoint."""


@step
def upsample_samples(preset: PresetName, sampler: Sampler, guide: Guide, method: Method, shard: Shard = 0) -> None:
    """Draw one shard of guided samples larger, by the second stage of a cascade (uint8 pixels)."""


@step
def reference_features(preset: PresetName) -> None:
    """Extract the evaluator's features of the real images that samples are compared with."""


@app.command()
def features(
    preset: PresetName,
    sampler: Sampler,
    guide: Guide,
    methods: Annotated[
        list[str] | None,
        typer.Argument(help="keys of `methods`; all of the tables' if left out", autocompletion=names_in("methods")),
    ] = None,
) -> None:
    """Extract the evaluator's features of runs' samples.

    All methods of a sampler and guide share one file. Where some are named, the others' features stay in
    it, if they are of the samples and the evaluator that are there now; else it is refused.
    """
    from ppap.workflow.steps.features import Features

    layout = open_preset(preset)
    chosen = _chosen_runs(layout.preset, sampler, guide, methods or [])
    names = [run.method for run in chosen]
    Features.of_methods(layout, sampler, chosen[0].guide, names).run(layout)


@step
def metrics(preset: PresetName, sampler: Sampler, guide: Guide) -> None:
    """Compute FID, Inception Score, precision, recall and target-class rate from features."""


@step
def table(
    preset: PresetName,
    table: Annotated[str, typer.Argument(help="a key of `tables`", autocompletion=names_in("tables"))],
) -> None:
    """Rebuild one of the paper's tables: CSV, Markdown, LaTeX, HTML and JSON, beside the printed values."""


@step
def study(
    preset: PresetName,
    table: Annotated[str, typer.Argument(help="a key of `tables`", autocompletion=names_in("tables"))],
) -> None:
    """Write a table over all replicates: means with standard errors, and differences between rows with intervals."""


@step
def figure(
    preset: PresetName, figure: Annotated[str, typer.Argument(help="samples_GUIDE, metrics, confidence or gradients")]
) -> None:
    """Draw one of the figures."""


@step
def study_figure(
    preset: PresetName, figure: Annotated[str, typer.Argument(help="scales, tradeoff or calibration")]
) -> None:
    """Draw one of the figures over all replicates: means, and bands of their standard errors."""


@app.command()
def import_experts(
    preset: PresetName,
    guide: Guide,
    method: Method,
    released: Annotated[list[Path], typer.Argument(metavar="FILE...", help="the authors' files (.ckpt)")],
    ranges: Annotated[
        list[str] | None, typer.Option("--range", help="timesteps of each file in turn, as 0-200 (200 not included)")
    ] = None,
    network_input: Annotated[
        NetworkInput | None,
        typer.Option("--input", help="what the networks see, if not what the authors' code fed them"),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="replace trained experts")] = False,
) -> None:
    """Turn experts that the paper's authors released into the preset's own.

    One file for each expert of the method, from the least noise to the most, or in any order with a
    --range for each. Needs the off-the-shelf guide's weights; writes all experts or none.
    """
    from ppap.workflow.importing import write_released

    layout = open_preset(preset)
    _there(layout.preset, guide=guide, method=method)
    for path in write_released(layout, guide, method, released, ranges or [], network_input, overwrite):
        print(path)


def _there(preset: Preset, **wildcards: Any) -> dict[str, Any]:
    """Return a job's wildcards, the guide of a run without guidance replaced; ConfigError if the preset lacks a name."""
    from ppap.config import runs
    from ppap.utils.errors import ConfigError
    from ppap.utils.settings import UNGUIDED

    for name in sorted(wildcards.keys() & {"sampler", "method", "table"}):
        runs.known(preset, f"{name}s", wildcards[name])
    guide, method = wildcards.get("guide"), wildcards.get("method")
    guided = "sampler" not in wildcards or (method and preset.guidance(method).guided)
    if guide is not None and (guided or guide != UNGUIDED):
        runs.known(preset, "guides", guide)
    if "start" in wildcards:
        shared = [method for method in preset.methods if runs.has_warm_start(preset, method)]
        if wildcards["start"] not in {runs.shared_start(preset, method) for method in shared}:
            raise ConfigError(f"methods: no method has a shared start '{wildcards['start']}'")
    return wildcards | ({"guide": UNGUIDED} if method and not guided else {})


def _chosen_runs(preset: Preset, sampler: str, guide: str, methods: list[str]) -> list[Run]:
    """Find the runs of these methods, or of all, whose features lie in one file; ConfigError if they do not."""
    from ppap.config.runs import Run, group
    from ppap.utils.errors import ConfigError
    from ppap.utils.settings import UNGUIDED

    named = (_there(preset, sampler=sampler, guide=guide, method=method) for method in dict.fromkeys(methods))
    chosen = [Run(**each) for each in named] or group(preset, sampler, guide)
    if not chosen:
        raise ConfigError(f"preset {preset.name} has no runs with sampler '{sampler}' and guide '{guide}'")
    if len({run.guide for run in chosen}) > 1:
        alone = next(run.method for run in chosen if run.guide == UNGUIDED)
        raise ConfigError(f"{alone}: has no guide; give it alone, not with methods of {guide}")
    return chosen
