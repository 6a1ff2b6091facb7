"""Words as targets of a preset: CLIP is guided to them, and its judge reads them too, or gives no score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.nn.functional import cosine_similarity

import ppap
from ppap.config import reading as presets
from ppap.data.images import to_tensor
from ppap.utils.errors import ConfigError
from ppap.utils.tensor_spec import TARGET
from ppap.workflow import networks, targets
from ppap.workflow.check import problems
from ppap.workflow.keys import fingerprint
from ppap.workflow.layout import Layout
from ppap.workflow.steps import all_jobs
from tests.conftest import SMOKE_TASKS
from tests.recorder import run_jobs
from tests.test_embedding_models import reading, saved

TEXTS = ["a red car", "a blue car"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guide and a judge that read words, and a network that reads none."""
    folder = tmp_path_factory.mktemp("words")
    for name in ("guide", "judge"):
        saved("CLIPModel CLIP", folder / name)
        reading(folder / name)
    saved("Dinov2Model Bit", folder / "wordless")
    (folder / "words.txt").write_text("a red car\n\n a blue car\n")
    return folder


@pytest.fixture
def preset_of(folder: Path) -> Callable[..., Path]:
    return lambda name="preset.yaml", **changes: write(folder / name, **changes)


def write(path: Path, words: Any = "words.txt", judge: str = "judge", **changes: Any) -> Path:
    """A preset of little work, without experts."""
    plain = yaml.safe_load(SMOKE_TASKS.read_text())
    plain["preset"] = path.stem
    plain["diffusion"]["train"]["steps"] = plain["evaluator"]["train"]["steps"] = 2
    vector = {"task": "embedding", "task_options": {"dimensions": 12}, "model": "transformers:./guide"}
    guide = {"adapter": {"rank": 2}, "experts": {"steps": 2, "batch_size": 2}, "targets": {"words": words}} | changes
    dimensions = {"dimensions": 12 if judge == "judge" else 16}
    plain["guides"] = {"clip": vector | guide}
    plain["judges"] = {"other": vector | {"model": f"transformers:./{judge}", "task_options": dimensions}}
    plain["methods"] = {"none": {"guidance": "none"}, "naive": {"guidance": "off_the_shelf"}}
    plain["clean_images"] |= {"count": 2, "batch_size": 2, "shard_size": 2}
    plain["sampling"] |= {"samples": 4, "seeds": [1], "shard_size": 4, "batch_size": 4}
    plain["evaluator"]["neighbours"] = 1
    plain["samplers"] = {"ddim2": {"kind": "ddim", "steps": 2, "scale": 1.0}}
    plain["clean_images"]["sampler"] = plain["figures"]["sampler"] = "ddim2"
    plain["tables"] = {"main": [{"guides": ["clip"], "samplers": ["ddim2"], "methods": ["none", "naive"]}]}
    path.write_text(yaml.safe_dump(plain))
    return path


def layout_of(path: Path, where: Path) -> Layout:
    return Layout(presets.load(path), *(where / name for name in ("results", "scratch", "downloads")))


@pytest.fixture(scope="module", params=["judge", "wordless"])
def layout(folder: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A run of every job, each of which read what it declares."""
    path = write(folder / f"{request.param}.yaml", judge=request.param)
    layout = layout_of(path, tmp_path_factory.mktemp("run"))
    for job, keys, paths in run_jobs(layout, all_jobs(layout)):
        if job.rule() != "download":  # which asks what there is to download at all
            assert keys <= set(job.keys(layout.preset)), job
            assert paths <= {path.absolute() for path in job.inputs(layout)}, job
    return layout


def test_targets_are_the_guides_own_vectors_of_the_texts(layout: Layout, folder: Path) -> None:
    guide = ppap.load_guide(f"transformers:{folder / 'guide'}", "embedding", folder=folder)
    wanted = torch.cat([guide.text(text) for text in TEXTS])
    torch.testing.assert_close(targets.read(layout, "clip")[TARGET], wanted)
    assert targets.words(layout, "clip") == TEXTS and targets.choices(layout, "clip") == [0, 1]


def test_samples_are_held_against_what_the_judge_reads_if_it_reads(layout: Layout) -> None:
    measured = json.loads(layout.metrics("ddim2", "clip").read_text())["methods"]["naive"]
    unguided = json.loads(layout.metrics("ddim2", "unguided").read_text())
    judge = networks.load_guide(layout, "other")
    if judge.reader is None:
        assert "fid" in measured and not {"cosine", "nearest"} & measured.keys() and "shared" not in unguided
        return
    archive = np.load(layout.archives("ddim2", "clip") / "naive.npz")
    images, numbers = torch.from_numpy(archive["arr_0"]), archive["arr_1"]
    wanted = judge.reader([TEXTS[number] for number in numbers])
    with torch.no_grad():
        seen = judge.look(to_tensor(images))
    assert measured["cosine"]["mean"] == pytest.approx(float(cosine_similarity(seen, wanted).mean()), abs=1e-5)
    assert {"cosine", "nearest"} <= unguided["shared"]["clip"]["none"].keys()


def test_another_line_in_the_file_makes_the_targets_stale(preset_of, folder: Path) -> None:
    preset = presets.load(preset_of())
    before = fingerprint(preset, ["guides.clip.targets.words"])
    text = (folder / "words.txt").read_text()
    try:
        (folder / "words.txt").write_text(text + "a car\n")
        assert fingerprint(preset, ["guides.clip.targets.words"]) != before
    finally:
        (folder / "words.txt").write_text(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"words": ["a red car"], "model": "transformers:./wordless", "task_options": {"dimensions": 16}},
         "guides.clip.targets.words: its model has no text tower"),
        ({"words": "none.txt"}, "none.txt: no such file"),
        ({"words": []}, "guides.clip.targets: words: give one at least"),
        ({"words": [""]}, "guides.clip.targets.words"),
        ({"targets": {"words": ["a car"], "folder": "."}}, "guides.clip.targets: give one of folder and words"),
        ({"words": ["a car"], "task": "depth", "task_options": {}},
         "guides.clip.targets.words: are targets of an embedding, not of depth"),
    ],
)  # fmt: skip
def test_words_that_are_no_targets_are_refused_in_one_line(
    preset_of, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = preset_of("wrong.yaml", **changes)
    try:
        lines = [str(problem) for problem in problems(layout_of(path, tmp_path))]
    except ConfigError as error:
        lines = str(error).splitlines()
    assert len([line for line in lines if said in line]) == 1, lines
