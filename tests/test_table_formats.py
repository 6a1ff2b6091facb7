"""A table as Markdown, LaTeX and HTML: the same cells, and a page that needs no other file."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from ppap.config import reading as presets
from ppap.guides.tasks.classification import Classification
from ppap.report import table_formats, tables
from ppap.report.titles import METHODS
from ppap.workflow.table_rows import about
from tests.conftest import DIGITS, ROOT


class Cells(HTMLParser):
    """The text of a page's table, row by row; the rest of its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text, self._inside = "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data) -> None:
        if self._inside:
            self.rows[-1][-1] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def readable() -> pd.DataFrame:
    frame = pd.read_csv(ROOT / "published" / "digits" / "tables" / "main.csv")
    return tables.for_people(frame, Classification.scores, METHODS)


def test_html_has_the_cells_title_and_note_of_the_markdown_and_needs_no_other_file(readable: pd.DataFrame) -> None:
    note = tables.note(about(presets.load(DIGITS), "main"), Classification.scores, True)
    markdown = table_formats.markdown(readable, "A title", note)
    lines = [line.strip("|").split("|") for line in markdown.splitlines() if line[:1] == "|"]
    wanted = [[cell.strip() for cell in line] for line in (lines[0], *lines[2:])]
    html = table_formats.html(readable, "A title", note)
    assert not re.search(r"<script|<link|@import|\b(src|href)=|url\(", html)
    page = Cells(html)
    assert page.rows == wanted and len(wanted) == 29
    assert "A title" in page.text and note.replace("`", "") in page.text


def test_the_note_says_which_values_can_be_compared_with_print() -> None:
    notes = {name: tables.note(about(presets.load(ROOT / "config" / f"{name}.yaml"), "main"), (), True)
             for name in ("digits", "cifar10", "imagenet256")}  # fmt: skip
    other = {name: "another data set and another feature extractor" in n for name, n in notes.items()}
    assert other == {"digits": True, "cifar10": True, "imagenet256": False}
    assert all("on ImageNet 256x256" in text for text in notes.values())


def test_html_escapes_what_names_may_hold() -> None:
    frame = pd.DataFrame({"Guide": ["<b>&"], "Sampler": ["x"], "Guidance": ["y"]})
    page = table_formats.html(frame, "a < b", "c > `d`")
    assert "<b>" not in page and "c &gt; <code>d</code>" in page
    assert Cells(page).rows[1][0] == "<b>&"


def test_latex_escapes_what_it_must(readable: pd.DataFrame) -> None:
    text = table_formats.latex(readable, "A title", "main")
    assert r"\label{tab:main}" in text and r"$\pm$" in text
    assert not re.search(r"(?<!\\)[%_]|[±↓↑]", text.replace("tab:main", ""))
