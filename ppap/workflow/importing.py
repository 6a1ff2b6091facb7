"""The import of experts that the paper's authors released, in the place of a preset's own."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from ppap.config.preset import Preset
from ppap.experts.released import Source, import_experts
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError
from ppap.workflow import networks
from ppap.workflow.layout import Layout
from ppap.workflow.purposes import purpose_of

log = logging.getLogger(__name__)


def write_released(
    layout: Layout,
    guide: str,
    method: str,
    released: list[Path],
    ranges: list[str],
    sees: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the experts of a guide and method from released files, all or none; return the files written.

    `ranges` are the timesteps of each file ("0-200"); without them the files are the method's experts in order.
    ConfigError or DataError if they cannot be its experts (`import_experts`), or would replace trained ones unless
    `overwrite` says so.
    """
    preset = layout.preset
    sources = _sources(preset, method, released, ranges)
    targets = layout.experts(guide, method)
    for path in targets:
        if path.exists() and not overwrite and "released_sha256" not in files.read_metadata(path):
            raise DataError(f"{path}: a trained expert; --overwrite replaces it")
    network = networks.load_guide(layout, guide).cpu()
    purpose = purpose_of(preset, guide, method, layout.model(guide))
    wanted = preset.ranges(preset.methods[method])
    experts = import_experts(network, purpose, sources, wanted, sees)
    files.write_all(
        {
            target: files.tensors_writer(expert.changed or {}, expert.header.metadata())
            for target, expert in zip(targets, experts, strict=True)
        }
    )
    if not preset.methods[method].imported:
        log.warning("methods.%s: without `imported: true` the workflow trains experts in their place", method)
    return targets


def _sources(preset: Preset, method: str, paths: list[Path], ranges: list[str]) -> list[Source]:
    """Give each file its timesteps: those in `ranges`, or the method's; ConfigError if there are not as many."""
    if not preset.guidance(method).experts:
        raise ConfigError(f"methods.{method}: has no experts")
    wanted = preset.ranges(preset.methods[method])
    if len(paths) != len(wanted):
        raise ConfigError(f"{len(paths)} files for the {len(wanted)} experts of {method}")
    if ranges and len(ranges) != len(paths):
        raise ConfigError(f"--range: {len(ranges)} for {len(paths)} files")
    timesteps = [_timesteps(text) for text in ranges] or wanted
    return [Source(*pair) for pair in zip(paths, timesteps, strict=True)]


def _timesteps(text: str) -> range:
    match = re.fullmatch("([0-9]{1,9})-([0-9]{1,9})", text)
    timesteps = range(*map(int, match.groups())) if match else range(0)
    if not timesteps:
        raise ConfigError(f"--range {text}: write FIRST-END, as in 0-200 (END is not included)")
    return timesteps
