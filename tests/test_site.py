"""The documentation site: its own extensions, and that `docs/index.md` has every page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("sphinx", reason="`make install` brings what builds the documentation")
pytest.importorskip("latex2mathml")
sys.path.insert(0, str(ROOT / "docs"))

from site_extensions import links, mathml


def test_every_page_stands_in_the_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    entries = [
        line
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.M | re.S)
        for line in block.splitlines()
        if line and not line.startswith(":")
    ]
    named = {re.sub(r"^.*<(.+)>$", r"\1", entry) for entry in entries}
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert named == {*pages, "/README", "/CONTRIBUTING", "/CHANGELOG", "/config/README"}


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    good = ["other.html", "other.html#there", "sub/../other.html?a=b#there", "#here", "#", "a%20picture.png"]
    good += ["https://example.org/nowhere", "mailto:somebody"]
    bad = ["missing.html", "other.html#missing", "#missing", "missing.png"]
    shown = "".join(f'<a href="{link}">a</a>' for link in [*good, *bad])
    (tmp_path / "page.html").write_text(f'<p id="here">{shown}')
    (tmp_path / "other.html").write_text('<h1 id="there"></h1><img src="a picture.png">')
    (tmp_path / "a picture.png").touch()
    (tmp_path / "sub").mkdir()
    assert links.broken(tmp_path) == [f"page.html: {link}" for link in bad]


def test_equations_become_mathml_and_unknown_ones_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    equation = mathml.converted(r"\sqrt{\bar\alpha_t}", "inline")
    assert equation.startswith("<math") and "<msqrt>" in equation and "<msub>" in equation
    warned: list[object] = []
    monkeypatch.setattr(mathml.logger, "warning", lambda *args, **_: warned.append(args[1]))
    unknown = [r"\unknown x", "x_"]
    assert [mathml.converted(latex, "block") for latex in unknown] == ["", ""]
    assert warned == unknown
