"""The check of a built site: every link inside it leads to a file, and to an element, that is there."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """What a page links to, and what it can be linked by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def broken(site: Path) -> list[str]:
    """Links of a site's pages that lead nowhere, as `page: link`. Those to other machines are not tried."""
    read.cache_clear()
    pages = sorted(site.rglob("*.html"))
    return [
        f"{page.relative_to(site)}: {link}"
        for page in pages
        for link in dict.fromkeys(read(page).links)
        if not leads_somewhere(page, link)
    ]


def leads_somewhere(page: Path, link: str) -> bool:
    scheme, host, path, _, anchor = urlsplit(link)
    if scheme or host:
        return True
    target = (page.parent / unquote(path)).resolve() if path else page
    if not target.is_file():
        return False
    wanted = unquote(anchor)
    return wanted in ("", "top") or target.suffix != ".html" or wanted in read(target).anchors


def check(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for link in broken(Path(app.outdir)):
            logger.warning("broken link in %s", link, type="links")


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("build-finished", check)
    return {"parallel_read_safe": True}
