"""A module run as if only some distributions, and what they require, were installed: MODULE DISTRIBUTION,... ARGUMENTS."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import sys
from typing import Any


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def with_required(name: str, known: set[str]) -> set[str]:
    """These, the distribution, and what it requires without extras, as far as it is installed."""
    if name in known:
        return known
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return known
    known.add(name)
    for line in lines:
        if "extra ==" not in line:
            known = with_required(plain(re.split(r"[^\w.-]", line)[0]), known)
    return known


class Bare:
    """A finder that does not find modules of other distributions; of this project it does."""

    def __init__(self, finder: Any, hidden: set[str]) -> None:
        self.finder, self.hidden = finder, hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)

    def find_spec(self, name: str, *rest: Any) -> Any:
        hidden = name.partition(".")[0] in self.hidden
        return None if hidden else self.finder.find_spec(name, *rest)


if __name__ == "__main__":
    module, distributions, *arguments = sys.argv[1:]
    allowed = {"ppap"}
    for each in distributions.split(","):
        allowed = with_required(each, allowed)
    owners = importlib.metadata.packages_distributions()
    others = {name for name, by in owners.items() if not allowed & set(map(plain, by))}
    sys.meta_path[:] = [Bare(finder, others) for finder in sys.meta_path]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")
