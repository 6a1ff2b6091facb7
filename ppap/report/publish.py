"""Published results: a preset's tables, figures and metrics, kept in git where no run overwrites them.

They lie in published/PRESET as they do in results/PRESET. README.md and docs/study.md show some of the tables, each
between two markers that name its file. The first may ask for the rows with some values in the table's .csv, and for some
columns by their headings:

    <!-- published/PRESET/tables/NAME.md: begin -->
    <!-- published/PRESET/tables/NAME.md: end -->

    <!-- published/PRESET/tables/NAME.md guide=NAME sampler=NAME COLUMN | COLUMN: begin -->
    <!-- published/PRESET/tables/NAME.md: end -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pandas as pd

from ppap.evaluation.measured import Run
from ppap.report import compare, table_formats
from ppap.utils import files
from ppap.utils.errors import DataError

PUBLISHED = Path("published")
PAGES = (Path("README.md"), Path("docs/study.md"))


def publish(made: Sequence[Path], root: Path, runs: Mapping[Run, Path], tables: Mapping[Path, str]) -> list[Path]:
    """Copy results below `root` to published/NAME, and renew the pages' tables; return the files that this changed.

    `runs` are to be in the files of metrics given; `tables` are what the metrics give, by tables' files. DataError,
    and nothing changed, if results are missing or differ from that.
    """
    target = PUBLISHED / root.name
    _check(made, root, runs, tables)
    new = {target / path.relative_to(root): path.read_bytes() for path in made}
    for page in filter(Path.exists, PAGES):
        new[page] = _with_tables(page, target, new).encode()
    changed = [path for path, data in new.items() if not (path.is_file() and path.read_bytes() == data)]
    gone = [path for path in sorted(target.rglob("*")) if path.is_file() and path not in new]
    files.write_all({path: files.bytes_writer(new[path]) for path in changed})
    for path in gone:
        path.unlink()
    return [*changed, *gone]


def _check(made: Sequence[Path], root: Path, runs: Mapping[Run, Path], tables: Mapping[Path, str]) -> None:
    missing = [path for path in made if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}{more}: not computed yet; nothing was published")
    computed = compare.read(root).rows
    for run, path in runs.items():
        if run not in computed:
            raise DataError(f"{path}: nothing about {run.method}; nothing was published")
    for path, text in tables.items():
        if path.read_text(encoding="utf-8") != text:
            raise DataError(f"{path}: older than the metrics; make the tables anew, then publish")


def _with_tables(page: Path, target: Path, new: dict[Path, bytes]) -> str:
    """Put the preset's tables into a page's text, each without its title, between the markers that name them."""

    def block(marker: re.Match[str]) -> str:
        path = Path(marker["path"])
        if path not in new:
            raise DataError(f"{page}: {path} is shown, but is none of the preset's tables")
        _, _, body = new[path].decode().partition("\n\n")
        if marker["columns"]:
            wanted = dict(value.split("=") for value in marker["values"].split())
            body = _excerpt(page, path, new, wanted, marker["columns"].split(" | "))
        return f"{marker['begin']}\n\n{body.strip()}\n\n{marker['end']}"

    folder = re.escape(f"{target.as_posix()}/")
    wanted = r"(?P<values>(?: \w+=\w+)*)(?: (?P<columns>[^\n]+?))?"
    marked = re.compile(
        rf"(?P<begin><!-- (?P<path>{folder}[^\s:]+){wanted}: begin -->)"
        r".*?(?P<end><!-- (?P=path): end -->)",
        re.DOTALL,
    )
    return marked.sub(block, page.read_text(encoding="utf-8"))


def _excerpt(page: Path, path: Path, new: dict[Path, bytes], wanted: Mapping[str, str], headings: Sequence[str]) -> str:
    """Show the rows of a published table with these values, in Markdown, and these of its columns."""
    rows = pd.read_csv(BytesIO(new[path.with_suffix(".csv")]), dtype=str)
    cells = table_formats.markdown_cells(new[path].decode())
    unknown = [name for name in wanted if name not in rows] + [name for name in headings if name not in cells]
    if unknown:
        raise DataError(f"{page}: {path} has no column {unknown[0]!r}")
    chosen = (rows[list(wanted)] == pd.Series(wanted)).all(axis=1)
    if not chosen.any():
        said = ", ".join(f"{name} {value}" for name, value in wanted.items())
        raise DataError(f"{page}: {path} has no rows of {said}")
    return table_formats.markdown_rows(cells.loc[chosen, list(headings)])
