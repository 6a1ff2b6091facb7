"""Times that Snakemake has measured, in a benchmark file for each job."""

from __future__ import annotations

import csv
from pathlib import Path

from ppap.utils.errors import DataError


def seconds(path: Path) -> float | None:
    """Read the seconds in a job's benchmark file; None if it has not run, DataError if it is no such file."""
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8") as file:
            return [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")][-1]
    except (KeyError, ValueError, TypeError, IndexError):
        raise DataError(f"{path}: not a benchmark file of Snakemake") from None
