"""The paper's three tables, rebuilt: measured values beside the printed ones."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ppap.diffusion.sampler_kinds import SAMPLERS
from ppap.evaluation.measured import Spread, read_measured
from ppap.experts.bank import check_experts, read_expert
from ppap.experts.header import purpose_of
from ppap.graph.layout import Layout
from ppap.preset import UNGUIDED, Preset
from ppap.preset.runs import Run, expert_steps, stored_as, table_runs
from ppap.report import table_formats
from ppap.report.paper import PRINTED, PrintedRow, printed
from ppap.storage import files

TITLES = {
    "main": "Guidance methods (main table of the paper)",
    "capacity": "Supervised experts of several sizes (capacity table of the paper)",
    "data_free": "Label-free experts beside supervised single models (data-free table of the paper)",
}
METHODS = {
    "none": "none",
    "naive": "naive off-the-shelf",
    "x0_gradient": "x0-gradient",
    "single_noise_aware": "single noise-aware",
    "multi_experts_5": "multi-experts-5",
    "ppap_5": "PPAP-5",
    "ppap_10": "PPAP-10",
}
HEADINGS = {"fid": "FID ↓", "is": "IS ↑", "precision": "Precision ↑", "recall": "Recall ↑"}
RATE = "target_rate"
NO_EFFORT = dict.fromkeys(("trainable_parameters", "trainable_share", "supervision", "steps"))
COUNTS = ("trainable_parameters", "steps")  # whole numbers, or none


def method_title(name: str) -> str:
    return METHODS.get(name, name)


def write_table(layout: Layout, name: str) -> None:
    """Write results/PRESET/tables/NAME.{csv,md,tex,html,json}, all or none. What was not computed stays empty."""
    preset = layout.preset
    frame = table(layout, name)
    readable, title, about = for_people(frame), TITLES[name], note(preset)
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
    rows = []
    for run in table_runs(preset, name):
        spec = preset.guides[run.guide]
        row: dict[str, Any] = {
            "guide": run.guide,
            "stands_for": spec.stands_for,
            "sampler": run.sampler,
            "method": run.method,
            **(effort(layout, run) if preset.computed(run.method) else NO_EFFORT),
        }
        measured = _measured(layout, stored_as(preset, run))
        paper = known.get(PrintedRow(spec.stands_for or "", run.sampler, run.method), {})
        for metric in (*PRINTED, RATE):
            row[metric] = measured[metric].mean if metric in measured else None
            row[f"{metric}_std"] = measured[metric].std if metric in measured else None
            if metric in PRINTED:
                row[f"paper_{metric}"] = paper.get(metric)
        rows.append(row)
    return pd.DataFrame(rows).astype(dict.fromkeys(COUNTS, "Int64"))


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


def for_people(frame: pd.DataFrame) -> pd.DataFrame:
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
    digits = {"fid": 2, "is": 2, "precision": 3, "recall": 3}
    for metric, heading in HEADINGS.items():
        out[heading] = _spread(frame, metric, digits[metric])
        out[f"{heading[:-2]} in print"] = [
            f"{v:.{digits[metric] + (metric in ('precision', 'recall'))}f}" if pd.notna(v) else ""
            for v in frame[f"paper_{metric}"]
        ]
    out["Target class ↑"] = _spread(frame, RATE, 1, 100, "%")
    return out


def note(preset: Preset) -> str:
    """What the columns mean."""
    sampling = preset.sampling
    scales = ", ".join(f"{sampler_title(n)} {s.scale:g}" for n, s in preset.samplers.items())
    several = f"Mean ± standard deviation over {len(sampling.seeds)} sampling seeds of {sampling.samples:,} samples each"
    one = f"One sampling seed, {sampling.samples:,} samples"
    other = " (another data set and another feature extractor: compare the order of rows, not the values)"
    return (
        f"Preset `{preset.name}`. {several if len(sampling.seeds) > 1 else one}. Guidance scale: {scales}. "
        "“In print”: what the paper reports for the architecture in brackets, on ImageNet 256x256"
        f"{'' if _judged_as_in_print(preset) else other}. "
        "Trained parameters: of all experts together, and as a share of the guide's own. "
        "Steps: training steps of the row in all, shared start included. "
        "Target class: how often an independent classifier sees the class that was asked for. "
        "An empty cell was not computed."
    )


def _judged_as_in_print(preset: Preset) -> bool:
    """Whether the images and what judges them are the paper's: ImageNet 256x256, Inception's features."""
    data = preset.dataset
    return (data.image_size, data.classes) == (256, 1000) and preset.evaluator.as_in_print


def nested(frame: pd.DataFrame) -> dict[str, Any]:
    """The measured values as {guide: {sampler: {method: {metric: mean}}}}, for `dvc metrics`."""
    tree: dict[str, Any] = {}
    for row in frame.to_dict("records"):
        values = {m: row[m] for m in (*PRINTED, RATE) if pd.notna(row[m])}
        guide = UNGUIDED if row["method"] == "none" else row["guide"]
        tree.setdefault(guide, {}).setdefault(row["sampler"], {})[row["method"]] = values
    return tree


def _measured(layout: Layout, run: Run) -> dict[str, Spread]:
    """The metrics of a run; none if they were not computed."""
    if not layout.metrics(run.sampler, run.guide).exists():
        return {}
    return read_measured(layout, run.sampler, run.guide).methods.get(run.method, {})


def _spread(
    frame: pd.DataFrame, metric: str, digits: int, factor: float = 1, unit: str = ""
) -> list[str]:
    cells = []
    for mean, std in zip(frame[metric], frame[f"{metric}_std"], strict=True):
        cell = f"{factor * mean:.{digits}f}" if pd.notna(mean) else ""
        cell += f" ± {factor * std:.{digits}f}" if pd.notna(std) else ""
        cells.append(cell + unit if cell else "")
    return cells


def sampler_title(name: str) -> str:
    for kind in SAMPLERS:
        if name.startswith(kind):
            return f"{kind.upper()}-{name.removeprefix(kind)}"
    return name
