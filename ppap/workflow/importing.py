"""The import of experts that the paper's authors released, in the place of a preset's own."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from ppap.experts.released import Source, import_experts
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError
from ppap.workflow import networks
from ppap.workflow.experts import purpose_of
from ppap.workflow.layout import Layout

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
    preset, targets = layout.preset, layout.experts(guide, method)
    if not preset.guidance(method).experts:
        raise ConfigError(f"methods.{method}: has no experts")
    wanted = preset.ranges(method)
    if len(released) != len(wanted):
        raise ConfigError(f"{len(released)} files for the {len(wanted)} experts of {method}")
    if ranges and len(ranges) != len(released):
        raise ConfigError(f"--range: {len(ranges)} for {len(released)} files")
    sources = list(map(Source, released, map(_timesteps, ranges) if ranges else wanted))
    for path in targets:
        if path.exists() and not overwrite and "released_sha256" not in files.read_metadata(path):
            raise DataError(f"{path}: a trained expert; --overwrite replaces it")
    network = networks.load_guide(layout, guide).cpu()
    purpose = purpose_of(preset, guide, method, layout.model(guide))
    experts = import_experts(network, purpose, sources, wanted, networks.full_schedule(layout), sees)
    writers = (files.tensors_writer(expert.changed or {}, expert.header.metadata()) for expert in experts)
    files.write_all(dict(zip(targets, writers, strict=True)))
    if not preset.methods[method].imported:
        log.warning("methods.%s: without `imported: true` the workflow trains experts in their place", method)
    return targets


def _timesteps(text: str) -> range:
    match = re.fullmatch("([0-9]{1,9})-([0-9]{1,9})", text)
    timesteps = range(*map(int, match.groups())) if match else range(0)
    if not timesteps:
        raise ConfigError(f"--range {text}: write FIRST-END, as in 0-200 (END is not included)")
    return timesteps
