"""Settings of the documentation site: `make docs` builds it from the repository's own Markdown pages.

The root of the repository is Sphinx's source folder, so that a link leads to the same file here and where
the pages are read as files.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for docs/site_extensions
sys.path.insert(0, str(HERE.parent))  # for the package

import ppap  # noqa: E402

project = "PPAP"
author = "The PPAP maintainers"
release = version = ppap.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "sphinxcontrib.mermaid",
    "site_extensions.docstrings",
    "site_extensions.links",
    "site_extensions.mathml",
    "site_extensions.sources",
    "site_extensions.tables",
]
root_doc = "docs/index"
include_patterns = ["*.md", "config/README.md", "docs/**.md", "published/*/tables/*.md", "published/*/study/*.md"]
exclude_patterns = [".*", "build", "downloads", "results", "scratch", "*.egg-info"]

# -- Markdown --------------------------------------------------------------------------------------
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 6  # GitHub's
myst_fence_as_directive = ["mermaid"]
highlight_language = "text"

# -- the API ---------------------------------------------------------------------------------------
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {
    name: name for name in ("Array", "NoiseSource", "Objective", "ScheduleName", "Seeds", "Shape", "VarianceName")
}
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# -- HTML ------------------------------------------------------------------------------------------
html_theme = "furo"
html_title = f"PPAP {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_additional_pages = {"index": "front.html"}
templates_path = ["templates"]
html_math_renderer = "mathml"
