"""The preset `sd3`, a flow on latents, from end to end: its own graph and rows, by tiny networks of the same classes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from transformers import AutoConfig

import ppap
from ppap.config import reading as presets
from ppap.experts.expert import read_expert
from ppap.utils.seeds import balanced_prompts
from ppap.workflow.check import problems
from ppap.workflow.layout import Layout
from ppap.workflow.plan import flops
from ppap.workflow.plan.costs import Costs
from ppap.workflow.steps import all_jobs
from ppap.workflow.steps.generate import Generate
from tests.conftest import ROOT
from tests.recorder import Read, run_jobs
from tests.test_embedding_models import saved
from tests.test_inception import script
from tests.test_libraries import DEPTH_ANYTHING, DPT, MULTIPLE, SQUARE, shaken
from tests.tiny_pipelines import tiny

MEANS = """
import torch

class Means:
    says_classes = False

    def __call__(self, images):
        seen = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
        return seen, seen[:, :3]
"""
NAME = "stable-diffusion-3-medium-diffusers"


def saved_depth(folder: Path, kind: str, seen: dict[str, Any], **settings: Any) -> None:
    network = transformers.AutoModelForDepthEstimation.from_config(AutoConfig.for_model(kind, **settings))
    shaken(network)
    network.save_pretrained(folder)
    transformers.DPTImageProcessor(**seen).save_pretrained(folder)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The preset's rehearsal, whose networks are tiny, and not downloaded yet."""
    folder, rehearsal = tmp_path_factory.mktemp("sd3"), script()
    plain = rehearsal.rehearsed(yaml.safe_load((ROOT / "config" / "sd3.yaml").read_text()), ROOT / "config")
    plain["runtime"] |= {"device": "cpu", "precision": "float32"}
    plain["dataset"]["image_size"] = 16
    plain["diffusion"]["latents"] = {"channels": 4, "factor": 2}
    plain["clean_images"] |= {"count": 6, "batch_size": 2, "shard_size": 4}
    plain["sampling"] |= {"samples": 4, "batch_size": 2, "shard_size": 4}
    plain["evaluator"] = {"kind": "user:means.Means", "reference": {"folder": "pictures"}, "neighbours": 1}
    networks = {**plain["guides"], **plain["judges"]}
    for spec in networks.values():
        for key in ("options", "input_size", "mean", "std"):  # those of the folders
            spec.pop(key, None)
    plain["guides"]["clip"]["task_options"] = {"dimensions": 12}
    plain["judges"]["embedding_judge"]["task_options"] = {"dimensions": 16}
    for guide in plain["guides"].values():
        guide["adapter"]["rank"] = 2
    (folder / "means.py").write_text(MEANS)
    (folder / "preset.yaml").write_text(yaml.safe_dump(plain))
    pipeline = tiny("StableDiffusion3Pipeline")
    pipeline.register_modules(text_encoder_3=None, tokenizer_3=None)  # as of those who do without T5
    pipeline.save_pretrained(folder / NAME)
    saved("CLIPModel CLIP", folder / "clip-vit-base-patch32")
    saved("Dinov2Model Bit", folder / "dinov2-base")
    saved_depth(
        folder / "depth-anything-small-hf", "depth_anything", MULTIPLE,
        **DEPTH_ANYTHING | {"depth_estimation_type": "relative"},
    )  # fmt: skip
    saved_depth(folder / "dpt-large", "dpt", SQUARE, **DPT)
    preset = presets.load(folder / "preset.yaml")
    rehearsal.pictures(folder / "pictures", preset)
    return Layout(preset, folder / "results", folder / "scratch", folder / "downloads")


@pytest.fixture(scope="module")
def done(layout: Layout) -> tuple[Layout, list[Read]]:
    """A run of every job, and what each read."""
    return layout, run_jobs(layout, all_jobs(layout))


def test_nothing_is_wrong_with_it(done) -> None:
    assert problems(done[0], files=True) == []


def test_every_job_declares_the_keys_and_files_that_it_reads(done) -> None:
    layout, reads = done
    for job, keys, paths in reads:
        if job.rule() != "download":  # which asks what there is to download at all
            assert keys <= set(job.keys(layout.preset)), job
            assert paths <= {path.absolute() for path in job.inputs(layout)}, job
    assert {job.rule() for job, *_ in reads} >= {"estimate", "warm_start", "train_expert", "metrics", "table", "figure"}


def test_clean_latents_are_the_flows_by_each_images_prompt(done) -> None:
    layout, _ = done
    drawn = np.concatenate([np.load(layout.clean(shard)) for shard in (0, 1)])
    seeds = [(layout.preset.clean_images.seed, place) for place in range(6)]
    lines = [line for line in (ROOT / "config" / "prompts.txt").read_text().splitlines() if line.strip()]
    prompts = [lines[number] for number in balanced_prompts(seeds, len(lines))]
    folder = layout.preset.folder / NAME
    model = ppap.load_pipeline(folder, image_size=16).prompted(prompts, guidance_scale=7.0)
    ours = ppap.sample(model, 6, sampler="euler", steps=2, seeds=seeds, decode=False, batch_size=6)
    np.testing.assert_allclose(drawn, ours, atol=2e-3, rtol=2e-3)


def test_experts_say_their_latents_and_what_they_see(done) -> None:
    layout, _ = done
    for method, sees in (("ppap_5", "x_t"), ("estimate_5", "x0_hat")):
        headers = [read_expert(path).header for path in layout.experts("clip", method)]
        assert len(headers) == 5 and {header.sees for header in headers} == {sees}
        assert {(each.latent_scale, each.latent_shift) for each in headers} == {("1.5305", "0.0609")}
        assert headers[-1].log_snr_min < -15 < 15 > headers[0].log_snr_max  # type: ignore[operator]


@pytest.mark.parametrize(
    ("guide", "scores"), [("clip", {"cosine", "nearest"}), ("depth_anything", {"abs_rel", "spearman"})]
)
def test_every_row_is_judged_by_another_network(done, guide: str, scores: set[str]) -> None:
    layout, _ = done
    measured = json.loads(layout.metrics("euler28", guide).read_text())
    assert set(measured["methods"]) == {"mpgd", "ppap_5", "estimate_5"}
    for values in measured["methods"].values():
        assert scores <= values.keys() and all(math.isfinite(spread["mean"]) for spread in values.values())
    unguided = json.loads(layout.metrics("euler28", "unguided").read_text())
    assert scores <= unguided["shared"][guide]["none"].keys()


def test_the_plan_counts_the_pipelines_network_twice_a_step(done) -> None:
    costs = Costs(done[0])
    with torch.device("cpu"):
        network = ppap.load_pipeline(done[0].preset.folder / NAME, image_size=16).prompted("a red cup").network
    call = flops.forward(lambda x: network.to("meta")(x, torch.zeros(len(x), device="meta")), (1, 4, 8, 8))
    assert call > 0 and costs.of(Generate(0)) == (4 * 2 * call, 4 * 2 * 4 * 8 * 8)
