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
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pandas as pd

from ppap.evaluation.measured import Run
from ppap.report import compare, table_formats
from ppap.utils import files
from ppap.utils.errors import DataError

PUBLISHED = Path("published")
README = Path("README.md")


def publish(made: Sequence[Path], root: Path, runs: Mapping[Run, Path], tables: Mapping[Path, str]) -> list[Path]:
    """Copy results below `root` to published/NAME, and renew README's tables; return the files that this changed.

    `runs` are to be in the files of metrics given; `tables` are what the metrics give, by tables' files. DataError,
    and nothing changed, if results are missing or differ from that.
    """
    target = PUBLISHED / root.name
    _check(made, root, runs, tables)
    new = {target / path.relative_to(root): path.read_bytes() for path in made}
    if README.exists():
        new[README] = _with_tables(README.read_text(encoding="utf-8"), target, new).encode()
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


def _with_tables(text: str, target: Path, new: dict[Path, bytes]) -> str:
    """Put the preset's tables into README, each without its title, between the markers that name them."""

    def block(marker: re.Match[str]) -> str:
        path = Path(marker["path"])
        if path not in new:
            raise DataError(f"{README}: {path} is shown, but is none of the preset's tables")
        _, _, body = new[path].decode().partition("\n\n")
        if marker["columns"]:
            body = _excerpt(path, new, marker["guide"], marker["sampler"], marker["columns"])
        return f"{marker['begin']}\n\n{body.strip()}\n\n{marker['end']}"

    folder = re.escape(f"{target.as_posix()}/")
    wanted = r"(?: (?P<guide>\S+) (?P<sampler>\S+) (?P<columns>[^\n]+?))?"
    marked = re.compile(
        rf"(?P<begin><!-- (?P<path>{folder}[^\s:]+){wanted}: begin -->)"
        r".*?(?P<end><!-- (?P=path): end -->)",
        re.DOTALL,
    )
    return marked.sub(block, text)


def _excerpt(path: Path, new: dict[Path, bytes], guide: str, sampler: str, columns: str) -> str:
    """Show the rows of a published table with this guide and sampler, in Markdown; `columns` as in the marker."""
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
