"""The table in Markdown, written anew whenever a row has been measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.rows import Row

_COLUMNS = (
    "what", "options", "batch", "s a step", "images/s", "GB", "share of the matrix rate",
    "outside the networks", "plain PyTorch: images/s", "GB", "ours beside it",
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """One row: seconds of a step and bytes at the peak, or in words why there are none."""

    seconds: float = 0.0
    memory: int = 0
    failed: str = ""


@dataclass(frozen=True)
class Measured:
    """A row, ours and the plain loop's; `share` is of the matrix rate, `outside` of a step's time, None: not measured."""

    row: Row
    ours: Figures
    plain: Figures
    share: float
    outside: float | None

    def cells(self) -> list[str]:
        row, mine, theirs = self.row, self.ours, self.plain
        share = "" if mine.failed else f"{self.share:.1%}"
        outside = "" if self.outside is None else f"{self.outside:.1%}"
        ratio = "" if mine.failed or theirs.failed else f"{theirs.seconds / mine.seconds:.2f}"
        return [
            row.title, row.options, str(row.batch), mine.failed or f"{mine.seconds:.4f}",
            self._rate(mine), _gigabytes(mine), share, outside,
            theirs.failed or self._rate(theirs), _gigabytes(theirs), ratio,
        ]  # fmt: skip

    def _rate(self, figures: Figures) -> str:
        """Finished images a second."""
        if figures.failed:
            return ""
        return f"{self.row.batch / (figures.seconds * self.row.steps_an_image):.2f}"


class Table:
    """Rows below a `head` of sentences, and what was left out; in the file `out`, if there is one."""

    def __init__(self, head: str, out: Path | None) -> None:
        self.head, self.out, self.foot = head, out, ""
        self._lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
        print(head, *self._lines, sep="\n", flush=True)

    def add(self, measured: Measured) -> None:
        self._lines.append(_line(measured.cells()))
        print(self._lines[-1], flush=True)
        self._write()

    def end(self, foot: str) -> None:
        self.foot = foot
        print(foot, flush=True)
        self._write()

    def _write(self) -> None:
        if self.out is not None:
            parts = [self.head, "\n".join(self._lines), *filter(None, [self.foot])]
            self.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _gigabytes(figures: Figures) -> str:
    return "" if figures.failed else f"{figures.memory / 1e9:.1f}"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"
