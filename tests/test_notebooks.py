"""The notebooks: executed on small presets, and kept as they were executed in full."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

from notebooks.execute import executed
from tests.conftest import ROOT, SMOKE, SMOKE_TASKS, ppap

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]
LARGEST = 400_000  # bytes


def run(folder: Path, preset: Path, models: list[str], guides: list[str]) -> None:
    """The jobs of a preset that notebooks read."""
    for name in (*models, *guides):
        ppap("pretrain", preset, name, cwd=folder)
    for shard in (0, 1):
        ppap("generate", preset, "--shard", shard, cwd=folder)
    for guide in guides:
        ppap("label", preset, guide, cwd=folder)
        ppap("warm-start", preset, guide, "teacher", "adapter", cwd=folder)
        for expert in (1, 2):
            ppap("train-expert", preset, guide, "ppap_5", expert, cwd=folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run(folder, SMOKE, ["diffusion", "evaluator"], ["resnet"])
    run(
        folder,
        SMOKE_TASKS,
        ["diffusion", "evaluator", "depth_judge", "label_judge"],
        ["class", "depth", "segmentation"],
    )
    return folder / "results"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_runs_on_a_small_preset(
    path: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.stem[0] != "4":  # which reads what is published
        monkeypatch.setenv("PPAP_PRESET", str(SMOKE_TASKS if path.stem[0] == "3" else SMOKE))
        monkeypatch.setenv("PPAP_RESULTS", str(results))
    monkeypatch.setenv("PPAP_STEPS", "40")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    few = tmp_path / path.name
    fewer_images = re.sub(r"\b([12]00|64)\b", "20", path.read_text("utf-8"))  # than a reader draws
    few.write_text(fewer_images, "utf-8")
    cells = [cell for cell in executed(few).cells if cell.cell_type == "code"]
    assert any("image/png" in each.get("data", {}) for cell in cells for each in cell.outputs)


def test_without_a_run_a_notebook_says_which_file_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPAP_RESULTS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(Exception, match=r"digits/models/diffusion\.safetensors: no such file"):
        executed(NOTEBOOKS[0])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_is_kept_as_it_was_executed(path: Path) -> None:
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_links_of_a_notebook_lead_to_files(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        for target in re.findall(r"\]\(([^)]+)\)", cell.source if cell.cell_type == "markdown" else ""):
            assert (path.parent / target).exists(), target
