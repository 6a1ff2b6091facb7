"""Commands that run one job of a step: what the workflow's rules call, and people by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppap.cli import completion
from ppap.cli.arguments import Guide, Method, PresetName, Sampler, ShardIndex, TableName, open_preset
from ppap.utils.errors import ConfigError

if TYPE_CHECKING:
    from ppap.config.preset import Preset
    from ppap.config.runs import Run

_SECTIONS = {"guide": "guides", "method": "methods", "sampler": "samplers"}


def download(
    preset: PresetName,
    name: Annotated[
        str, typer.Argument(help="diffusion, evaluator, classifier, reference, dataset, or a key of `guides`")
    ],
) -> None:
    """Download what the preset takes from elsewhere (weights, reference images), and check it.

    Goes on where a broken download stopped. A file that lies in downloads/ already is used: on a machine
    without network, place it there by hand. What a publisher prints no sha256 of is remembered in
    downloads.lock beside the preset, and checked ever after.
    """
    _run("download", preset, model=name)


def pretrain(
    preset: PresetName, model: Annotated[str, typer.Argument(help="diffusion, evaluator, or a key of `guides`")]
) -> None:
    """Train the diffusion model, the evaluator or an off-the-shelf guide on real images.

    Resumes from its checkpoint. Steps, batch size and learning rate are the preset's.
    """
    _run("pretrain", preset, model=model)


def generate(preset: PresetName, shard: ShardIndex = 0) -> None:
    """Draw one shard of clean images from the diffusion model, without guidance (uint8 pixels)."""
    _run("generate", preset, shard=shard)


def upsample_clean(preset: PresetName, shard: ShardIndex = 0) -> None:
    """Draw one shard of clean images larger, by the second stage of a cascade (uint8 pixels)."""
    _run("upsample_clean", preset, shard=shard)


def label(
    preset: PresetName,
    guide: Guide,
    part: Annotated[int, typer.Option(min=0, help="which group of shards, counted from 0")] = 0,
) -> None:
    """Compute an off-the-shelf guide's answers (logits) on a part of the clean images.

    A part has `clean_images.label_shards` shards.
    """
    _run("label", preset, guide=guide, part=part)


def targets(preset: PresetName, guide: Guide) -> None:
    """Read what samples of a guide are guided to, where that is what pictures show: depth, labels.

    Of held-out real pictures, or of the folder `guides.NAME.targets.folder`.
    """
    _run("targets", preset, guide=guide)


def warm_start(
    preset: PresetName,
    guide: Guide,
    supervision: Annotated[str, typer.Argument(help="labels or teacher")],
    trainable: Annotated[str, typer.Argument(help="all or adapter")],
) -> None:
    """Train the start that all experts of a guide with this supervision and these parameters share.

    Resumes from its checkpoint. It takes the share `experts.warm_share` of the steps of a method.
    """
    _run("warm_start", preset, guide=guide, supervision=supervision, trainable=trainable)


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
    _run("train_expert", preset, guide=guide, method=method, expert=expert)


def sample(preset: PresetName, sampler: Sampler, guide: Guide, method: Method, shard: ShardIndex = 0) -> None:
    """Draw one shard of guided samples (uint8 pixels). Resumes from its checkpoint."""
    _run("sample", preset, sampler=sampler, guide=guide, method=method, shard=shard)


def upsample_samples(preset: PresetName, sampler: Sampler, guide: Guide, method: Method, shard: ShardIndex = 0) -> None:
    """Draw one shard of guided samples larger, by the second stage of a cascade (uint8 pixels)."""
    _run("upsample_samples", preset, sampler=sampler, guide=guide, method=method, shard=shard)


def reference_features(preset: PresetName) -> None:
    """Extract the evaluator's features of the real images that samples are compared with."""
    _run("reference_features", preset)


def features(
    preset: PresetName,
    sampler: Sampler,
    guide: Guide,
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            help="keys of `methods`; all of the tables' if left out", autocompletion=completion.method_names
        ),
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


def metrics(preset: PresetName, sampler: Sampler, guide: Guide) -> None:
    """Compute FID, Inception Score, precision, recall and target-class rate from features."""
    _run("metrics", preset, sampler=sampler, guide=guide)


def table(
    preset: PresetName,
    name: Annotated[
        TableName, typer.Argument(help="which of the paper's tables", autocompletion=completion.table_names)
    ],
) -> None:
    """Rebuild one of the paper's tables: CSV, Markdown, LaTeX, HTML and JSON, beside the printed values."""
    _run("table", preset, table=name.value)


def figure(
    preset: PresetName,
    name: Annotated[str, typer.Argument(help="samples_GUIDE, metrics, confidence, gradients or scales")],
) -> None:
    """Draw one of the figures."""
    _run("figure", preset, figure=name)


def _run(rule: str, preset_name: str, **named: Any) -> None:
    """Run the job of a step with these wildcards; ConfigError if the preset has no guide, method or sampler of a name."""
    from ppap.config import runs
    from ppap.config.runs import known
    from ppap.utils.settings import UNGUIDED
    from ppap.workflow.steps import STEPS

    layout = open_preset(preset_name)
    preset = layout.preset
    if rule in ("sample", "upsample_samples"):
        named |= _run_of(preset, named["sampler"], named["guide"], named["method"])._asdict()
    elif not (rule == "metrics" and named["guide"] == UNGUIDED):
        for name, section in _SECTIONS.items():
            if name in named:
                known(preset, section, named[name])
    if rule == "warm_start":
        wanted = named["supervision"], named["trainable"]
        shared = [m for m in preset.methods.values() if runs.has_warm_start(preset, m)]
        if wanted not in {(m.supervision, m.trainable) for m in shared}:
            raise ConfigError(f"methods: no method has a shared start of {wanted[1]}, taught by {wanted[0]}")
    step = next(step for step in STEPS if step.rule() == rule)
    step.of(layout, **named).run(layout)


def _run_of(preset: Preset, sampler: str, guide: str, method: str) -> Run:
    """Find the run that holds these samples; ConfigError if a name is unknown."""
    from ppap.config import runs
    from ppap.config.runs import known

    known(preset, "samplers", sampler)
    known(preset, "methods", method)
    if preset.guidance(method).guided:
        known(preset, "guides", guide)
    return runs.stored_as(preset, runs.Run(sampler, guide, method))


def _chosen_runs(preset: Preset, sampler: str, guide: str, methods: list[str]) -> list[Run]:
    """Find the runs of these methods, or of all, whose features lie in one file; ConfigError if they do not."""
    from ppap.config import runs
    from ppap.utils.settings import UNGUIDED

    named = [_run_of(preset, sampler, guide, method) for method in dict.fromkeys(methods)]
    chosen = named or list(runs.group(preset, sampler, guide))
    if not chosen:
        raise ConfigError(f"preset {preset.name} has no runs with sampler '{sampler}' and guide '{guide}'")
    if len({run.guide for run in chosen}) > 1:
        alone = next(run.method for run in chosen if run.guide == UNGUIDED)
        raise ConfigError(f"{alone}: has no guide; give it alone, not with methods of {guide}")
    return chosen


COMMANDS = (
    *(download, pretrain, generate, upsample_clean, upsample_samples, label, targets, warm_start),
    *(train_expert, sample, reference_features, features, metrics, table, figure),
)


def add_to(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
