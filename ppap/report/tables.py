"""The paper's three tables, rebuilt: measured values beside the printed ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ppap.config import Preset
from ppap.config.guidance_scales import guidance_scale
from ppap.config.runs import Run, expert_steps, table_runs
from ppap.evaluation.measured import measured_of, scores_of
from ppap.experts.bank import check_experts, read_expert
from ppap.experts.header import purpose_of
from ppap.guides.tasks.task import Score
from ppap.report import table_formats
from ppap.report.paper import PRINTED, PrintedRow, printed
from ppap.report.titles import method_title, sampler_title
from ppap.utils import files
from ppap.workflow.layout import Layout

TITLES = {
    "main": "Guidance methods (main table of the paper)",
    "capacity": "Supervised experts of several sizes (capacity table of the paper)",
    "data_free": "Label-free experts beside supervised single models (data-free table of the paper)",
    "scales": "Guidance methods at several guidance scales",
}
HEADINGS = {"fid": "FID ↓", "is": "IS ↑", "precision": "Precision ↑", "recall": "Recall ↑"}
NO_EFFORT = dict.fromkeys(("trainable_parameters", "trainable_share", "supervision", "steps"))
COUNTS = ("trainable_parameters", "steps")  # whole numbers, or none


def write_table(layout: Layout, name: str) -> None:
    """Write results/PRESET/tables/NAME.{csv,md,tex,html,json}, all or none. What was not computed stays empty."""
    preset = layout.preset
    frame = table(layout, name)
    scores = scores_of(preset, *table_runs(preset, name))
    readable, title, about = (
        for_people(frame, scores),
        TITLES[name],
        note(preset, name, scores, _is_printed(frame)),
    )
    texts = {
        "csv": frame.to_csv(index=False, float_format="%.6g"),
        "md": table_formats.markdown(readable, title, about),
        "tex": table_formats.latex(readable, title, name),
        "html": table_formats.html(readable, title, about),
        "json": files.json_text(nested(frame)),
    }
    files.write_texts({layout.table(name, suffix): text for suffix, text in texts.items()})


def table(layout: Layout, name: str) -> pd.DataFrame:
    """One row a run, one column a quantity; `paper_*` columns hold what the paper prints for its own model."""
    preset = layout.preset
    known = printed(name)
    rows, scores = [], scores_of(preset, *table_runs(preset, name))
    for run in table_runs(preset, name):
        spec = preset.guides[run.guide]
        row: dict[str, Any] = {
            "guide": run.guide,
            "stands_for": spec.stands_for,
            "sampler": run.sampler,
            "method": run.method,
            **(effort(layout, run) if preset.computed(run.method) else NO_EFFORT),
        }
        measured = measured_of(layout, run)
        paper = known.get(PrintedRow(spec.stands_for or "", run.sampler, run.method), {})
        for metric in (*PRINTED, *(score.name for score in scores)):
            row[metric] = measured[metric].mean if metric in measured else None
            row[f"{metric}_std"] = measured[metric].std if metric in measured else None
            if metric in PRINTED:
                row[f"paper_{metric}"] = paper.get(metric)
        rows.append(row)
    return pd.DataFrame(rows).astype(dict.fromkeys(COUNTS, "Int64"))


def scaled_table(layout: Layout) -> pd.DataFrame:
    """The table `scales` with each row's guidance scale, in the order of the scales."""
    frame, preset = table(layout, "scales"), layout.preset
    pairs = zip(frame["sampler"], frame["guide"], strict=True)
    frame["scale"] = [guidance_scale(preset, sampler, guide) for sampler, guide in pairs]
    return frame.sort_values("scale", kind="stable")


def effort(layout: Layout, run: Run) -> dict[str, Any]:
    """What a row's experts cost: parameters trained (and as a share of the guide's), supervision, steps."""
    preset = layout.preset
    method = preset.methods[run.method]
    bank = layout.experts(run.guide, run.method) if preset.guidance(run.method).experts else []
    if not bank or not all(path.exists() for path in bank):
        return NO_EFFORT
    experts = [read_expert(path) for path in bank]
    check_experts(experts, purpose_of(preset, run.guide, run.method), preset.ranges(method))
    trained = sum(expert.header.trainable_parameters for expert in experts)
    warm, each = expert_steps(preset, run.guide, method)
    return {
        "trainable_parameters": trained,
        "trainable_share": trained / experts[0].header.guide_parameters,
        "supervision": "labels" if method.supervision == "labels" else "data-free",
        "steps": None if method.imported else warm + each * len(bank),
    }


def for_people(frame: pd.DataFrame, scores: Sequence[Score]) -> pd.DataFrame:
    """The table as text: mean ± spread, empty where nothing was computed."""
    out = pd.DataFrame()
    out["Guide"] = [
        f"{g} ({s})" if s else g for g, s in zip(frame["guide"], frame["stands_for"], strict=True)
    ]
    out["Sampler"] = frame["sampler"].map(sampler_title)
    out["Guidance"] = frame["method"].map(method_title)
    out["Trained parameters"] = [
        f"{int(n):,} ({share:.0%})" if pd.notna(n) else ""
        for n, share in zip(frame["trainable_parameters"], frame["trainable_share"], strict=True)
    ]
    out["Supervision"] = frame["supervision"].fillna("")
    out["Steps"] = [f"{int(n):,}" if pd.notna(n) else "" for n in frame["steps"]]
    in_print = _is_printed(frame)
    digits = {"fid": 2, "is": 2, "precision": 3, "recall": 3}
    for metric, heading in HEADINGS.items():
        out[heading] = _spread(frame, metric, digits[metric])
        if in_print:
            out[f"{heading[:-2]} in print"] = [
                f"{v:.{digits[metric] + (metric in ('precision', 'recall'))}f}"
                if pd.notna(v)
                else ""
                for v in frame[f"paper_{metric}"]
            ]
    for score in scores:
        out[score.title] = _spread(frame, score.name, score.digits, score.factor, score.unit)
    return out


def note(preset: Preset, table: str, scores: Sequence[Score], in_print: bool) -> str:
    """What the columns mean."""
    sampling = preset.sampling
    several = f"Mean ± standard deviation over {len(sampling.seeds)} sampling seeds of {sampling.samples:,} samples each"
    one = f"One sampling seed, {sampling.samples:,} samples"
    other = " (another data set and another feature extractor: compare the order of rows, not the values)"
    printed = (
        "“In print”: what the paper reports for the architecture in brackets, on ImageNet 256x256"
        f"{'' if _judged_as_in_print(preset) else other}. "
    )
    return (
        f"Preset `{preset.name}`. {several if len(sampling.seeds) > 1 else one}. "
        f"Guidance scale: {_scales(preset, table)}. {printed if in_print else ''}"
        "Trained parameters: of all experts together, and as a share of the guide's own. "
        "Steps: training steps of the row in all, shared start included. "
        f"{''.join(f'{score.meaning} ' for score in scores)}"
        "An empty cell was not computed."
    )


def _scales(preset: Preset, table: str) -> str:
    """The guidance scale of each of a table's samplers, and of its guides that have their own."""
    runs, found = table_runs(preset, table), []
    guides = dict.fromkeys(run.guide for run in runs)
    for name in dict.fromkeys(run.sampler for run in runs):
        own = {guide: preset.guides[guide].scales for guide in guides}
        apart = ", ".join(f"{g} {scales[name]:g}" for g, scales in own.items() if name in scales)
        common = f"{sampler_title(name)} {preset.samplers[name].scale:g}"
        found.append(common + (f" ({apart})" if apart else ""))
    return ", ".join(found)


def _is_printed(frame: pd.DataFrame) -> bool:
    """Whether the paper prints anything of these rows."""
    return any(bool(frame[f"paper_{metric}"].notna().any()) for metric in PRINTED)


def _judged_as_in_print(preset: Preset) -> bool:
    """Whether the images and what judges them are the paper's: ImageNet 256x256, Inception's features."""
    data = preset.dataset
    return (data.image_size, data.classes) == (256, 1000) and preset.evaluator.as_in_print


def metrics_in(frame: pd.DataFrame) -> list[str]:
    """The metrics that a table has: each has its spread in a column beside it."""
    return [name for name in frame.columns if f"{name}_std" in frame]


def nested(frame: pd.DataFrame) -> dict[str, Any]:
    """The measured values as {guide: {sampler: {method: {metric: mean}}}}, for `dvc metrics`."""
    tree: dict[str, Any] = {}
    metrics = metrics_in(frame)
    for row in frame.to_dict("records"):
        values = {m: row[m] for m in metrics if pd.notna(row[m])}
        tree.setdefault(row["guide"], {}).setdefault(row["sampler"], {})[row["method"]] = values
    return tree


def _spread(
    frame: pd.DataFrame, metric: str, digits: int, factor: float = 1, unit: str = ""
) -> list[str]:
    cells = []
    for mean, std in zip(frame[metric], frame[f"{metric}_std"], strict=True):
        cell = f"{factor * mean:.{digits}f}" if pd.notna(mean) else ""
        cell += f" ± {factor * std:.{digits}f}" if pd.notna(std) else ""
        cells.append(cell + unit if cell else "")
    return cells
