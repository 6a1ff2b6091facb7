"""Equations as MathML, by latex2mathml.

Browsers show MathML themselves: no script, no font and no network where the page is read, no LaTeX or node
where it is built. (The converter within docutils sets subscripts below hats and bars.) What the converter
does not know is a warning, and so an error of `make docs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata
    from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def converted(latex: str, display: str, location: nodes.Node | None = None) -> str:
    """An equation as MathML; a warning, and nothing, if it is no LaTeX that is known."""
    try:
        found = convert(latex, display=display)
        problem = "has an unknown command" if "\\" in found else ""
    except Exception as error:  # of many classes, which have no base of their own
        found, problem = "", type(error).__name__
    if not problem:
        return str(found)
    logger.warning("equation %r: %s", latex, problem, location=location, type="mathml")
    return ""


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(converted(node.astext(), "inline", node))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="equation">{converted(node.astext(), "block", node)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True}
