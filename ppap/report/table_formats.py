"""A table of text cells as Markdown, LaTeX and a web page of its own."""

from __future__ import annotations

import re
from html import escape

import pandas as pd

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ margin: 1em; color: #222; background: #fff; font: 13px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.3em; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.2em 0.4em; text-align: right; white-space: nowrap; }}
th {{ position: sticky; top: 0; background: #fff; border-bottom: 2px solid #444; white-space: normal; }}
th.text, td.text {{ text-align: left; }}
.print {{ color: #767676; }}
tr.first td {{ border-top: 1px solid #bbb; }}
tbody tr:hover {{ background: #f3f6fa; }}
p {{ max-width: 60em; color: #444; }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
<thead>
{head}
</thead>
<tbody>
{body}
</tbody>
</table>
<p>{note}</p>
</body>
</html>
"""


def texts(frame: pd.DataFrame, readable: pd.DataFrame, title: str, note: str, name: str) -> dict[str, str]:
    """Write a table in all formats, by the suffixes of their files; `readable` has its cells as text."""
    return {
        "csv": frame.to_csv(index=False, float_format="%.6g"),
        "md": markdown(readable, title, note),
        "tex": latex(readable, title, name),
        "html": html(readable, title, note),
    }


def markdown(readable: pd.DataFrame, title: str, note: str) -> str:
    return f"# {title}\n\n{markdown_rows(readable)}\n\n{note}\n"


def markdown_rows(readable: pd.DataFrame) -> str:
    return readable.to_markdown(index=False, disable_numparse=True, stralign="left")


def markdown_cells(text: str) -> pd.DataFrame:
    """Read the cells of the table in a text that `markdown` made."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    return pd.DataFrame(rows, columns=header)


def latex(readable: pd.DataFrame, title: str, name: str) -> str:
    """Write the table in LaTeX, for booktabs."""
    symbols = {"±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "%": r"\%", "_": r"\_"}

    def escaped(text: str) -> str:
        for symbol, command in symbols.items():
            text = text.replace(symbol, command)
        return text

    cells = readable.map(escaped).rename(columns=escaped)
    columns = "lll" + "r" * (len(cells.columns) - 3)
    return cells.to_latex(index=False, escape=False, column_format=columns, caption=title, label=f"tab:{name}")


def html(readable: pd.DataFrame, title: str, note: str) -> str:
    """Write a page that needs no other file. A line parts rows that differ in the first two columns."""
    names = list(readable.columns)
    classes = [_class(name, i < 3) for i, name in enumerate(names)]
    rows, before = [], None
    for cells in readable.itertuples(index=False):
        first = ' class="first"' if cells[:2] != before else ""
        rows.append(f"<tr{first}>{_cells('td', cells, classes)}</tr>")
        before = cells[:2]
    head = f"<tr>{_cells('th', names, classes)}</tr>"
    code = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(note, quote=False))
    return _PAGE.format(title=escape(title), head=head, body="\n".join(rows), note=code)


def _class(name: str, text: bool) -> str:
    kind = "text" if text else "print" if name.endswith("in print") else ""
    return f' class="{kind}"' if kind else ""


def _cells(tag: str, cells: list[str] | tuple[str, ...], classes: list[str]) -> str:
    return "".join(f"<{tag}{c}>{escape(v)}</{tag}>" for v, c in zip(cells, classes, strict=True))
