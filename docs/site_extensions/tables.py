"""Wide tables of results: what was measured comes first, so that it is seen without scrolling.

The published files keep their order of columns; the site moves what a row cost, and what the paper prints, to the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.transforms import SphinxTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

_WIDE = 12
_COSTS = ("Trained parameters", "Supervision", "Steps", "Held-out loss")


class MeasuredFirst(SphinxTransform):
    """Move the columns of costs and of printed values behind the measured ones."""

    default_priority = 500

    def apply(self) -> None:
        for table in self.document.findall(nodes.tgroup):
            heads = [entry.astext() for entry in next(iter(table.findall(nodes.row)))]
            if len(heads) < _WIDE or _COSTS[0] not in heads:
                continue
            last = [i for i, head in enumerate(heads) if head in _COSTS or head.endswith("in print")]
            order = [i for i in range(len(heads)) if i not in last] + last
            for row in table.findall(nodes.row):
                row.children = [row.children[i] for i in order]


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_transform(MeasuredFirst)
    return {"parallel_read_safe": True}
