"""Tables over replicates: means with standard errors, and differences between rows with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import pandas as pd

from ppap.diffusion.guidance import Evaluations
from ppap.evaluation.measured import Run
from ppap.evaluation.replicates import Values, paired_interval, summary
from ppap.guides.tasks.task import Score
from ppap.report import table_formats
from ppap.report.tables import METRICS, About, title
from ppap.report.titles import sampler_title

NOT_DRAWN = Evaluations(0, 0, 0)
ASKED = [f"evaluations_{network}" for network in Evaluations._fields]
PAIR = ["sampler", "first_guide", "first", "second_sampler", "second_guide", "second"]


class Row(NamedTuple):
    """A row of a table, the run that holds its samples (without guidance all guides share one), and its metrics, if any.

    Of drawn samples `evaluations` are those of networks that one takes, and of guided ones there is the guidance `scale`.
    """

    run: Run
    samples: Run
    metrics: Mapping[str, Values]
    evaluations: Evaluations | None = None
    scale: float | None = None


def means(rows: Sequence[Row]) -> pd.DataFrame:
    """Build the table of means, a row a run; NAME_error is a metric's standard error, NAME_seeds the deviation over seeds."""
    records = []
    for row in rows:
        asked = dict(zip(ASKED, row.evaluations or NOT_DRAWN, strict=True))
        record: dict[str, Any] = row.run._asdict() | asked | {"scale": row.scale}
        for name, values in row.metrics.items():
            record[name], record[f"{name}_error"], record[f"{name}_seeds"] = summary(values)
        records.append(record)
    return pd.DataFrame(records)


def differences(rows: Sequence[Row]) -> pd.DataFrame:
    """Build the table of differences, first minus second, of every two rows under one sampler, and of the first with all.

    NAME_low and NAME_high are the bounds of the interval.
    """
    records = []
    for first, second in combinations(rows, 2):
        shared = [name for name in first.metrics if name in second.metrics]
        paired = first.run.sampler == second.run.sampler or first is rows[0]
        if not paired or first.samples == second.samples or not shared:
            continue
        record: dict[str, Any] = dict(zip(PAIR, (*first.run, *second.run), strict=True))
        for name in shared:
            interval = paired_interval(first.metrics[name], second.metrics[name])
            record[name], record[f"{name}_low"], record[f"{name}_high"] = interval
        records.append(record)
    return pd.DataFrame(records, columns=None if records else PAIR)


def texts(
    name: str, rows: Sequence[Row], scores: Sequence[Score], about: About, count: int
) -> dict[str, dict[str, str]]:
    """Write both tables of `count` replicates: by name (`main`, `main_differences`), then by the suffixes of their files."""
    of_means, of_pairs = means(rows), differences(rows)
    metrics = [score for score in (*METRICS, *scores) if score.name in of_means]
    shown, paired = _means_for_people(of_means, metrics, about), _pairs_for_people(of_pairs, metrics, about)
    of_all, pairs = f"{title(name)}, {count} replicates", f"{name}_differences"
    note, pairs_note = _note(about, count, scores), _pairs_note(about, count)
    return {
        name: table_formats.texts(of_means, shown, of_all, note, name),
        pairs: table_formats.texts(of_pairs, paired, f"{of_all}: differences", pairs_note, pairs),
    }


def _means_for_people(frame: pd.DataFrame, metrics: Sequence[Score], about: About) -> pd.DataFrame:
    out = pd.DataFrame({"Guide": frame["guide"], "Sampler": frame["sampler"].map(sampler_title)})
    out["Guidance"] = frame["method"].map(about.titles)
    out["Scale"] = [f"{scale:g}" if pd.notna(scale) else "" for scale in frame["scale"]]
    asked = zip(*(frame[name] for name in ASKED), strict=True)
    out["Evaluations"] = [" + ".join(map(str, row)) if row != NOT_DRAWN else "" for row in asked]
    for score in metrics:
        out[score.title] = list(_cells(frame, score, "{} ± {}", "", "_error"))
        if about.seeds > 1:
            out[f"{score.title[:-2]} over seeds"] = list(_cells(frame, score, "{}", "_seeds"))
    return out


def _pairs_for_people(frame: pd.DataFrame, metrics: Sequence[Score], about: About) -> pd.DataFrame:
    out = pd.DataFrame({"Sampler": frame["sampler"].map(sampler_title)})
    for side in ("first", "second"):
        out[side.capitalize()] = frame[f"{side}_guide"] + ": " + frame[side].map(about.titles)
    elsewhere = frame["sampler"] != frame["second_sampler"]
    out["Second"] += (", " + frame["second_sampler"].map(sampler_title)).where(elsewhere, "")
    for score in metrics:
        if score.name in frame:
            out[score.title] = list(_cells(frame, score, "{} [{}, {}]", "", "_low", "_high"))
    return out


def _cells(frame: pd.DataFrame, score: Score, form: str, *columns: str) -> Iterator[str]:
    """Write cells of a metric's columns by these endings; empty where one is missing."""
    for values in zip(*(frame[f"{score.name}{column}"].astype(float) for column in columns), strict=True):
        numbers = [f"{score.factor * value:.{score.digits}f}" for value in values]
        yield form.format(*numbers) + score.unit if all(map(pd.notna, values)) else ""


def _note(about: About, count: int, scores: Sequence[Score]) -> str:
    one = f"One sampling seed, {about.samples:,} samples"
    several = (
        f"Over seeds: the standard deviation over the {about.seeds} sampling seeds, of {about.samples:,} samples each, of one "
        "replicate, whose networks are the same"
    )
    return (
        f"Preset `{about.preset}`. Mean ± standard error over {count} replicates: whole runs with seeds of their own, every "
        f"network trained and every image drawn anew. {several if about.seeds > 1 else one}. Evaluations of networks "
        f"that a sample takes: forward through the diffusion network, backward through it, and both through the guide. "
        f"{''.join(f'{score.meaning} ' for score in scores)}"
        "An empty cell was not computed."
    )


def _pairs_note(about: About, count: int) -> str:
    of_each = f" of the mean over {about.seeds} sampling seeds" if about.seeds > 1 else ""
    return (
        f"Preset `{about.preset}`. First minus second, paired by replicate and sampling seed, and Student's 95% interval "
        f"over {count} replicates{of_each}. Each interval stands for itself: of twenty, one misses the truth."
    )
