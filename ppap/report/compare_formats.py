"""A comparison of results as text, as Markdown and as JSON."""

from __future__ import annotations

import json
from typing import Any

from tabulate import tabulate

from ppap.evaluation.measured import Run
from ppap.guides.tasks.registry import TASKS
from ppap.report.compare import LIMIT, Comparison, Difference
from ppap.report.tables import HEADINGS
from ppap.report.titles import method_title, sampler_title

_SCORES = [score for task in TASKS for score in TASKS.get(task).scores]
_TITLES = {metric: heading[:-2] for metric, heading in HEADINGS.items()} | {
    score.name: score.title[:-2] for score in _SCORES
}
_FORMATS = {"fid": ".2f", "is": ".2f", "precision": ".3f", "recall": ".3f"} | {
    score.name: f".{score.digits}{'%' if score.unit else 'f'}" for score in _SCORES
}


def as_text(comparison: Comparison) -> str:
    table = tabulate(_table(comparison), headers="keys", disable_numparse=True)
    return "\n".join([_heading(comparison), "", table, "", *_findings(comparison)])


def as_markdown(comparison: Comparison) -> str:
    table = tabulate(_table(comparison), headers="keys", tablefmt="pipe", disable_numparse=True)
    findings = [f"- {line}" for line in _findings(comparison)[:-1]]
    body = [_heading(comparison), "", table, *([""] if findings else []), *findings]
    return "\n".join([*body, "", f"**{closing(comparison)}**"])


def as_json(comparison: Comparison) -> str:
    rows = [_row(run, differences) for run, differences in comparison.rows.items()]
    missing = {name: [run._asdict() for run in runs] for name, runs in comparison.missing.items() if runs}
    content = {
        "first": comparison.first,
        "second": comparison.second,
        "limit": LIMIT,
        "agrees": comparison.agrees,
        "rows": rows,
        "missing": missing,
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


def _heading(comparison: Comparison) -> str:
    return (
        f"{comparison.first} minus {comparison.second}, in spreads over the sampling seeds of both; "
        f"a row agrees up to {LIMIT:g}:"
    )


def _table(comparison: Comparison) -> list[dict[str, str]]:
    """Show row by row the differences in spreads; `!` marks those beyond the limit."""
    rows = []
    metrics = dict.fromkeys(d.metric for row in comparison.rows.values() for d in row)
    for run, differences in comparison.rows.items():
        names = {"Guide": run.guide, "Sampler": sampler_title(run.sampler), "Guidance": method_title(run.method)}
        cells = {d.metric: f"{round(d.spreads, 1) + 0:+.1f}{'' if d.agrees else ' !'}" for d in differences}
        rows.append(names | {_title(metric): cells.get(metric, "") for metric in metrics})
    return rows


def _findings(comparison: Comparison) -> list[str]:
    """List what deserves a line of its own: notes, missing rows, rows that differ, and the closing line."""
    lines = list(comparison.notes)
    for name, runs in comparison.missing.items():
        lines += [f"missing in {name}: {_named(run)}" for run in runs]
    for run, differences in comparison.differing.items():
        lines.append(f"differs: {_named(run)}: {', '.join(map(_values, differences))}")
    return [*lines, closing(comparison)]


def _values(difference: Difference) -> str:
    shown = [format(v.mean, _FORMATS.get(difference.metric, ".3f")) for v in (difference.first, difference.second)]
    return f"{_title(difference.metric)} {shown[0]} instead of {shown[1]} ({difference.spreads:+.1f} spreads)"


def _title(metric: str) -> str:
    """Name a metric for people; the scores of a task of the user's own by their names in files."""
    return _TITLES.get(metric, metric)


def _named(run: Run) -> str:
    return f"{method_title(run.method)}, {run.guide}, {sampler_title(run.sampler)}"


def _row(run: Run, differences: list[Difference]) -> dict[str, Any]:
    metrics = {
        d.metric: {"first": d.first.model_dump(), "second": d.second.model_dump(), "spreads": d.spreads}
        for d in differences
    }
    agrees = all(d.agrees for d in differences)
    return {**run._asdict(), "agrees": agrees, "metrics": metrics}
