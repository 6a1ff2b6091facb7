"""Files of the repository as pages of the site: what the Markdown pages link to, and the code of the API.

A link to a file that is text leads to a page that shows it; to a folder, to a page that lists its files.
Other files (pictures) are copied, as Sphinx does.
"""

from __future__ import annotations

import html
import importlib
import inspect
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

FOLDER = "files"
_LARGEST = 200_000  # bytes of a file that is shown


def page_of(path: str) -> str:
    """The page that shows a file or folder, by its path in the repository."""
    return f"{FOLDER}/{path}"


def is_shown(path: Path) -> bool:
    """Whether a file is text that a page can show, or a folder."""
    if path.is_dir():
        return True
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return False
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return path.suffix != ".html"


class ShowFiles(SphinxTransform):
    """Have links to the repository's files and folders lead to the pages that show them."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        links = [*self.document.findall(addnodes.download_reference), *self.document.findall(addnodes.pending_xref)]
        for link in links:
            if link.get("reftype") == "myst" and not link.get("refdomain"):
                self.lead(link)

    def lead(self, link: nodes.Element) -> None:
        name, _, anchor = link["reftarget"].partition("#")
        path, absolute = self.env.relfn2path(name, self.env.docname)
        if not name or anchor or not is_shown(Path(absolute)):
            return
        path = posixpath.normpath(path)
        uri = self.app.builder.get_relative_uri(self.env.docname, page_of(path))
        pages_of(self.env).add(path)
        link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


def pages_of(env: Any) -> set[str]:
    """Paths that have a page."""
    if not hasattr(env, "shown_files"):
        env.shown_files = set()
    return env.shown_files


def code_of(app: Sphinx, info: dict[str, str]) -> str | None:
    """Where the code of an object of the API is shown, for sphinx.ext.linkcode."""
    found: Any = importlib.import_module(info["module"])
    try:
        for name in info["fullname"].split("."):
            found = getattr(found, name)
        found = inspect.unwrap(getattr(found, "fget", found))  # what `checked` wraps
        file, (_, line) = inspect.getsourcefile(found), inspect.getsourcelines(found)
    except (AttributeError, TypeError, OSError):
        return None  # a value, which has no code of its own
    if file is None or not Path(file).is_relative_to(app.srcdir):
        return None
    path = Path(file).relative_to(app.srcdir).as_posix()
    pages_of(app.env).add(path)
    return f"{app.builder.get_relative_uri(app.env.docname, page_of(path))}#line-{line}"


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The pages of all files and folders that were linked to, and of the files in these folders."""
    root = Path(app.srcdir)
    wanted = pages_of(app.env)
    for folder in [path for path in wanted if (root / path).is_dir()]:
        wanted |= {f"{folder}/{file.name}" for file in files_of(root / folder) if is_shown(file)}
    for path in sorted(wanted):
        shown = listing(app, path) if (root / path).is_dir() else code(root / path)
        body = f"<h1><code>{html.escape(path)}</code></h1>\n{shown}"
        yield page_of(path), {"title": path, "body": body}, "page.html"


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")


def listing(app: Sphinx, folder: str) -> str:
    """A folder's files, those that are shown as links."""
    items = []
    for file in files_of(Path(app.srcdir) / folder):
        name = html.escape(file.name)
        if is_shown(file):
            uri = app.builder.get_relative_uri(page_of(folder), page_of(f"{folder}/{file.name}"))
            name = f'<a href="{uri}">{name}</a>'
        items.append(f"<li>{name}</li>")
    return f"<ul>{''.join(items)}</ul>"


def code(path: Path) -> str:
    """A file, highlighted; line 7 has the anchor line-7."""
    text = path.read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    formatter = HtmlFormatter(linenos="inline", lineanchors="line", wrapcode=True)
    return f'<div class="highlight-file notranslate">{highlight(text, lexer, formatter)}</div>'


def setup(app: Sphinx) -> ExtensionMetadata:
    app.setup_extension("sphinx.ext.linkcode")
    app.config.linkcode_resolve = lambda domain, info: code_of(app, info)
    app.add_transform(ShowFiles)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": False}
