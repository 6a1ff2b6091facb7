"""The rows of a preset's tables, of one run or over replicates, gathered from the files of metrics and experts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ppap.config.guidance_scales import guidance_scale
from ppap.config.preset import Preset
from ppap.config.runs import Run, expert_steps, stored_as, table_runs, titles
from ppap.diffusion.guidance import evaluations_of
from ppap.evaluation import measured
from ppap.evaluation.measured import Measured, Metrics
from ppap.evaluation.replicates import Values
from ppap.experts.expert import check_experts, read_expert
from ppap.guides.tasks.task import Score
from ppap.report import replicates, tables
from ppap.report.tables import About, Effort, Row
from ppap.report.titles import sampler_title
from ppap.utils.errors import DataError
from ppap.utils.tensor_spec import REMEDY
from ppap.workflow.experts import purpose_of
from ppap.workflow.layout import Layout


def table(layout: Layout, name: str) -> pd.DataFrame:
    """Build a table of the preset; what was not computed is missing (see `ppap.report.tables.table`)."""
    rows = (_row(layout, run) for run in table_runs(layout.preset, name))
    return tables.table(name, rows, table_scores(layout.preset, name))


def texts(layout: Layout, name: str) -> dict[str, str]:
    """Write a table of the preset in all formats, by the suffixes of their files."""
    preset = layout.preset
    return tables.texts(name, table(layout, name), table_scores(preset, name), about(preset, name))


def scaled_table(layout: Layout) -> pd.DataFrame:
    """Build the table `scales`, of all replicates if there are any, with each row's scale, in the order of the scales."""
    preset = layout.preset
    if preset.replicates:
        return replicates.means(_study_rows(layout, "scales")).sort_values("scale", kind="stable")
    frame = table(layout, "scales")
    rows = zip(frame["sampler"], frame["guide"], frame["method"], strict=True)
    frame["scale"] = [guidance_scale(preset, *row) for row in rows]
    return frame.sort_values("scale", kind="stable")


def table_scores(preset: Preset, name: str) -> list[Score]:
    """List what the samples of a table's rows are judged by, each score once."""
    scores = (score for run in table_runs(preset, name) for score in preset.task(run.guide).scores)
    return list(dict.fromkeys(scores))


def about(preset: Preset, name: str) -> About:
    """Gather the facts that a table's note tells."""
    sampling, data = preset.sampling, preset.dataset
    return About(
        preset.name,
        len(sampling.seeds),
        sampling.samples,
        list(_scales(preset, name)),
        (data.image_size, data.classes) == (256, 1000) and preset.evaluator.in_print,
        titles(preset, table_runs(preset, name)),
    )


def _scales(preset: Preset, name: str) -> Iterator[str]:
    """Yield in words the guidance scale of each of a table's samplers, and those of guides and methods with their own."""
    runs = table_runs(preset, name)
    guides = {run.guide: preset.guides[run.guide].scales for run in runs}
    for sampler in dict.fromkeys(run.sampler for run in runs):
        own = {guide: scales[sampler] for guide, scales in guides.items() if sampler in scales}
        for run in runs:
            if run.sampler == sampler and run.guide in (scales := preset.methods[run.method].scales):
                own[f"{run.guide} {titles(preset, [run])[run.method]}"] = scales[run.guide]
        apart = ", ".join(f"{name} {scale:g}" for name, scale in own.items())
        yield f"{sampler_title(sampler)} {preset.samplers[sampler].scale:g}{f' ({apart})' if apart else ''}"


def _row(layout: Layout, run: Run) -> Row:
    preset = layout.preset
    stands_for = preset.guides[run.guide].stands_for
    effort = _effort(layout, run) if preset.computed(run.method) else Effort()
    return Row(run, stands_for, effort, metrics(layout, run))


def _effort(layout: Layout, run: Run) -> Effort:
    """Read off a row's experts what they cost; nothing where there are none, or not all yet."""
    preset = layout.preset
    method = preset.methods[run.method]
    paths = layout.experts(run.guide, run.method) if preset.guidance(run.method).experts else []
    if not paths or not all(path.exists() for path in paths):
        return Effort()
    experts = [read_expert(path) for path in paths]
    check_experts(experts, purpose_of(preset, run.guide, run.method), preset.ranges(run.method))
    trained = sum(expert.header.trainable_parameters for expert in experts)
    warm, each = expert_steps(preset, run.guide, run.method)
    losses = np.array([(e.header.held_out_loss, e.header.off_the_shelf_loss) for e in experts], float)  # NaN: unknown
    own, guide = np.average(losses, axis=0, weights=[len(e.timesteps) for e in experts])
    return Effort(
        trained,
        trained / experts[0].header.guide_parameters,
        "labels" if method.supervision == "labels" else "data-free",
        None if method.imported else warm + each * len(paths),
        own,
        guide,
        None if np.isnan(own) else sum(e.header.worse for e in experts),
    )


def metrics(layout: Layout, row: Run) -> Metrics:
    """Read the metrics of a table's row, with its guide's scores; none if they were not computed."""
    run = stored_as(layout.preset, row)
    if not layout.metrics(run.sampler, run.guide).exists():
        return {}
    file = _read(layout, run.sampler, run.guide)
    return file.methods.get(run.method, {}) | file.shared.get(row.guide, {}).get(run.method, {})


def _read(layout: Layout, sampler: str, guide: str) -> Measured:
    """Read the metrics of a sampler and guide; DataError unless they are whole, and of the preset's samples."""
    preset = layout.preset
    path = layout.metrics(sampler, guide)
    file = measured.read(path)
    counts = {"samples_per_seed": preset.sampling.samples, "seeds": list(preset.sampling.seeds)}
    for key, value in {"sampler": sampler, "guide": guide, **counts}.items():
        if getattr(file, key) != value:
            raise DataError(f"{path}: of {key} {getattr(file, key)}, not {value}; {REMEDY}")
    for problem in file.lost:
        raise DataError(f"{path}: {problem}; {REMEDY}")
    return file


def study_texts(layout: Layout, name: str) -> dict[str, dict[str, str]]:
    """Write a table over all replicates: its means and differences, in all formats (see `ppap.report.replicates`)."""
    preset, rows = layout.preset, _study_rows(layout, name)
    return replicates.texts(name, rows, table_scores(preset, name), about(preset, name), len(preset.replicates))


def _study_rows(layout: Layout, name: str) -> list[replicates.Row]:
    preset, rows = layout.preset, []
    for run in table_runs(preset, name):
        values = _values(layout, run) if preset.computed(run.method) else {}
        kind = preset.guidance(run.method)
        asked = evaluations_of(kind, preset.schedule(run.sampler)) if kind.drawn else None
        scale = guidance_scale(preset, *run) if kind.guided and kind.drawn else None
        rows.append(replicates.Row(run, stored_as(preset, run), values, asked, scale))
    return rows


def _values(layout: Layout, row: Run) -> dict[str, Values]:
    """Read a row's metrics by replicate and sampling seed; DataError names a replicate that lacks them."""
    by_metric: dict[str, dict[int, dict[int, float]]] = {}
    for run in layout.runs:
        found = metrics(run, row)
        if not found:
            stored = stored_as(run.preset, row)
            raise DataError(
                f"{run.metrics(stored.sampler, stored.guide)}: replicate {run.preset.seed} has no {row.method} yet; "
                f"snakemake --config preset={layout.preset.name} -- replicates"
            )
        for name, spread in found.items():
            by_seed = dict(zip(run.preset.sampling.seeds, spread.values, strict=True))
            by_metric.setdefault(name, {})[run.preset.seed] = by_seed
    return dict(by_metric)
