"""Published results: a preset's tables, figures and metrics, kept in git where no run overwrites them.

They lie in published/PRESET as they do in results/PRESET. README.md shows some of the tables, each between two markers
that name its file. The first may ask for the rows of one guide and one sampler, and for some columns by their headings:

    <!-- published/PRESET/tables/NAME.md: begin -->
    <!-- published/PRESET/tables/NAME.md: end -->

    <!-- published/PRESET/tables/NAME.md GUIDE SAMPLER COLUMN | COLUMN: begin -->
    <!-- published/PRESET/tables/NAME.md: end -->
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pandas as pd

from ppap.config.runs import all_runs
from ppap.report import compare, table_formats
from ppap.report.tables import nested, table
from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.workflow.layout import Layout
from ppap.workflow.steps.figure import Figure
from ppap.workflow.steps.metrics import Metrics
from ppap.workflow.steps.table import Table

PUBLISHED = Path("published")
README = Path("README.md")


def publish(layout: Layout) -> list[Path]:
    """Copy a preset's results to published/PRESET, and renew README's tables; the files that this changed.

    DataError, and nothing changed, if results are missing, or tables are not what the metrics give.
    """
    preset = layout.preset
    target = Layout(preset, PUBLISHED).root
    new = _results(layout, target)
    if README.exists():
        new[README] = _with_tables(README.read_text(encoding="utf-8"), target, new).encode()
    changed = [path for path, data in new.items() if not _holds(path, data)]
    gone = [path for path in _files(target) if path not in new]
    files.write_all({path: files.bytes_writer(new[path]) for path in changed})
    for path in gone:
        path.unlink()
    return [*changed, *gone]


def _results(layout: Layout, target: Path) -> dict[Path, bytes]:
    """What is published: the contents of tables, figures and metrics, by the path they get."""
    preset = layout.preset
    jobs = (job for step in (Table, Figure, Metrics) for job in step.jobs(layout))
    made = [path for job in jobs for path in job.outputs(layout)]
    missing = [path for path in made if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}{more}: not computed yet; nothing was published")
    computed = compare.read(layout.root).rows
    for run in all_runs(preset):
        if run not in computed:
            path = layout.metrics(run.sampler, run.guide)
            raise DataError(f"{path}: nothing about {run.method}; nothing was published")
    for name in preset.tables:
        path = layout.table(name, "json")
        if files.read_json(path) != nested(table(layout, name)):
            raise DataError(f"{path}: older than the metrics; make the tables anew, then publish")
    return {target / path.relative_to(layout.root): path.read_bytes() for path in made}


def _with_tables(text: str, target: Path, new: dict[Path, bytes]) -> str:
    """README with the preset's tables, each without its title, between the markers that name them."""

    def block(found: re.Match[str]) -> str:
        path = Path(found["path"])
        if path not in new:
            raise DataError(f"{README}: {path} is shown, but is none of the preset's tables")
        _, _, body = new[path].decode().partition("\n\n")
        if found["columns"]:
            body = _excerpt(path, new, found["guide"], found["sampler"], found["columns"])
        return f"{found['begin']}\n\n{body.strip()}\n\n{found['end']}"

    folder = re.escape(f"{target.as_posix()}/")
    wanted = r"(?: (?P<guide>\S+) (?P<sampler>\S+) (?P<columns>[^\n]+?))?"
    marked = re.compile(
        rf"(?P<begin><!-- (?P<path>{folder}[^\s:]+){wanted}: begin -->)"
        r".*?(?P<end><!-- (?P=path): end -->)",
        re.DOTALL,
    )
    return marked.sub(block, text)


def _excerpt(path: Path, new: dict[Path, bytes], guide: str, sampler: str, columns: str) -> str:
    """The rows of a published table with this guide and sampler, in Markdown; `columns` as in the marker."""
    rows = pd.read_csv(BytesIO(new[path.with_suffix(".csv")]))
    wanted = (rows["guide"] == guide) & (rows["sampler"] == sampler)
    cells = table_formats.markdown_cells(new[path].decode())
    headings = columns.split(" | ")
    unknown = [heading for heading in headings if heading not in cells]
    if unknown:
        raise DataError(f"{README}: {path} has no column {unknown[0]!r}")
    if not wanted.any():
        raise DataError(f"{README}: {path} has no rows of {guide} under {sampler}")
    return table_formats.markdown_rows(cells.loc[wanted, headings])


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
