"""The documentation site: its own extensions, and that `docs/index.md` has every page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ppap.training.settings import Training
from tests.conftest import ROOT

pytest.importorskip("sphinx", reason="`make install` brings what builds the documentation")
pytest.importorskip("latex2mathml")
sys.path.insert(0, str(ROOT / "docs"))

from site_extensions import docstrings, links, mathml, sources


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


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("as `x_t` is", "as ``x_t`` is"),
        ("(B, *shape), |x|, name_", r"(B, \*shape), \|x\|, name\_"),
        ("- linear: `a*b` and a*b", r"- linear: ``a*b`` and a\*b"),
    ],
)
def test_docstrings_are_text_but_for_code(line: str, wanted: str) -> None:
    assert docstrings.restructured(line) == wanted


def test_fields_of_a_section_are_listed_with_their_descriptions() -> None:
    described = {n: f.description for n, f in Training.model_fields.items() if f.description}
    assert described
    assert docstrings.fields_of(Training) == ["", *(f"- `{name}`: {text}" for name, text in described.items()), ""]
    assert docstrings.fields_of(Path) == []


def test_text_and_folders_are_shown_and_pictures_are_not(tmp_path: Path) -> None:
    (tmp_path / "text.yaml").write_text("a: 1\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    assert sources.is_shown(tmp_path) and sources.is_shown(tmp_path / "text.yaml")
    assert not sources.is_shown(tmp_path / "picture.png")
    assert not sources.is_shown(tmp_path / "missing")


def test_code_has_a_place_for_each_line(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("a = '<b>'\nc = 1\n")
    shown = sources.code(tmp_path / "two.py")
    assert '"line-1"' in shown and '"line-2"' in shown and "line-3" not in shown
    assert "&lt;b&gt;" in shown and "<b>" not in shown
