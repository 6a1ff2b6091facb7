"""The lowest versions that pyproject.toml allows, as requirements: `python tests/lowest.py [EXCEPT ...]`.

Of what the project itself names, with the extras that tests need; pip finds what goes with them.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
EXTRAS = ("diffusers", "transformers", "test")


def lowest() -> dict[str, str]:
    """The lowest version of each direct dependency; ValueError if one has none."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]
    versions = {}
    for requirement in map(Requirement, named):
        bounds = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(f"{requirement}: state its lowest version, as in NAME>=1.2")
        if versions.setdefault(requirement.name, bounds[0]) != bounds[0]:
            raise ValueError(f"{requirement}: two lowest versions")
    return versions


if __name__ == "__main__":
    for name, version in lowest().items():
        if name not in sys.argv[1:]:
            print(f"{name}=={version}")
