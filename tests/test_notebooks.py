"""The notebooks: executed on small presets, and kept as they were executed in full."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from matplotlib import pyplot as plt

import ppap
from notebooks.execute import executed
from tests.conftest import ROOT, SMOKE, SMOKE_LATENTS, SMOKE_TASKS

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
READS = "4_read_results"
SMALL = [path for path in NOTEBOOKS if path.stem != READS]
LARGEST = 400_000  # bytes


def test_a_notebook_runs_in_a_kernel() -> None:
    """The notebook that reads published results runs to its end."""
    (path,) = (path for path in NOTEBOOKS if path.stem == READS)
    cells = [cell for cell in executed(path).cells if cell.cell_type == "code"]
    assert sum("image/png" in each.get("data", {}) for cell in cells for each in cell.outputs) == 2


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], None]]:
    """Run a notebook's code here, without the seconds that a kernel takes to start, and with few steps."""
    monkeypatch.chdir(ROOT / "notebooks")
    for name in ("sample", "sampling_steps"):
        monkeypatch.setattr(ppap, name, functools.partial(getattr(ppap, name), steps=5))
    monkeypatch.setenv("PPAP_STEPS", "40")

    def run(path: Path, preset: str, results: Path) -> None:
        monkeypatch.setenv("PPAP_PRESET", preset)
        monkeypatch.setenv("PPAP_RESULTS", str(results))
        cells = (cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        code = re.sub(r"\b([12]00|64)\b", "20", "\n".join(cells))  # fewer images than a reader draws
        exec(compile(code, path.name, "exec"), {})

    with plt.rc_context():
        yield run
    plt.close("all")


@pytest.mark.parametrize("path", SMALL, ids=[path.stem for path in SMALL])
def test_a_notebook_runs_on_a_small_preset(path: Path, run, request: pytest.FixtureRequest) -> None:
    small = {"3": (SMOKE_TASKS, "built_tasks"), "5": (SMOKE_LATENTS, "built_latents")}
    preset, built = small.get(path.stem[0], (SMOKE, "built"))
    run(path, str(preset), request.getfixturevalue(built) / "results")
    assert plt.get_fignums()


def test_without_a_run_a_notebook_says_which_file_is_missing(tmp_path: Path, run) -> None:
    with pytest.raises(Exception, match=r"digits/models/diffusion\.safetensors: no such file"):
        run(NOTEBOOKS[0], "digits", tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_it_was_executed_and_its_links_lead_to_files(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {each.output_type for cell in cells for each in cell.outputs}
    assert "error" not in kinds and "display_data" in kinds
    text = json.dumps(notebook)
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", text)
    assert "site-packages" not in text and "0x7f" not in text
    assert path.stat().st_size < LARGEST
    for cell in notebook.cells:
        for target in re.findall(r"\]\(([^)]+)\)", cell.source if cell.cell_type == "markdown" else ""):
            assert (path.parent / target).exists(), target
