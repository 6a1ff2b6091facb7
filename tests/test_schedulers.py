"""Pipelines drawn by our samplers: what their schedulers say, against diffusers' own loops with an exact network."""

import itertools
import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DConditionModel, UNet2DModel, VQModel
from torch import Tensor

import ppap
from ppap.diffusion.guidance import NoGuidance
from ppap.diffusion.networks.diffusers_scheduler import process_of
from ppap.diffusion.samplers import SAMPLERS, State, respaced

TINY = {
    "sample_size": 4, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 2,
    "block_out_channels": (8, 8), "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2,
}  # fmt: skip
MEANS, DEVIATION = (-0.7, 0.9), 0.3


class Exact(UNet2DModel):
    """A U-Net by its name alone: what a perfect network predicts of a mixture of two normal distributions."""

    def told(self, scheduler: DDPMScheduler, learns: bool = False) -> "Exact":
        self.abar, self.predicts = scheduler.alphas_cumprod.double(), scheduler.config.prediction_type
        self.learns = learns
        return self

    def forward(self, x: Tensor, t: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        abar, seen = self.abar[int(t.flatten()[0])], x.double()
        variance = abar * DEVIATION**2 + 1 - abar
        away = torch.stack([seen - abar.sqrt() * mean for mean in MEANS])
        shares = (-0.5 * away.square() / variance).softmax(0)
        x0 = sum(
            s * (m + abar.sqrt() * DEVIATION**2 / variance * a) for s, m, a in zip(shares, MEANS, away, strict=True)
        )
        eps = (seen - abar.sqrt() * x0) / (1 - abar).sqrt()
        v = abar.sqrt() * eps - (1 - abar).sqrt() * x0
        out = {"epsilon": eps, "sample": x0, "v_prediction": v}[self.predicts].float()
        return (torch.cat([out, x.tanh()], 1) if self.learns else out,)


NETWORKS = [Exact(**TINY), Exact(**TINY | {"out_channels": 2})]


def ours(scheduler: object, kind: str, steps: int, eta: float, learns: bool = False) -> Tensor:
    process = process_of(scheduler.config, type(scheduler).__name__, "scheduler")
    model = ppap.DiffusionModel(NETWORKS[learns].told(scheduler, learns), (1, 4, 4), *process)
    sampler, generator = SAMPLERS.get(kind), torch.Generator().manual_seed(1)
    denoiser = model.on(respaced(model.schedule, sampler, steps))
    with torch.no_grad():
        *_, last = sampler(
            denoiser, NoGuidance(), State(len(denoiser.schedule), start()),
            lambda step: torch.randn((6, 1, 4, 4), generator=generator), eta,
        )  # fmt: skip
    return last.x


def theirs(scheduler: object, steps: int, learns: bool = False, **how: object) -> Tensor:
    unet = NETWORKS[learns].told(scheduler, learns)
    scheduler.set_timesteps(steps)
    x, generator = start(), torch.Generator().manual_seed(1)
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t)[0], t, x, generator=generator, **how).prev_sample
    return x


def start() -> Tensor:
    return torch.randn((6, 1, 4, 4), generator=torch.Generator().manual_seed(0))


T = 24
BETAS = [
    {"beta_schedule": "linear", "beta_end": 0.5}, {"beta_schedule": "linear", "beta_end": 0.6, "rescale_betas_zero_snr": True},
    {"beta_schedule": "scaled_linear", "beta_end": 0.6}, {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True},
    {"trained_betas": [0.01 + i * 0.02 for i in range(T)]}, {"trained_betas": [1 / (T + 1 - i) for i in range(T)]},
]  # fmt: skip
CLIPS = [
    {"clip_sample": False}, {}, {"clip_sample_range": 0.8}, {"clip_sample_range": 3.0},
    {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5},
]  # fmt: skip
SPACINGS = [{}, {"steps_offset": 1}, {"timestep_spacing": "linspace"}, {"timestep_spacing": "trailing"}]


def can_be_drawn(scheduler: object, steps: int) -> bool:
    """Neither does a timestep lie beyond the last, nor is eps asked of pure noise."""
    scheduler.set_timesteps(steps)
    last = int(scheduler.timesteps[0])
    return last < T and bool(scheduler.config.prediction_type != "epsilon" or scheduler.alphas_cumprod[last] > 0)


@pytest.mark.fast
@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_ddim_draws_what_the_ddim_of_diffusers_draws_whatever_the_scheduler_says(predicts: str) -> None:
    every = list(
        itertools.product(BETAS, CLIPS, SPACINGS, [{}, {"set_alpha_to_one": False}], [5, 6, T], [0.0, 0.7, 1.0])
    )
    for betas, clip, spacing, last, steps, eta in random.Random(predicts).sample(every, 70):
        said = {"num_train_timesteps": T, "prediction_type": predicts, **betas, **clip, **spacing, **last}
        scheduler = DDIMScheduler(**said)
        if not can_be_drawn(scheduler, steps):
            with pytest.raises(ppap.PPAPError, match=r"zero terminal SNR|offset=1"):
                ours(scheduler, "ddim", steps, eta)
            continue
        drawn = ours(scheduler, "ddim", steps, eta)
        expected = theirs(scheduler, steps, eta=eta, use_clipped_model_output=True)
        assert drawn.isfinite().all(), said
        if expected.isfinite().all():  # theirs may take the root of -1e-8
            torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4, msg=f"{said} {steps} {eta}")


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_small_log", "fixed_large", "learned_range"])
def test_ddpm_draws_what_the_ddpm_of_diffusers_draws_whatever_the_scheduler_says(kind: str) -> None:
    learns = kind == "learned_range"
    betas = [*BETAS, {"beta_schedule": "sigmoid", "beta_end": 0.5}, {"beta_schedule": "laplace"}]
    every = list(itertools.product(betas, CLIPS, SPACINGS, ["epsilon", "sample", "v_prediction"], [5, 6, T]))
    for beta, clip, spacing, predicts, steps in random.Random(kind).sample(every, 60):
        said = {"num_train_timesteps": T, "prediction_type": predicts, **beta, **clip, **spacing, "variance_type": kind}
        scheduler = DDPMScheduler(**said)
        if not can_be_drawn(scheduler, steps):
            continue
        expected = theirs(scheduler, steps, learns)
        if "small" not in kind and scheduler.timesteps[-1] > 0:
            continue  # theirs adds noise to the finished sample
        drawn = ours(DDPMScheduler(**said), "ddpm", steps, 1.0, learns)
        torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4, msg=f"{said} {steps}")


PUBLISHED = json.loads((Path(__file__).parent / "golden" / "pipelines.json").read_text())
DRAWN = {0, 1, 2, 3, 4, 5, 6, 7, 9}
"""The published pipelines of pixels with a scheduler of given betas; of 5 to 9 the network is not known."""


def shrunken(unet: dict) -> dict:
    """The same blocks, of few channels."""
    levels = len(unet["block_out_channels"])
    small = {"block_out_channels": [8] * levels, "attention_head_dim": 8, "norm_num_groups": 4, "layers_per_block": 1}
    return unet | small | {"sample_size": 2**levels}


def published(folder: Path, entry: dict) -> Path:
    """A folder as a pipeline is published, of a small network."""
    unet = entry["denoiser"] or {**TINY, "_class_name": "UNet2DModel"}
    small = shrunken(unet) if unet.get("_class_name") == "UNet2DModel" else unet
    parts = {"unet": ("config.json", small), "scheduler": ("scheduler_config.json", entry["scheduler"])}
    if entry["latent"]:
        parts["vae"] = ("config.json", entry["vae"] or {"_class_name": "AutoencoderKL"})
    for part, (name, config) in parts.items():
        (folder / part).mkdir()
        (folder / part / name).write_text(json.dumps(config))
    if entry in (PUBLISHED[i] for i in DRAWN):
        UNet2DModel.from_config({k: v for k, v in small.items() if k != "_class_name"}).save_pretrained(folder / "unet")
    return folder


@pytest.mark.parametrize("number", range(len(PUBLISHED)))
def test_published_pipelines_are_drawn_as_diffusers_does_or_refused_in_a_line(tmp_path: Path, number: int) -> None:
    entry = PUBLISHED[number]
    scheduler, folder = entry["scheduler"], published(tmp_path, entry)
    if number not in DRAWN:
        kinds = [(part or {}).get("_class_name") for part in (scheduler, entry["denoiser"], entry["vae"])]
        with pytest.raises(ppap.PPAPError) as refused:
            ppap.load_pipeline(folder)
        assert "\n" not in str(refused.value)
        assert any(word and word in str(refused.value) for word in ["latents", *kinds]), refused.value
        return
    torch.manual_seed(0)
    model = ppap.load_pipeline(folder)
    *_, last = ppap.sampling_steps(model, 2, steps=4)
    theirs = DDIMScheduler.from_config(scheduler)
    theirs.set_timesteps(4)
    x, unet = next(ppap.sampling_steps(model, 2, steps=4)).x_t, UNet2DModel.from_pretrained(folder / "unet")
    with torch.no_grad():
        for t in theirs.timesteps:
            x = theirs.step(unet(x, t).sample, t, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(last.x, x, rtol=1e-4, atol=1e-4)


def pipeline_of(unet: dict | None = None, **scheduler: object) -> DDPMPipeline:
    return DDPMPipeline(UNet2DModel(**TINY | (unet or {})), DDPMScheduler(**scheduler))


@pytest.mark.parametrize(
    ("unet", "scheduler", "message"),
    [
        ({}, {"variance_type": "learned"}, "variance_type: 'learned'"),
        ({"out_channels": 2}, {}, "out_channels: 2 for in_channels: 1, whose variance_type is fixed_small"),
        ({}, {"variance_type": "learned_range"}, "out_channels: 1 for in_channels: 1, whose variance_type is learned"),
        ({"num_class_embeds": 3}, {}, "num_class_embeds: 3: the U-Net asks for a class"),
        ({"sample_size": None}, {}, "sample_size: None"),
        ({}, {"prediction_type": "flow"}, "prediction_type: 'flow'"),
        ({}, {"trained_betas": [0.1] * 5}, "num_train_timesteps: 1000, but 5 trained_betas"),
        ({}, {"trained_betas": [0.1, 1.0, 0.1], "num_train_timesteps": 3}, "no signal before the last timestep"),
    ],
)
def test_what_samplers_here_cannot_honour_is_refused_by_its_key(unet: dict, scheduler: dict, message: str) -> None:
    with pytest.raises(ppap.PPAPError, match=message):
        ppap.load_pipeline(pipeline_of(unet, **scheduler))


def test_a_key_that_the_schedulers_class_does_not_know_is_refused() -> None:
    with pytest.raises(ppap.PPAPError, match="rescale_betas_zero_snr: True, which PNDMScheduler does not know"):
        process_of({"rescale_betas_zero_snr": True}, "PNDMScheduler", "scheduler")


def test_what_is_no_pipeline_of_pixels_is_refused(tmp_path: Path) -> None:
    usual = vars(pipeline_of())
    parts = {name: usual[name] for name in ("unet", "scheduler")}
    ppap.load_pipeline(SimpleNamespace(**parts, vae=None))
    for changes, message in (
        ({"vqvae": VQModel(block_out_channels=(8,), norm_num_groups=4)}, "vqvae: its U-Net draws latents"),
        ({"unet": UNet2DConditionModel(**CONDITIONAL)}, "UNet2DConditionModel: asks for a prompt"),
        ({"unet": torch.nn.Identity()}, "unet: Identity; only UNet2DModel"),
        ({"unet": None}, "one with `unet` and `scheduler`, its folder .* was expected"),
        ({"scheduler": object()}, "_class_name: object"),
    ):
        with pytest.raises(ppap.PPAPError, match=message):
            ppap.load_pipeline(SimpleNamespace(**parts | changes))


def test_a_stored_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    pipeline_of().save_pretrained(tmp_path)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("[]")
    with pytest.raises(ppap.PPAPError, match=r"scheduler_config\.json"):
        ppap.load_pipeline(tmp_path)


def test_the_class_that_the_index_names_comes_before_the_stored_one(tmp_path: Path) -> None:
    pipeline_of().save_pretrained(tmp_path)
    path = tmp_path / "scheduler" / "scheduler_config.json"
    odd = json.loads(path.read_text()) | {"_class_name": ["Own", "DDPMScheduler"], "lambda_min_clipped": -float("inf")}
    path.write_text(json.dumps(odd))
    ppap.load_pipeline(tmp_path)
    (tmp_path / "model_index.json").unlink()
    with pytest.raises(ppap.PPAPError, match="_class_name: "):
        ppap.load_pipeline(tmp_path)


@pytest.mark.parametrize("size", [(8, 12), [4, 4]])
def test_sizes_of_two_sides_are_drawn(size: tuple[int, int]) -> None:
    model = ppap.load_pipeline(pipeline_of({"sample_size": size}))
    guide = ppap.wrap_guide(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)), outputs=2, image_size=4)
    assert ppap.sample(model, 2, [ppap.Goal(guide, 1, 1.0)], steps=2).shape == (2, *size, 1)


def test_a_unet_of_half_precision_and_one_by_itself_draw() -> None:
    pipeline, schedule = pipeline_of(), ppap.Schedule.create("linear", 1000)
    whole = ppap.sample(ppap.load_pipeline(pipeline), 2, steps=4)
    bare = ppap.DiffusionModel(pipeline.unet, (1, 4, 4), schedule)
    assert (ppap.sample(bare, 2, steps=4) == whole).all()
    half = ppap.sample(ppap.load_pipeline(pipeline.to(torch.float16)), 2, steps=4)
    assert abs(half.astype(int) - whole).max() <= 3
    with pytest.raises(ppap.PPAPError, match="UNet2DConditionModel: asks for a prompt"):
        ppap.DiffusionModel(UNet2DConditionModel(**CONDITIONAL), (1, 4, 4), schedule)
    with pytest.raises(ppap.PPAPError, match="gives a tuple; a tensor"):
        ppap.sample(ppap.DiffusionModel(Answering(), (1, 4, 4), schedule), 1, steps=4)


CONDITIONAL = TINY | {"cross_attention_dim": 4, "attention_head_dim": 4, "mid_block_type": "UNetMidBlock2D"}


class Answering(torch.nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> tuple[Tensor]:
        return (x,)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("predicts", ["sample", "v_prediction"])
def test_guidance_draws_from_pure_noise_without_a_number_that_is_none(sampler: str, predicts: str) -> None:
    scheduler = DDPMScheduler(
        rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type=predicts, variance_type="fixed_large"
    )
    process = process_of(scheduler.config, "DDPMScheduler", "scheduler")
    model = ppap.DiffusionModel(NETWORKS[0].told(scheduler), (1, 4, 4), *process)
    assert model.schedule.log_snr[-1] == -float("inf") and not model.schedule.alphas_cumprod[-1]
    guide = ppap.wrap_guide(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)), outputs=2, image_size=4)
    steps = list(ppap.sampling_steps(model, 2, [ppap.Goal(guide, 1, 5.0)], sampler=sampler, steps=10, eta=1.0))
    assert steps[0].timestep == 999 and all(step.x.isfinite().all() for step in steps)
