"""Presets of pipelines with latents and prompts: every kind of job, in process, with a tiny Stable Diffusion in a folder."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL

import ppap
from ppap.config import reading as presets
from ppap.diffusion.networks.prompted import Prompted
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.seeds import balanced_prompts
from ppap.workflow import networks
from ppap.workflow.check import problems
from ppap.workflow.keys import fingerprint
from ppap.workflow.layout import Layout
from ppap.workflow.plan import flops
from ppap.workflow.plan.costs import Costs
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from ppap.workflow.steps.generate import Generate
from tests.conftest import SMOKE_LATENTS, changed
from tests.recorder import run_jobs, undeclared
from tests.tiny_pipelines import tiny

CAPTIONS = "a red cup\n\n two blue cats\nthree dogs\n"
TEXTS = ["a red cup", "two blue cats", "three dogs"]
EXPERTS = {"guidance": "experts", "supervision": "teacher", "experts": 1, "trainable": "adapter", "view": "linear"}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    for name in ("StableDiffusionPipeline", "LDMPipeline"):
        tiny(name).save_pretrained(folder / name)
    return folder


@pytest.fixture
def preset_of(tmp_path: Path, pipelines: Path) -> Callable[..., Path]:
    return lambda name="preset.yaml", **changes: write(tmp_path / name, pipelines, **changes)


def write(path: Path, pipelines: Path, kind: str = "StableDiffusionPipeline", **changes: Any) -> Path:
    """A preset of little work, with some keys changed."""
    plain = yaml.safe_load(SMOKE_LATENTS.read_text())
    plain["dataset"]["pictures"] = 60
    plain["diffusion"] = {"pipeline": str(pipelines / kind), "latents": {"channels": 4, "factor": 2}}
    guide = plain["guides"]["class"]
    for training in (guide["train"], guide["experts"], plain["evaluator"]["train"]):
        training |= {"steps": 2, "batch_size": 4}
    plain["guides"], plain["judges"] = {"class": guide}, {}
    plain["experts"] = {"warm_start": "none"}
    plain["samplers"] = {"ddim2": {"kind": "ddim", "steps": 2, "scale": 1.0}}
    stored = {"sees": "x0_hat", "estimates": "stored"}
    plain["methods"] = {
        "x_t": EXPERTS, "estimate": EXPERTS | {"sees": "x0_hat"}, "stored": EXPERTS | stored,
        "labels": EXPERTS | {"supervision": "labels"}, "none": {"guidance": "none"},
    }  # fmt: skip
    told = {"file": "captions.txt", "guidance_scale": 3.0}
    plain["clean_images"] = {"count": 6, "shard_size": 4, "batch_size": 2, "sampler": "ddim2", "estimates": 2}
    plain["sampling"] = {"samples": 8, "seeds": [1], "shard_size": 8, "batch_size": 4}
    plain["evaluator"]["neighbours"] = 3
    plain["clean_images"]["prompts"], plain["sampling"]["prompts"] = told, {"text": "a red cup", "negative": "dogs"}
    plain["tables"] = {"main": [{"guides": ["class"], "samplers": ["ddim2"], "methods": list(plain["methods"])}]}
    plain["figures"] = {"sampler": "ddim2"}
    (path.parent / "captions.txt").write_text(CAPTIONS)
    path.write_text(yaml.safe_dump(changed(plain, **changes)))
    return path


def layout_of(path: Path, folder: str = "first") -> Layout:
    place = path.parent / folder
    return Layout(presets.load(path), place / "results", place / "scratch", place / "downloads")


RULES = ("download", "generate", "estimate", "label", "train_expert", "sample")


def jobs_of(layout: Layout) -> list[Step]:
    """All but what judges: that has pictures of latents before it in other presets as well."""
    return [
        job for job in all_jobs(layout)
        if job.rule() in RULES or (job.rule() == "pretrain" and getattr(job, "model", "") == "class")
    ]  # fmt: skip


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, pipelines: Path) -> Layout:
    """A run of these jobs, each of which reads what it declares."""
    layout = layout_of(write(tmp_path_factory.mktemp("done") / "preset.yaml", pipelines))
    assert not undeclared(layout, run_jobs(layout, jobs_of(layout)))
    return layout


def test_clean_latents_are_the_pipelines_own_by_each_images_prompt(layout: Layout) -> None:
    drawn = np.concatenate([np.load(layout.clean(shard)) for shard in (0, 1)])
    assert drawn.shape == (6, 4, 8, 8) and drawn.dtype == np.float16
    seeds = [(layout.preset.clean_images.seed, place) for place in range(6)]
    numbers = balanced_prompts(seeds, 3)
    assert Counter(numbers) == {0: 2, 1: 2, 2: 2}
    model = ppap.load_pipeline(layout.preset.diffusion.pipeline, image_size=16)
    model = model.prompted([TEXTS[number] for number in numbers], guidance_scale=3.0)
    alone = ppap.sample(model, 6, steps=2, seeds=seeds, decode=False, batch_size=6)
    np.testing.assert_allclose(drawn, alone, atol=2e-3, rtol=2e-3)


def test_prompts_are_balanced_in_an_order_of_the_seed_and_not_of_the_count() -> None:
    first, second = (balanced_prompts([(seed, i) for i in range(70)], 7) for seed in (0, 1))
    assert set(Counter(first).values()) == {10} and first != second
    assert balanced_prompts([(0, i) for i in range(30, 40)], 7) == first[30:40]
    assert first[:7] != first[7:14]


def test_an_interrupted_shard_goes_on_and_other_shards_are_the_same_latents(layout: Layout, preset_of) -> None:
    whole = np.concatenate([np.load(layout.clean(shard)) for shard in (0, 1)])
    other = layout_of(preset_of(clean_images__shard_size=6, sampling__checkpoint_every=1))
    download, generate = (
        next(job for job in jobs_of(other) if job.rule() == rule) for rule in ("download", "generate")
    )
    download.run(other)
    load_model = networks.load_model

    def stopping(*arguments: Any) -> Any:
        model = load_model(*arguments)
        calls = []

        def stop(*_: Any) -> None:
            calls.append(1)
            if len(calls) == 4:
                raise RuntimeError("stopped")

        model.network.network.register_forward_pre_hook(stop)
        return model

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(networks, "load_model", stopping)
        with pytest.raises(RuntimeError, match="stopped"):
            generate.run(other)
    assert other.checkpoint(other.clean(0)).exists()
    generate.run(other)
    np.testing.assert_allclose(np.load(other.clean(0)), whole, atol=2e-3, rtol=2e-3)


def test_plan_counts_two_calls_a_step_for_classifier_free_guidance(layout: Layout) -> None:
    network, costs = networks.new_diffusion(layout), Costs(layout)
    alone = Prompted(network.network, network.family, network.outputs, network.texts)
    call = flops.forward(lambda x: alone(x, torch.zeros(len(x), device=x.device)), (1, 4, 8, 8))
    assert costs.of(Generate(0)) == (4 * 2 * 2 * call, 4 * 2 * 4 * 8 * 8)
    assert costs.decoder.forward > 0


def test_another_line_in_the_file_of_prompts_makes_its_readers_stale_and_no_other_job(preset_of) -> None:
    path = preset_of()
    layout = layout_of(path)

    def told() -> dict[str, str]:
        return {job.name(layout): fingerprint(layout.preset, job.keys(layout.preset)) for job in jobs_of(layout)}

    before = told()
    (path.parent / "captions.txt").write_text(CAPTIONS + "four birds\n")
    stale = {name for name, now in told().items() if before[name] != now}
    assert stale == {"clean/0000", "clean/0001", "clean/estimates/0000", "clean/estimates/0001",
                     "experts/class/estimate/expert_1"}  # fmt: skip


def test_a_pipeline_that_changes_after_its_download_is_refused(preset_of, pipelines: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pipelines / "StableDiffusionPipeline", tmp_path / "own")
    layout = layout_of(preset_of(diffusion__pipeline=str(folder)))
    next(job for job in jobs_of(layout) if job.rule() == "download").run(layout)
    networks.load_autoencoder(layout)
    AutoencoderKL.from_pretrained(folder / "vae").half().save_pretrained(folder / "vae")
    with pytest.raises(
        DataError, match=r"own/vae/.*: is gone or has changed; delete .*diffusion.safetensors, made of it"
    ):
        networks.load_autoencoder(layout)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n  \n", r"clean_images.prompts.file: .*captions.txt: holds no prompt; one a line was expected"),
        (b"caf\xe9\n", r"clean_images.prompts.file: .*captions.txt: truncated or not in the expected format .*utf-8"),
        (None, r"clean_images.prompts.file: .*captions.txt: no such file"),
    ],
)
def test_files_without_prompts_are_refused_in_one_line(preset_of, content: bytes | None, said: str) -> None:
    path = preset_of()
    file = path.parent / "captions.txt"
    file.unlink() if content is None else file.write_bytes(content)
    (problem,) = problems(layout_of(path))
    assert re.match(said, str(problem)) and "\n" not in str(problem)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clean_images__prompts": None, "sampling__prompts": None},
         ["clean_images.prompts: the diffusion model draws by prompts: give `file` or `text`",
          "sampling.prompts: the diffusion model draws by prompts: give `file` or `text`"]),
        ({"kind": "LDMPipeline"}, ["clean_images.prompts: the diffusion model draws without prompts",
                                   "sampling.prompts: the diffusion model draws without prompts"]),
        ({"diffusion__latents": {"channels": 4, "factor": 4}},
         ["diffusion.latents: those of the pipeline are {channels: 4, factor: 2}"]),
        ({"diffusion__predicts": "v"}, ["diffusion.predicts: v, but the pipeline's is eps"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_pipeline_is_named_before_anything_is_drawn(preset_of, changes, said: list[str]) -> None:
    assert [str(problem) for problem in problems(layout_of(preset_of(**changes)))] == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampling__prompts": None}, "sampling.prompts: needed, as the same diffusion model is told of prompts"),
        ({"clean_images__prompts": {"guidance_scale": 2}}, "clean_images.prompts: give one of file and text"),
        ({"methods__labels__sees": "x0_hat"}, "methods.labels.sees: real images have no prompts"),
        ({"diffusion__latents__factor": 3}, "diffusion.latents.factor: 3 does not divide dataset.image_size, 16"),
    ],
)
def test_sections_that_do_not_fit_one_another_are_refused(preset_of, changes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        presets.load(preset_of(**changes))


def test_a_latent_pipeline_without_prompts_is_drawn(preset_of) -> None:
    nothing = {"clean_images__prompts": None, "sampling__prompts": None}
    layout = layout_of(preset_of(kind="LDMPipeline", **nothing))
    for job in jobs_of(layout):
        if job.rule() in ("download", "generate"):
            job.run(layout)
    assert np.load(layout.clean(1)).shape == (2, 4, 8, 8)
    assert "unet/config.json" in json.loads(files.read_metadata(layout.model("diffusion"))["files"])
