"""A cascade under the workflow: every step of a small GLIDE, guided by a classifier and a depth estimator."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ppap.config import reading as presets
from ppap.config.runs import Run
from ppap.utils.checkpoint import Checkpoint
from ppap.workflow.layout import Layout
from ppap.workflow.steps import all_jobs
from ppap.workflow.steps.upsample_samples import UpsampleSamples
from tests.conftest import SMOKE_TASKS, ppap
from tests.glide import glide_section
from tests.recorder import run_jobs, undeclared

NETWORKS = """
import torch
from torch import nn

def classifier(channels, classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))

class Depth(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.head = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        return self.head(self.conv1(x).relu())[:, 0]

def depth(channels):
    torch.manual_seed(1)
    return Depth(channels)

class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 4)

    def forward(self, images):
        features = nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)
        return features, self.head(features)
"""
SMALL, LARGE = 8, 16


def written(folder: Path, **upsampling: object) -> Path:
    """The preset's file, with all that it names beside it."""
    (folder / "tiny_networks.py").write_text(NETWORKS)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(5):
        image = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(image).resize((40, 30)).save(pictures / f"{i}.png")
    plain = yaml.safe_load(SMOKE_TASKS.read_text())
    adapter = {"rank": 1, "alpha": 1, "layers": ["0"], "freeze": ["4.*"]}
    experts = {"steps": 4, "batch_size": 2}
    plain |= {
        "preset": "cascade",
        "modules": [],
        "dataset": {"kind": "none", "image_size": SMALL, "channels": 3, "classes": 4},
        "diffusion": glide_section(
            folder, upsampling={"image_size": LARGE, "steps": 4, "batch_size": 2} | upsampling
        ),
        "guides": {
            "class": {"model": "user:tiny_networks.classifier", "input_size": 12,
                      "adapter": adapter, "experts": experts},
            "depth": {"task": "depth", "model": "user:tiny_networks.depth", "input_size": 12,
                      "adapter": adapter | {"layers": ["conv1"], "freeze": ["head.*"]},
                      "experts": experts, "targets": {"folder": str(pictures)}},
        },
        "evaluator": {"kind": "user:tiny_networks.Judge", "reference": {"folder": str(pictures)}, "neighbours": 1},
        "judges": {"depth_judge": {"task": "depth", "model": "user:tiny_networks.depth", "input_size": 16}},
        "samplers": {"ddim25": {"kind": "ddim", "steps": 4, "scale": 1.0}},
        "methods": {name: plain["methods"][name] for name in ("none", "naive", "ppap_5")},
        "clean_images": {"count": 6, "sampler": "ddim25", "batch_size": 2, "shard_size": 3},
        "sampling": {"samples": 4, "seeds": [1], "batch_size": 2, "shard_size": 4, "checkpoint_every": 1},
        "tables": {"main": [{"guides": ["class", "depth"], "samplers": ["ddim25"], "methods": ["none", "naive", "ppap_5"]}]},
        "figures": {"sampler": "ddim25", "target_class": 1, "samples": 2, "timesteps": [500]},
    }  # fmt: skip
    path = folder / "cascade.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The preset with every job done, each of which reads what it declares."""
    folder = tmp_path_factory.mktemp("cascade")
    layout = Layout(presets.load(written(folder)), folder / "results", folder / "scratch", folder / "downloads")
    assert not undeclared(layout, run_jobs(layout, all_jobs(layout)))
    return layout


def test_teachers_and_judges_see_the_large_images(layout: Layout) -> None:
    run = Run("ddim25", "class", "ppap_5")
    assert np.load(layout.clean(0)).shape == (3, SMALL, SMALL, 3)
    assert np.load(layout.upsampled(layout.clean(0))).shape == (3, LARGE, LARGE, 3)
    assert np.load(layout.samples(run, 0)).shape == (4, SMALL, SMALL, 3)
    assert np.load(layout.archive(run))["arr_0"].shape == (4, LARGE, LARGE, 3)


def test_every_row_of_the_table_has_its_scores(layout: Layout) -> None:
    text = layout.table("main", "csv").read_text().splitlines()
    names = text[0].split(",")
    for line in text[1:]:
        row = dict(zip(names, line.split(","), strict=True))
        score = "target_rate" if row["guide"] == "class" else "spearman"
        assert row["fid"] and row[score]


class StoppedError(Exception):
    """The end of a job that was killed."""


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Have a job end right after it has saved its state so many times."""
    save, left = Checkpoint.save, [after]

    def saved(checkpoint: Checkpoint, state: dict) -> None:
        save(checkpoint, state)
        left[0] -= 1
        if not left[0]:
            raise StoppedError

    monkeypatch.setattr(Checkpoint, "save", saved)


def test_a_killed_second_stage_resumes_bit_for_bit(layout: Layout, monkeypatch) -> None:
    job = UpsampleSamples("ddim25", "class", "ppap_5", 0)
    path = job.outputs(layout)[0]
    before = path.read_bytes()
    path.unlink()
    with monkeypatch.context() as patched:
        stopping(patched, 4)
        with pytest.raises(StoppedError):
            job.run(layout)
    assert not path.exists()
    job.run(layout)
    assert path.read_bytes() == before
    assert not job.checkpoint(layout).path.exists()


def test_guides_pull_together_on_demand_towards_what_was_asked(layout: Layout, tmp_path: Path) -> None:
    folder, sheets = layout.root.parent.parent, []
    asked = ["--guide", "class", "--target", "2", "--scale", "1"]
    both = [*asked, "--guide", "depth", "--target", folder / "pictures" / "0.png", "--scale", "2"]
    prompted = [*asked, "--prompt", "a photo of a dog"]
    for number, options in enumerate((asked, both, prompted)):
        out = tmp_path / f"{number}.png"
        ppap("--results", layout.results, "guide", folder / "cascade.yaml", *options, "-n", 2, "--out", out)
        sheets.append(np.asarray(Image.open(out).convert("L")))
    one, two, _ = (sheet[-100:, :100] for sheet in sheets)  # below the targets, an image
    assert one.std() > 1 and (one != two).any()


def test_real_pictures_stand_in_for_no_samples_of_a_cascade(tmp_path: Path) -> None:
    plain = yaml.safe_load(written(tmp_path).read_text())
    plain["methods"]["real"] = {"guidance": "real"}
    plain["tables"]["main"][0]["methods"].append("real")
    with pytest.raises(presets.PresetError, match=r"methods\.real: a cascade has no real pictures"):
        presets.validate(plain, tmp_path / "cascade.yaml")
