"""Commands that run one job of a step: what the workflow's rules call, and people by hand."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from ppap.cli import completion
from ppap.cli.arguments import (
    Guide,
    Method,
    PresetName,
    Sampler,
    ShardIndex,
    Started,
    TableName,
    chosen_methods,
    open_preset,
    run_of,
)
from ppap.config import runs
from ppap.config.runs import known
from ppap.utils import heartbeat
from ppap.utils.errors import ConfigError
from ppap.utils.settings import UNGUIDED
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from ppap.workflow.steps.download import Download
from ppap.workflow.steps.features import Features
from ppap.workflow.steps.figure import Figure
from ppap.workflow.steps.generate import Generate
from ppap.workflow.steps.label import Label
from ppap.workflow.steps.metrics import Metrics
from ppap.workflow.steps.pretrain import Pretrain
from ppap.workflow.steps.reference_features import ReferenceFeatures
from ppap.workflow.steps.sample import Sample
from ppap.workflow.steps.table import Table
from ppap.workflow.steps.targets import Targets
from ppap.workflow.steps.train_expert import TrainExpert
from ppap.workflow.steps.upsample_clean import UpsampleClean
from ppap.workflow.steps.upsample_samples import UpsampleSamples
from ppap.workflow.steps.warm_start import WarmStart


def download(
    preset: PresetName,
    name: Annotated[
        str,
        typer.Argument(
            help="diffusion, evaluator, classifier, reference, dataset, or a key of `guides`"
        ),
    ],
) -> None:
    """Download what the preset takes from elsewhere (weights, reference images), and check it.

    Goes on where a broken download stopped. A file that lies in downloads/ already is used: on a machine
    without network, place it there by hand. What a publisher prints no sha256 of is remembered in
    downloads.lock beside the preset, and checked ever after.
    """
    _do(Download(name), open_preset(preset))


def pretrain(
    preset: PresetName,
    model: Annotated[str, typer.Argument(help="diffusion, evaluator, or a key of `guides`")],
) -> None:
    """Train the diffusion model, the evaluator or an off-the-shelf guide on real images.

    Resumes from its checkpoint. Steps, batch size and learning rate are the preset's.
    """
    _do(Pretrain(model), open_preset(preset))


def generate(preset: PresetName, shard: ShardIndex = 0) -> None:
    """Draw one shard of clean images from the diffusion model, without guidance (uint8 pixels)."""
    _do(Generate(shard), open_preset(preset))


def upsample_clean(preset: PresetName, shard: ShardIndex = 0) -> None:
    """Draw one shard of clean images larger, by the second stage of a cascade (uint8 pixels)."""
    _do(UpsampleClean(shard), open_preset(preset))


def label(
    preset: PresetName,
    guide: Guide,
    part: Annotated[int, typer.Option(min=0, help="which group of shards, counted from 0")] = 0,
) -> None:
    """Compute an off-the-shelf guide's answers (logits) on a part of the clean images.

    A part has `clean_images.label_shards` shards.
    """
    layout = open_preset(preset)
    known(layout.preset, "guides", guide)
    _do(Label(guide, part), layout)


def targets(preset: PresetName, guide: Guide) -> None:
    """Read what samples of a guide are guided to, where that is what pictures show: depth, labels.

    Of held-out real pictures, or of the folder `guides.NAME.targets.folder`.
    """
    layout = open_preset(preset)
    known(layout.preset, "guides", guide)
    _do(Targets(guide), layout)


def warm_start(
    preset: PresetName,
    guide: Guide,
    supervision: Annotated[str, typer.Argument(help="labels or teacher")],
    trainable: Annotated[str, typer.Argument(help="all or adapter")],
) -> None:
    """Train the start that all experts of a guide with this supervision and these parameters share.

    Resumes from its checkpoint. It takes the share `experts.warm_share` of the steps of a method.
    """
    layout = open_preset(preset)
    known(layout.preset, "guides", guide)
    methods = layout.preset.methods.values()
    shared = [m for m in methods if runs.has_warm_start(layout.preset, m)]
    if (supervision, trainable) not in {(m.supervision, m.trainable) for m in shared}:
        raise ConfigError(
            f"methods: no method has a shared start of {trainable}, taught by {supervision}"
        )
    _do(WarmStart(guide, supervision, trainable), layout)


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
    layout = open_preset(preset)
    known(layout.preset, "guides", guide)
    known(layout.preset, "methods", method)
    _do(TrainExpert(guide, method, expert), layout)


def sample(
    preset: PresetName, sampler: Sampler, guide: Guide, method: Method, shard: ShardIndex = 0
) -> None:
    """Draw one shard of guided samples (uint8 pixels). Resumes from its checkpoint."""
    layout = open_preset(preset)
    _do(Sample(*run_of(layout.preset, sampler, guide, method), shard), layout)


def upsample_samples(
    preset: PresetName, sampler: Sampler, guide: Guide, method: Method, shard: ShardIndex = 0
) -> None:
    """Draw one shard of guided samples larger, by the second stage of a cascade (uint8 pixels)."""
    layout = open_preset(preset)
    _do(UpsampleSamples(*run_of(layout.preset, sampler, guide, method), shard), layout)


def reference_features(preset: PresetName) -> None:
    """Extract the evaluator's features of the real images that samples are compared with."""
    _do(ReferenceFeatures(), open_preset(preset))


def features(
    preset: PresetName,
    sampler: Sampler,
    guide: Guide,
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            help="keys of `methods`; all of the tables' if left out",
            autocompletion=completion.method_names,
        ),
    ] = None,
) -> None:
    """Extract the evaluator's features of runs' samples.

    All methods of a sampler and guide share one file. Where some are named, the others' features stay in
    it, if they are of the samples and the evaluator that are there now; else it is refused.
    """
    layout = open_preset(preset)
    guide, chosen = chosen_methods(layout.preset, sampler, guide, methods or [])
    _do(Features.of_methods(layout, sampler, guide, chosen), layout)


def metrics(preset: PresetName, sampler: Sampler, guide: Guide) -> None:
    """Compute FID, Inception Score, precision, recall and target-class rate from features."""
    layout = open_preset(preset)
    known(layout.preset, "samplers", sampler)
    if guide != UNGUIDED:
        known(layout.preset, "guides", guide)
    _do(Metrics(sampler, guide), layout)


def table(
    preset: PresetName,
    name: Annotated[
        TableName,
        typer.Argument(help="which of the paper's tables", autocompletion=completion.table_names),
    ],
) -> None:
    """Rebuild one of the paper's tables: CSV, Markdown, LaTeX, HTML and JSON, beside the printed values."""
    _do(Table(name.value), open_preset(preset))


def figure(
    preset: PresetName,
    name: Annotated[
        str,
        typer.Argument(
            help="samples_GUIDE, metrics, confidence, gradients or scales",
            autocompletion=completion.figure_names,
        ),
    ],
) -> None:
    """Draw one of the figures."""
    _do(Figure(name), open_preset(preset))


def do(
    preset: PresetName,
    jobs: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB...", help="names as logs have them: samples/ddim25/vit/naive/0000"
        ),
    ],
) -> None:
    """Do several jobs in this order, in one process.

    The workflow runs it where `resources.STEP.together` has short jobs share a process.
    """
    layout = open_preset(preset)
    named = {job.name(layout): job for job in all_jobs(layout)}
    for name in jobs:
        if name not in named:
            raise ConfigError(f"preset {layout.preset.name} has no job '{name}'")
    for name in jobs:
        Started.step = named[name].command()
        _do(named[name], layout)
        gc.collect()  # networks in reference cycles, which the next job's would come on top of


def _do(job: Step, layout: Layout) -> None:
    """Do the job; if it is one of the preset's, it is seen from outside to be at work."""
    of_preset = any(job.arguments() == each.arguments() for each in type(job).jobs(layout))
    sign = layout.sign(job.name(layout)) if of_preset else None
    with heartbeat.at_work(sign, " ".join([job.command(), *job.arguments()])):
        job.run(layout)


COMMANDS = (
    *(
        download,
        pretrain,
        generate,
        upsample_clean,
        upsample_samples,
        label,
        targets,
        warm_start,
        train_expert,
        sample,
    ),
    *(reference_features, features, metrics, table, figure, do),
)


def add_to(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
