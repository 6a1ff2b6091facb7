"""A comparison of results as text, as Markdown and as JSON."""

from __future__ import annotations

import json

from tabulate import tabulate

from ppap.evaluation.measured import Run
from ppap.guides.tasks.registry import TASKS
from ppap.guides.tasks.task import Score
from ppap.report.compare import LIMIT, Comparison, Difference
from ppap.report.tables import METRICS
from ppap.report.titles import method_title, sampler_title

# by name; scores of a task of the user's own have the names that they have in files
_SCORES = {score.name: score for score in (*METRICS, *(score for task in TASKS for score in TASKS.get(task).scores))}


def as_text(comparison: Comparison) -> str:
    return "\n".join([*_table(comparison, "simple"), *_remarks(comparison), closing(comparison)])


def as_markdown(comparison: Comparison) -> str:
    remarks = [f"- {line}" for line in _remarks(comparison)]
    return "\n".join([*_table(comparison, "pipe"), *remarks, *[""] * bool(remarks), f"**{closing(comparison)}**"])


def as_json(comparison: Comparison) -> str:
    rows = [
        {
            **run._asdict(),
            "agrees": all(d.agrees for d in row),
            "metrics": {
                d.metric: {"first": d.first._asdict(), "second": d.second._asdict(), "spreads": d.spreads} for d in row
            },
        }
        for run, row in comparison.rows.items()
    ]
    content = {
        "first": comparison.first,
        "second": comparison.second,
        "limit": LIMIT,
        "agrees": comparison.agrees,
        "rows": rows,
        "missing": {name: [run._asdict() for run in runs] for name, runs in comparison.missing.items() if runs},
        "notes": comparison.notes,
        "summary": closing(comparison),
    }
    return json.dumps(content, indent=2)


def closing(comparison: Comparison) -> str:
    """Say how many rows agree, and the largest difference, in one line."""
    run, largest = comparison.largest
    rows = len(comparison.rows)
    difference = (
        f"largest difference {abs(largest.spreads):.1f} spreads: {_named(run)}, {_title(largest.metric)}"
        if largest.spreads
        else "no difference"
    )
    agree = rows - len(comparison.differing)
    return f"{agree} of {rows} rows agree with {comparison.second}; {difference}"


def _table(comparison: Comparison, layout: str) -> list[str]:
    """Show row by row the differences in spreads, below what they are; `!` marks those beyond the limit."""
    rows = []
    metrics = dict.fromkeys(d.metric for row in comparison.rows.values() for d in row)
    for run, differences in comparison.rows.items():
        names = {"Guide": run.guide, "Sampler": sampler_title(run.sampler), "Guidance": method_title(run.method)}
        cells = {d.metric: f"{round(d.spreads, 1) + 0:+.1f}{'' if d.agrees else ' !'}" for d in differences}
        rows.append(names | {_title(metric): cells.get(metric, "") for metric in metrics})
    heading = (
        f"{comparison.first} minus {comparison.second}, in spreads over the sampling seeds of both; "
        f"a row agrees up to {LIMIT:g}:"
    )
    return [heading, "", tabulate(rows, headers="keys", tablefmt=layout, disable_numparse=True), ""]


def _remarks(comparison: Comparison) -> list[str]:
    """List what deserves a line of its own: notes, missing rows, rows that differ."""
    lines = list(comparison.notes)
    for name, runs in comparison.missing.items():
        lines += [f"missing in {name}: {_named(run)}" for run in runs]
    for run, differences in comparison.differing.items():
        lines.append(f"differs: {_named(run)}: {', '.join(map(_values, differences))}")
    return lines


def _values(difference: Difference) -> str:
    score = _SCORES.get(difference.metric, Score(difference.metric, "", ""))
    shown = [f"{score.factor * v.mean:.{score.digits}f}{score.unit}" for v in (difference.first, difference.second)]
    return f"{_title(difference.metric)} {shown[0]} instead of {shown[1]} ({difference.spreads:+.1f} spreads)"


def _title(metric: str) -> str:
    return _SCORES[metric].title[:-2] if metric in _SCORES else metric


def _named(run: Run) -> str:
    return f"{method_title(run.method)}, {run.guide}, {sampler_title(run.sampler)}"
