"""Checkpoints: each job has one of its own, and takes up no other, killed or not, damaged or not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppap.config import reading as presets
from ppap.utils.checkpoint import Checkpoint
from ppap.workflow.layout import Layout
from ppap.workflow.step import checkpoint_of
from ppap.workflow.steps import all_jobs
from tests.conftest import ROOT, SMOKE, ppap

PRESETS = sorted({*(ROOT / "config").glob("*.yaml"), SMOKE} - {ROOT / "config" / "config.yaml"})


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_no_two_jobs_share_a_checkpoint_or_its_fingerprint(path: Path, tmp_path: Path) -> None:
    preset = presets.load(path)
    layout = Layout(preset, tmp_path / "results", tmp_path / "scratch")
    found = [job.checkpoint(layout) for job in all_jobs(layout)]
    assert len({c.path for c in found}) == len({c.fingerprint for c in found}) == len(found) > 10
    assert all(c.path.is_relative_to(layout.scratch / preset.name) for c in found)


def test_another_input_file_or_another_value_makes_a_checkpoint_stale(tmp_path: Path) -> None:
    layout = Layout(presets.load(SMOKE), tmp_path / "results", tmp_path / "scratch")
    output, guide = layout.model("vit"), layout.model("resnet")
    guide.parent.mkdir(parents=True)
    guide.write_bytes(b"one")

    def checkpoint(*keys: str) -> Checkpoint:
        return checkpoint_of(layout, output, keys, [guide])

    checkpoint("seed").save({"step": 3})
    assert checkpoint("seed").load()["step"] == 3
    assert checkpoint("seed", "clean_images.count").load() is None
    guide.write_bytes(b"other")
    assert checkpoint("seed").load() is None


@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_checkpoint_is_as_none(data: st.DataObject, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.ckpt"
    checkpoint = Checkpoint(path, "mine")
    checkpoint.save({"x": torch.arange(50.0), "step": 7})
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                whole[:place],
                whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
                whole[:place] + whole[place + 1 :],
                whole + b"more",
            ]
        )
    )
    path.write_bytes(damaged)
    assert checkpoint.load() is None
    path.write_bytes(whole)
    assert checkpoint.load()["step"] == 7


STAGES = [
    [["pretrain", "diffusion"], ["pretrain", "resnet"]],
    [["generate", "--shard", "0"], ["generate", "--shard", "1"]],
    [["label", "resnet"]],
    [["warm-start", "resnet", what] for what in ("teacher_adapter", "labels_all")],
    [["train-expert", "resnet", method, "1"] for method in ("ppap_5", "multi_experts_5")]
    + [["train-expert", "resnet", "ppap_5", "2"]],
    [["sample", "ddpm250", "resnet", "ppap_5", "--shard", shard] for shard in ("0", "1")],
]


def bytes_of(results: Path) -> dict[str, bytes]:
    return {str(p.relative_to(results)): p.read_bytes() for p in results.rglob("*.*")}


def test_jobs_side_by_side_killed_again_and_again_end_with_the_bytes_of_undisturbed_ones(
    preset_file, tmp_path: Path
) -> None:
    """Networks, clean images, shared starts, experts and samples."""
    preset = preset_file(
        **{f"{network}__train__checkpoint_every": 5 for network in ("diffusion", "guides__resnet")},
        diffusion__train__steps=40, diffusion__train__batch_size=16,
        guides__resnet__experts__steps=80, guides__resnet__experts__checkpoint_every=4,
        samplers__ddim25__steps=25, samplers__ddpm250__steps=20, sampling__shard_size=20,
        sampling__batch_size=10, sampling__checkpoint_every=2,
    )  # fmt: skip

    def calls(name: str) -> list[list[list[str]]]:
        roots = ["--results", str(tmp_path / name), "--scratch", str(tmp_path / f"{name}-scratch")]
        return [[[*roots, step, str(preset), *rest] for step, *rest in stage] for stage in STAGES]

    for stage in calls("undisturbed"):
        for call in stage:
            ppap(*call)
    done = subprocess.run(
        [sys.executable, "-m", "tests.killing", str(tmp_path / "killed-scratch"), "0"],
        input=json.dumps(calls("killed")), capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    kills = json.loads(done.stdout)
    assert sum(kills) >= 12 and sum(count > 0 for count in kills) == 5, kills
    assert "resumed from" in done.stderr
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "undisturbed")
    assert not list((tmp_path / "killed-scratch").rglob("[!.]*.ckpt"))
