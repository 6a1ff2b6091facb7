"""The command line: `ppap STEP PRESET ...`. Every rule of the workflow is one of these calls."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ppap import preset as presets
from ppap.cli import results as cli_results
from ppap.cli.arguments import (
    Guide,
    Method,
    NetworkInput,
    PresetName,
    Sampler,
    ShardIndex,
    Started,
    Table,
    features_of,
    known,
    open_preset,
    run_of,
)
from ppap.cli.config import config_app
from ppap.errors import PPAPError
from ppap.preset import REFERENCE, UNGUIDED, runs
from ppap.process import failures
from ppap.process import signals as process

app = typer.Typer(
    help="Off-the-shelf vision models guide pretrained diffusion models (PPAP, CVPR 2023).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(config_app, name="config")
cli_results.add_to(app)


@app.callback()
def start(
    context: typer.Context,
    results: Annotated[Path, typer.Option(help="where results/PRESET lies")] = Path("results"),
    scratch: Annotated[Path, typer.Option(help="where unfinished jobs keep checkpoints")] = Path(
        "scratch"
    ),
    downloads: Annotated[
        Path,
        typer.Option(envvar="PPAP_DOWNLOADS", help="where downloaded files lie, for all presets"),
    ] = Path("downloads"),
) -> None:
    Started.step = context.invoked_subcommand or ""
    Started.results, Started.scratch, Started.downloads = results, scratch, downloads


@app.command()
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
    from ppap.data.downloads import Downloads
    from ppap.data.external import download as run_step

    layout = open_preset(preset)
    lock = presets.find(preset).with_name("downloads.lock")
    run_step(layout, Downloads(Started.downloads, lock), name)


@app.command()
def pretrain(
    preset: PresetName,
    model: Annotated[str, typer.Argument(help="diffusion, evaluator, or a key of `guides`")],
) -> None:
    """Train the diffusion model, the evaluator or an off-the-shelf guide on real images.

    Resumes from its checkpoint. Steps, batch size and learning rate are the preset's.
    """
    from ppap.training.pretrain import pretrain as run_step

    run_step(open_preset(preset), model)


@app.command()
def generate(preset: PresetName, shard: ShardIndex = 0) -> None:
    """Draw one shard of clean images from the diffusion model, without guidance (uint8 pixels)."""
    from ppap.sampling.drawing import generate as run_step

    run_step(open_preset(preset), shard)


@app.command()
def label(
    preset: PresetName,
    guide: Guide,
    part: Annotated[int, typer.Option(min=0, help="which group of shards, counted from 0")] = 0,
) -> None:
    """Compute an off-the-shelf guide's answers (logits) on a group of shards of clean images.

    A group has `clean_images.label_shards` shards.
    """
    from ppap.experts.labelling import label as run_step
    from ppap.storage import files

    layout = open_preset(preset)
    config = layout.preset
    known(config, "guides", guide)
    files.check_writable(layout.labels(guide, part))
    run_step(layout, guide, part)


@app.command()
def train_expert(
    preset: PresetName,
    guide: Guide,
    method: Method,
    part: Annotated[
        str, typer.Argument(help="expert 1 (least noise) to N, or `warm` for the shared start")
    ],
) -> None:
    """Train one noise-aware expert of a guide on its range of timesteps.

    Resumes from its checkpoint. The preset's `experts.steps` of the guide are the total of all
    experts of the method, the shared start included.
    """
    from ppap.experts.train_expert import train_expert as run_step

    layout = open_preset(preset)
    config = layout.preset
    known(config, "guides", guide)
    known(config, "methods", method)
    run_step(layout, runs.ExpertJob(guide, method, part))


@app.command()
def import_experts(
    preset: PresetName,
    guide: Guide,
    method: Method,
    released: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="the authors' files (.ckpt)")
    ],
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", help="timesteps of each file in turn, as 0-200 (200 not included)"),
    ] = None,
    network_input: Annotated[
        NetworkInput | None,
        typer.Option(
            "--input", help="what the networks see, if not what the authors' code fed them"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="replace trained experts")] = False,
) -> None:
    """Turn experts that the paper's authors released into the preset's own.

    One file for each expert of the method, from the least noise to the most, or in any order with a
    --range for each. Needs the off-the-shelf guide's weights; writes all experts or none.
    """
    from ppap.experts.released import import_experts as run_step
    from ppap.experts.released import sources

    layout = open_preset(preset)
    config = layout.preset
    known(config, "guides", guide)
    known(config, "methods", method)
    found = sources(config, method, released, ranges or [])
    for path in run_step(layout, guide, method, found, network_input, overwrite):
        print(path)


@app.command()
def sample(
    preset: PresetName, sampler: Sampler, guide: Guide, method: Method, shard: ShardIndex = 0
) -> None:
    """Draw one shard of guided samples (uint8 pixels). Resumes from its checkpoint."""
    from ppap.sampling.drawing import sample as run_step

    layout = open_preset(preset)
    config = layout.preset
    run_step(layout, run_of(config, sampler, guide, method), shard)


@app.command()
def features(
    preset: PresetName,
    sampler: Annotated[str, typer.Argument(help="a key of `samplers`, or `reference`")],
    guide: Annotated[str, typer.Argument(help="a key of `guides`, or `unguided`")] = "",
    methods: Annotated[
        list[str] | None, typer.Argument(help="keys of `methods`; all of the tables' if left out")
    ] = None,
) -> None:
    """Extract the evaluator's features of runs' samples, or of the reference images.

    All methods of a sampler and guide share one file. Where some are named, the others' features stay in
    it, if they are of the samples and the evaluator that are there now; else it is refused.
    """
    from ppap.evaluation import evaluate
    from ppap.storage import files

    layout = open_preset(preset)
    config = layout.preset
    if sampler == REFERENCE:
        if guide or methods:
            raise typer.BadParameter("`reference` goes without a guide and methods")
        files.check_writable(layout.reference)
        evaluate.write_reference(layout)
        return
    chosen = features_of(config, sampler, guide, methods or [])
    files.check_writable(layout.features(sampler, chosen[0].guide))
    evaluate.write_features(layout, chosen)


@app.command()
def metrics(preset: PresetName, sampler: Sampler, guide: Guide) -> None:
    """Compute FID, Inception Score, precision, recall and target-class rate from features."""
    from ppap.evaluation.evaluate import write_metrics

    layout = open_preset(preset)
    config = layout.preset
    known(config, "samplers", sampler)
    if guide != UNGUIDED:
        known(config, "guides", guide)
    write_metrics(layout, sampler, guide)


@app.command()
def table(
    preset: PresetName, name: Annotated[Table, typer.Argument(help="which of the paper's tables")]
) -> None:
    """Rebuild one of the paper's tables: CSV, Markdown, LaTeX, HTML and JSON, beside the printed values."""
    from ppap.report.tables import write_table

    write_table(open_preset(preset), name.value)


@app.command()
def figure(
    preset: PresetName,
    name: Annotated[str, typer.Argument(help="samples, confidence or gradients")],
) -> None:
    """Draw one of the figures."""
    from ppap.report.figures import write_figure

    write_figure(open_preset(preset), name)


@app.command()
def plan(
    preset: PresetName,
    gpu: Annotated[
        str, typer.Option(help="V100, A100, H100, H200, RTX 3090, RTX 4090, L40S")
    ] = "A100",
    efficiency: Annotated[
        float, typer.Option(min=0.01, max=1, help="share of the GPU's peak rate that is reached")
    ] = 0.35,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say what a preset takes: jobs, GPU hours and disk of each phase, and the longest chain of jobs.

    Hours are measured where the workflow has run, else counted: floating-point operations of the
    networks, over a share of the GPU's peak rate. A preset for the CPU has measured hours only.
    """
    import json

    from ppap.plan import plan as planning

    made = planning.plan(open_preset(preset), gpu, efficiency)
    print(json.dumps(planning.as_json(made), indent=2) if as_json else planning.as_text(made))


@app.command()
def stop_jobs() -> None:
    """Stop the jobs, local ones and Slurm's, that a killed Snakemake left running in this folder.

    They resume from their checkpoints. `make unlock` calls this, then unlocks the folder.
    """
    from ppap.workflow import orphans

    print(f"stopped {orphans.stop(Path.cwd())} jobs")


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    # The libraries' imports make objects by the million, all of which stay. To search them for garbage at
    # the default rate is a fifth of a step's start, and to free them one by one takes half as long as that
    # start: so the process ends without.
    gc.set_threshold(100_000)
    process.prepare()
    code = run()
    with contextlib.suppress(PPAPError):  # of a stream that `run` has told of already
        sys.stderr.flush()
    os._exit(code)


def run() -> int:
    """Run the command line. What ends it early is one line on standard error.

    Exit codes: 0; 1 for a fault of ppap's; 2 for what a user can put right; 128 + N for signal N.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    Started.step = ""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except process.Stopped as stopped:
        process.ignore_signals()
        failures.say(f"{Started.step}: stopped by {stopped.signal.name}".removeprefix(": "))
        return 128 + stopped.signal
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer ends so, and says nothing
            return failures.report(end.__context__, Started.step, Started.scratch)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        return failures.report(error, Started.step, Started.scratch)
    return 0
