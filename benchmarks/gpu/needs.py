"""The benchmark's needs of the machine, looked for without importing any of them."""

from __future__ import annotations

import importlib.util
import sys

PYTHON = (3, 11)

IMAGE = {"torch": "torch", "torchvision": "torchvision", "timm": "timm"}
"""Modules that the image of a GPU machine is expected to have, and the wheels they are in."""

BESIDE = {
    "numpy": "numpy",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface-hub",
    "tqdm": "tqdm",
    "pydantic": "pydantic",
    "pooch": "pooch",
}
"""All else that is imported. Torchvision and timm bring what stands before pydantic, unless installed without."""


def missing() -> list[str]:
    """The wheels that are not there."""
    wanted = IMAGE | BESIDE
    return [wanted[name] for name in wanted if importlib.util.find_spec(name) is None]


def old_python() -> str | None:
    """Say what is wrong with the Python, if anything is."""
    if sys.version_info >= PYTHON:
        return None
    return f"Python {sys.version.split()[0]} is too old: {'.'.join(map(str, PYTHON))} or later"


def advice(wheels: list[str]) -> str:
    """One line about the wheels that are missing."""
    if not wheels:
        return "missing wheels: none"
    names = " ".join(wheels)
    return (
        f"missing wheels: {names} (where there is network: pip download --dest wheels {names}; "
        f"here: pip install --no-index --find-links wheels {names})"
    )
