"""The paper's three tables, rebuilt: measured values beside the printed ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from ppap.evaluation.measured import Run, Spread
from ppap.guides.tasks.task import Score
from ppap.report import table_formats
from ppap.report.paper import PRINTED, printed
from ppap.report.titles import sampler_title
from ppap.utils import files

TITLES = {
    "main": "Guidance methods (main table of the paper)",
    "capacity": "Supervised experts of several sizes (capacity table of the paper)",
    "data_free": "Label-free experts beside supervised single models (data-free table of the paper)",
    "scales": "Guidance methods at several guidance scales",
}
METRICS = (
    Score("fid", "FID ↓", "", 2),
    Score("is", "IS ↑", "", 2),
    Score("precision", "Precision ↑", ""),
    Score("recall", "Recall ↑", ""),
)


class Effort(NamedTuple):
    """The cost of a row's experts; nothing where there are none."""

    trainable_parameters: int | None = None
    trainable_share: float | None = None
    """The parameters as a share of the guide's own."""
    supervision: str | None = None
    steps: int | None = None
    held_out_loss: float | None = None
    """On images held out of the training, a mean over all timesteps."""
    off_the_shelf_loss: float | None = None
    """The loss of the model that they came from, on the same noisy images."""
    worse_experts: int | None = None
    """Experts whose loss is larger than that model's."""


@dataclass(frozen=True)
class Row:
    """A row of a table: its names, the paper's architecture that its guide stands for, cost, and metrics by name."""

    run: Run
    stands_for: str | None
    effort: Effort
    metrics: Mapping[str, Spread]


@dataclass(frozen=True)
class About:
    """The facts that a table's note tells of its preset."""

    preset: str
    seeds: int
    samples: int
    scales: Sequence[str]
    """The guidance scale of each sampler, and of guides and methods that have their own with it."""
    as_in_print: bool
    """Images and evaluator are the paper's: ImageNet 256x256, Inception's features."""
    titles: Mapping[str, str]
    """Names of methods, for people."""


def title(name: str) -> str:
    """Return a table's title: by default its name."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def table(name: str, rows: Iterable[Row], scores: Sequence[Score]) -> pd.DataFrame:
    """Build a table, a row a run, a column a quantity; `paper_*` columns hold what the paper prints for its own model.

    Values that were not measured are missing.
    """
    known, records = printed(name), []
    for row in rows:
        sampler, guide, method = row.run
        record: dict[str, Any] = {
            "guide": guide,
            "stands_for": row.stands_for,
            "sampler": sampler,
            "method": method,
            **row.effort._asdict(),
        }
        paper = known.get((row.stands_for or "", sampler, method), {})
        for metric in (*PRINTED, *(score.name for score in scores)):
            measured = row.metrics.get(metric)
            record[metric] = measured.mean if measured else None
            record[f"{metric}_std"] = measured.std if measured else None
            if metric in PRINTED:
                record[f"paper_{metric}"] = paper.get(metric)
        records.append(record)
    return pd.DataFrame(records).astype(dict.fromkeys(("trainable_parameters", "steps", "worse_experts"), "Int64"))


def texts(name: str, frame: pd.DataFrame, scores: Sequence[Score], about: About) -> dict[str, str]:
    """Write a table in all formats, by the suffixes of their files."""
    readable, below = for_people(frame, scores, about.titles), note(about, scores, _is_printed(frame))
    written = table_formats.texts(frame, readable, title(name), below, name)
    return written | {"json": files.json_text(nested(frame))}


def for_people(frame: pd.DataFrame, scores: Sequence[Score], titles: Mapping[str, str]) -> pd.DataFrame:
    """Write the table as text: mean ± spread, empty where nothing was computed."""
    out = pd.DataFrame()
    out["Guide"] = [f"{g} ({s})" if s else g for g, s in zip(frame["guide"], frame["stands_for"], strict=True)]
    out["Sampler"] = frame["sampler"].map(sampler_title)
    out["Guidance"] = frame["method"].map(titles)
    out["Trained parameters"] = [
        f"{int(n):,} ({share:.0%})" if pd.notna(n) else ""
        for n, share in zip(frame["trainable_parameters"], frame["trainable_share"], strict=True)
    ]
    out["Supervision"] = frame["supervision"].fillna("")
    out["Steps"] = [f"{int(n):,}" if pd.notna(n) else "" for n in frame["steps"]]
    if "held_out_loss" in frame:  # which a table of an older version has not
        losses = zip(*(frame[f"{of}"] for of in ("held_out_loss", "off_the_shelf_loss", "worse_experts")), strict=True)
        out["Held-out loss"] = [
            f"{own:.3g} ({guide:.3g})" + (f", {worse:.0f} worse" if worse else "") if pd.notna(own) else ""
            for own, guide, worse in losses
        ]
    in_print = _is_printed(frame)
    for score in (*METRICS, *scores):
        out[score.title] = _spread(frame, score)
        if in_print and score in METRICS:
            digits = 2 if score.digits == 2 else 4
            values = frame[f"paper_{score.name}"]
            out[f"{score.title[:-2]} in print"] = [f"{v:.{digits}f}" if pd.notna(v) else "" for v in values]
    return out


def note(about: About, scores: Sequence[Score], in_print: bool) -> str:
    """Explain the columns."""
    several = f"Mean ± standard deviation over {about.seeds} sampling seeds of {about.samples:,} samples each"
    one = f"One sampling seed, {about.samples:,} samples"
    other = " (another data set and another feature extractor: compare the order of rows, not the values)"
    printed = (
        "“In print”: what the paper reports for the architecture in brackets, on ImageNet 256x256"
        f"{'' if about.as_in_print else other}. "
    )
    return (
        f"Preset `{about.preset}`. {several if about.seeds > 1 else one}. "
        f"{scales_note(about)} {printed if in_print else ''}"
        "Trained parameters: of all experts together, and as a share of the guide's own. "
        "Steps: training steps of the row in all, shared start included. "
        "Held-out loss: of its experts on images that none learned from, at all timesteps; in brackets that of the "
        "off-the-shelf model; how many experts are worse than it. "
        f"{''.join(f'{score.meaning} ' for score in scores)}"
        "An empty cell was not computed."
    )


def scales_note(about: About) -> str:
    """Say at which guidance scales a table's rows were drawn."""
    return f"Guidance scale: {', '.join(about.scales)}."


def _is_printed(frame: pd.DataFrame) -> bool:
    """Tell whether the paper prints anything of these rows."""
    return bool(frame[[f"paper_{metric}" for metric in PRINTED]].notna().any(axis=None))


def nested(frame: pd.DataFrame) -> dict[str, Any]:
    """Nest the measured values as {guide: {sampler: {method: {metric: mean}}}}, for `dvc metrics`."""
    tree: dict[str, Any] = {}
    metrics = [name for name in frame.columns if f"{name}_std" in frame]  # which have their spread beside them
    for row in frame.to_dict("records"):
        values = {m: row[m] for m in metrics if pd.notna(row[m])}
        tree.setdefault(row["guide"], {}).setdefault(row["sampler"], {})[row["method"]] = values
    return tree


def _spread(frame: pd.DataFrame, score: Score) -> list[str]:
    cells = []
    for mean, std in zip(frame[score.name], frame[f"{score.name}_std"], strict=True):
        cell = f"{score.factor * mean:.{score.digits}f}" if pd.notna(mean) else ""
        cell += f" ± {score.factor * std:.{score.digits}f}" if pd.notna(std) else ""
        cells.append(cell + score.unit if cell else "")
    return cells
