"""Pipelines with latents or prompts as diffusion models: what `sample` draws, against their own loops from the same noise."""

import functools
import inspect
import json
import re
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    FluxTransformer2DModel,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import ppap
from ppap.utils.seeds import StepNoise, initial_noise
from tests.tiny_pipelines import PIPELINES, PROMPTS, SIZE, Tiny, aura_flow, chroma, conditional_unet, tiny

STEPS, SEEDS = 4, [(0, 0), (0, 1)]
FLOWS = ("StableDiffusion3Pipeline", "FluxPipeline", "ChromaPipeline", "AuraFlowPipeline", "SanaPipeline")
TOLD = {"LDMPipeline": None, "DiTPipeline": [1, 2]}


SIZED = {"height": SIZE, "width": 2 * SIZE}
EVERY = {
    **PIPELINES,
    "ChromaPipeline": Tiny(lambda: chroma(use_dynamic_shifting=True), SIZED),
    "AuraFlowPipeline": Tiny(lambda: aura_flow(shift=1.73), SIZED),
}


def solved(name: str) -> Any:
    """A tiny pipeline, its own solver replaced by one that samplers here have, and no clipping, which theirs do apart."""
    pipeline = made(name)
    about = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    about |= {"clip_sample": False, "thresholding": False}
    if name == "SanaPipeline":
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    elif name not in FLOWS:
        pipeline.scheduler = DDIMScheduler.from_config(about)
        pipeline.scheduler.register_to_config(variance_type=None)
    return pipeline


def made(name: str) -> Any:
    torch.manual_seed(0)
    pipeline = EVERY[name].make()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def size_of(name: str) -> tuple[int, int] | None:
    call = EVERY[name].call
    return (call["height"], call["width"]) if "height" in call else None


def model_of(pipeline: Any, **options: Any) -> ppap.DiffusionModel:
    name = type(pipeline).__name__
    model = ppap.load_pipeline(pipeline, image_size=size_of(name))
    prompts = TOLD.get(name, PROMPTS)
    scale = EVERY[name].call.get("guidance_scale")
    return model if prompts is None else model.prompted(prompts, **{"guidance_scale": scale, **options})


def theirs(pipeline: Any, x: Tensor, monkeypatch: pytest.MonkeyPatch, **call: Any) -> tuple[Tensor, Tensor]:
    """Call the pipeline on this noise: return its images or latents, and pictures in [0, 1]."""
    about, reached = EVERY[type(pipeline).__name__], []
    monkeypatch.setattr(sys.modules[type(pipeline).__module__], "randn_tensor", lambda *_, **__: x)
    step = pipeline.scheduler.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        done = step(*args, **kwargs)
        reached[:] = [done[0] if isinstance(done, tuple) else done.prev_sample]
        return done

    monkeypatch.setattr(pipeline.scheduler, "step", watched)
    own = {
        k: v for k, v in about.call.items() if k in ("guidance_scale", "height", "width", "class_labels", "batch_size")
    }
    asked = {**own, "num_inference_steps": STEPS, "output_type": "pt", "use_resolution_binning": False, **call}
    if about.prompts:
        asked = {"prompt": PROMPTS, **asked}
    takes = inspect.signature(type(pipeline).__call__).parameters
    with torch.no_grad():
        images = pipeline(**{k: v for k, v in asked.items() if k in takes}).images
    pictures = torch.as_tensor(images)
    if pictures.shape[-1] == 3:
        pictures = pictures.permute(0, 3, 1, 2)
    if about.make.__name__ == "deepfloyd":
        pictures = (pictures / 2 + 0.5).clamp(0, 1)
    last = reached[0][: len(x)]
    if last.ndim == 3:
        last = pipeline._unpack_latents(last, *size_of(type(pipeline).__name__), pipeline.vae_scale_factor)
    return last, pictures


def check_same(model: ppap.DiffusionModel, sampler: str, expected: tuple[Tensor, Tensor]) -> None:
    *_, last = ppap.sampling_steps(model, 2, sampler=sampler, steps=STEPS)
    torch.testing.assert_close(last.x, expected[0], rtol=1e-4, atol=1e-4)
    pictures = ppap.sample(model, 2, sampler=sampler, steps=STEPS, batch_size=1)
    theirs = (255 * expected[1]).permute(0, 2, 3, 1).numpy()
    assert np.abs(pictures - theirs).max() <= 1 and theirs.std() > 5


@pytest.mark.parametrize("name", sorted(EVERY))
def test_sample_draws_what_the_pipeline_draws_each_image_by_its_prompt(name: str, monkeypatch) -> None:
    pipeline = solved(name)
    model = model_of(pipeline)
    expected = theirs(pipeline, initial_noise(SEEDS, model.shape), monkeypatch)
    assert name == "LDMPipeline" or (expected[0][0] - expected[0][1]).abs().max() > 0.1
    check_same(model, "euler" if name in FLOWS else "ddim", expected)


def test_a_distilled_network_is_told_the_scale_and_another_guided_by_a_second_prompt(monkeypatch) -> None:
    """FLUX.1's: [dev] embeds the guidance scale, [schnell] does not, and its call has another argument for it."""
    pipeline = tiny("FluxPipeline")
    model, stronger = model_of(pipeline), model_of(pipeline, guidance_scale=30.0)
    first, other = ([*ppap.sampling_steps(m, 2, sampler="euler", steps=STEPS)][-1].x for m in (model, stronger))
    assert (first - other).abs().max() > 1e-3
    with pytest.raises(ppap.PPAPError, match="told the prompt alone, as it is told the guidance scale"):
        model_of(pipeline, negative_prompt="a dog")
    plain = {k: v for k, v in pipeline.transformer.config.items() if not k.startswith("_")} | {"guidance_embeds": False}
    pipeline.transformer = FluxTransformer2DModel(**plain).eval()
    guided = model_of(pipeline, negative_prompt="a dog", guidance_scale=4.0)
    noise = initial_noise(SEEDS, guided.shape)
    expected = theirs(pipeline, noise, monkeypatch, negative_prompt=["a dog"] * 2, true_cfg_scale=4.0)
    check_same(guided, "euler", expected)
    unguided = [*ppap.sampling_steps(model_of(pipeline), 2, sampler="euler", steps=STEPS)][-1].x
    assert (unguided - expected[0]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "PixArtSigmaPipeline"])
def test_a_negative_prompt_and_a_scale_are_the_pipelines(name: str, monkeypatch) -> None:
    pipeline = solved(name)
    negative = "blurred" if name.startswith("PixArt") else ["blurred"] * 2
    for scale in (1.0, 8.0):
        own = {} if scale == 1 else {"negative_prompt": "blurred"}
        model = model_of(pipeline, guidance_scale=scale, **own)
        noise = initial_noise(SEEDS, model.shape)
        with monkeypatch.context() as patch:
            expected = theirs(pipeline, noise, patch, negative_prompt=negative, guidance_scale=scale)
        check_same(model, "ddim", expected)


def test_deepfloyds_learned_variance_and_dynamic_thresholding_are_the_pipelines(monkeypatch) -> None:
    pipeline = tiny("IFPipeline")
    model = model_of(pipeline)
    assert model.variance == "learned_range" and model.clip.quantile
    noise, left = StepNoise(SEEDS, model.shape, torch.device("cpu")), iter(reversed(range(STEPS)))
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise(next(left)))
    expected = theirs(pipeline, initial_noise(SEEDS, model.shape), monkeypatch)
    check_same(model, "ddpm", expected)


@pytest.mark.parametrize(
    "said", [{"use_dynamic_shifting": True}, {"shift": 1.0}, {"use_karras_sigmas": True}, {"shift_terminal": 0.1}]
)
def test_the_levels_of_a_flow_are_its_schedulers(said: dict, monkeypatch) -> None:
    pipeline = tiny("StableDiffusion3Pipeline")
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(**said)
    model = model_of(pipeline)
    check_same(model, "euler", theirs(pipeline, initial_noise(SEEDS, model.shape), monkeypatch))


def test_heuns_steps_of_a_flow_are_diffusers(monkeypatch) -> None:
    pipeline = tiny("StableDiffusion3Pipeline")
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
    model = model_of(pipeline)
    check_same(model, "heun", theirs(pipeline, initial_noise(SEEDS, model.shape), monkeypatch))


def test_the_solvers_of_sana_keep_their_levels() -> None:
    """Theirs is of another order; each level, and what the network is told there, is the same."""
    pipeline = tiny("SanaPipeline")
    steps = [*ppap.sampling_steps(model_of(pipeline), 2, sampler="euler", steps=STEPS)]
    pipeline.scheduler.set_timesteps(STEPS)
    sigmas = pipeline.scheduler.sigmas[:-1].double()
    torch.testing.assert_close(
        torch.tensor([step.log_snr for step in steps]).double(), 2 * ((1 - sigmas) / sigmas).log(), rtol=1e-3, atol=1e-3
    )


def test_one_prompt_draws_any_number_and_is_encoded_once(monkeypatch) -> None:
    pipeline, asked = tiny("StableDiffusionPipeline"), []
    encode = pipeline.encode_prompt

    @functools.wraps(encode)
    def watched(**how: Any) -> Any:
        asked.append(how["prompt"])
        return encode(**how)

    monkeypatch.setattr(pipeline, "encode_prompt", watched)
    model = ppap.load_pipeline(pipeline, image_size=16)
    one = model.prompted("a red cup")
    assert asked == ["a red cup", ""]
    each = model.prompted(["a red cup", "two blue cats", "a red cup"])
    assert sorted(asked[2:]) == ["", "a red cup", "two blue cats"]
    alike, mixed = (ppap.sample(m, 3, steps=2, batch_size=2) for m in (one, each))
    assert (alike[[0, 2]] == mixed[[0, 2]]).all() and (alike[1] != mixed[1]).any()


def test_a_hubs_pipeline_is_asked_for_one_form_of_the_parts_that_are_used(tmp_path: Path, monkeypatch) -> None:
    pipeline, there, asked = solved("StableDiffusionPipeline"), tmp_path / "hub", []
    pipeline.save_pretrained(there)
    pipeline.unet.save_pretrained(there / "unet", variant="fp16")
    (there / "safety_checker").mkdir()
    (there / "safety_checker" / "model.safetensors").write_bytes(b"large")

    def snapshot_download(name: str, revision: str, cache_dir: Path, allow_patterns: list[str]) -> str:
        found = [file for file in there.rglob("*") if file.is_file()]
        for file in found:
            place = file.relative_to(there)
            if any(fnmatch(str(place), pattern) for pattern in allow_patterns):
                asked.append(str(place))
                (cache_dir / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, cache_dir / place)
        return str(cache_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    models = [ppap.load_pipeline(source, image_size=16) for source in (there, "somebody/pipeline")]
    first, second = (ppap.sample(model.prompted("a red cup"), 1, steps=2) for model in models)
    assert (first == second).all()
    weights = {place for place in asked if place.endswith((".safetensors", ".bin"))}
    stem = "diffusion_pytorch_model.safetensors"
    assert weights == {f"unet/{stem}", f"vae/{stem}", "text_encoder/model.safetensors"}


def test_schedulers_that_do_not_know_clipping_leave_latents_alone() -> None:
    """DDPM and DDIM clip unless they are told not to; the defaults of others have no such key."""
    for scheduler, limit in (
        (PNDMScheduler(), None), (EulerDiscreteScheduler(), None), (DPMSolverMultistepScheduler(), None),
        (DDIMScheduler(), 1.0), (DDPMScheduler(clip_sample=True, clip_sample_range=3.0), 3.0),
        (DDIMScheduler(clip_sample=False), None),
    ):  # fmt: skip
        assert ppap.load_pipeline(changed("PixArtSigmaPipeline", scheduler=scheduler)).clip.limit == limit


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["StableDiffusionXLPipeline", "FluxPipeline", "SanaPipeline", "DiTPipeline"])
def test_a_pipeline_of_half_precision_draws_nearly_the_same(name: str) -> None:
    pipeline = solved(name)
    whole = [*ppap.sampling_steps(model_of(pipeline), 2, steps=2)][-1].x
    half = [*ppap.sampling_steps(model_of(pipeline.to(torch.bfloat16)), 2, steps=2)][-1].x
    assert half.dtype == torch.float32 and 0 < (half - whole).abs().mean() < 0.05 * whole.std()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted({*EVERY} - {"LDMTextToImagePipeline"}))
def test_a_folder_draws_what_its_pipeline_does(name: str, tmp_path: Path) -> None:
    pipeline = solved(name)
    pipeline.save_pretrained(tmp_path)
    prompts = TOLD.get(name, PROMPTS)
    models = [ppap.load_pipeline(source, image_size=size_of(name)) for source in (pipeline, tmp_path)]
    told = [model if prompts is None else model.prompted(prompts) for model in models]
    first, second = ([*ppap.sampling_steps(m, 2, steps=2)][-1].x for m in told)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


def index_of(folder: Path, **changes: object) -> Path:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def others(kind: type) -> Any:
    """A pipeline of another class, of Stable Diffusion's parts."""
    parts = tiny("StableDiffusionPipeline").components
    takes = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in parts.items() if key in takes}, requires_safety_checker=False)


def changed(name: str, **parts: Any) -> Any:
    pipeline = tiny(name)
    for part, value in parts.items():
        setattr(pipeline, part, value)
    return pipeline


FLOW = FlowMatchEulerDiscreteScheduler


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: others(StableDiffusionImg2ImgPipeline), "StableDiffusionImg2ImgPipeline: cannot be drawn; StableDiff"),
        (lambda: changed("StableDiffusionPipeline", scheduler=LCMScheduler()), "scheduler: _class_name: LCMScheduler"),
        (
            lambda: changed("StableDiffusion3Pipeline", scheduler=FLOW(invert_sigmas=True)),
            "scheduler: invert_sigmas: True",
        ),
        (lambda: changed("FluxPipeline", scheduler=FlowMatchLCMScheduler()), "_class_name: FlowMatchLCMScheduler"),
        (
            lambda: changed("SanaPipeline", scheduler=DPMSolverMultistepScheduler(use_flow_sigmas=True)),
            "scheduler: prediction_type: 'epsilon'; that of a flow is flow_prediction",
        ),
        (lambda: changed("StableDiffusionPipeline", vae=None), "StableDiffusionPipeline: vae: the pipeline has none"),
        (
            lambda: changed("StableDiffusionPipeline", unet=conditional_unet(in_channels=9)),
            "unet: in_channels: 9, but the latents of its autoencoder have 4",
        ),
        (
            lambda: changed("StableDiffusionPipeline", unet=conditional_unet(time_cond_proj_dim=8)),
            "unet: time_cond_proj_dim: a network of few steps",
        ),
        (
            lambda: changed("IFPipeline", unet=conditional_unet(in_channels=3, out_channels=3)),
            "unet: out_channels: 3 for 3 channels, whose variance_type is learned_range; 6 were expected",
        ),
        (
            lambda: changed("StableDiffusionPipeline", unet=conditional_unet(sample_size=None)),
            "unet: sample_size: None",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name_in_a_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ppap.PPAPError, match=message) as refused:
        ppap.load_pipeline(make())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "size", "prompts", "message"),
    [
        ("StableDiffusionPipeline", 15, None, "image_size: 15; a multiple of 2,"),
        ("FluxPipeline", (16, 18), None, r"image_size: \(16, 18\); a multiple of 4,"),
        ("StableDiffusionPipeline", 16, None, r"model: draws by prompts; say which: model\.prompted"),
        ("StableDiffusionPipeline", 16, ["a"] * 3, "prompts: the model has 3 for 2 images"),
        ("LDMPipeline", None, "a", "prompts: the diffusion model draws without them"),
        ("DiTPipeline", None, 1000, r"prompts: 1000 \(int\); a class from 0 to 999"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_is_drawn(name: str, size, prompts, message: str) -> None:
    pipeline = tiny(name)
    with pytest.raises(ppap.PPAPError, match=message):
        model = ppap.load_pipeline(pipeline, image_size=size)
        ppap.sample(model if prompts is None else model.prompted(prompts), 2, steps=2)


def test_a_pipeline_without_its_text_encoder_draws_no_prompts() -> None:
    model = ppap.load_pipeline(changed("StableDiffusion3Pipeline", text_encoder_2=None))
    with pytest.raises(
        ppap.PPAPError, match="prompts: StableDiffusion3Pipeline: text_encoder_2: the pipeline has none"
    ):
        model.prompted("a red cup")


def test_no_code_of_a_folder_is_run(tmp_path: Path) -> None:
    """Neither a module beside the parts, nor what a pickle asks for, nor a class by another name."""
    tiny("StableDiffusionPipeline").save_pretrained(tmp_path)
    ran = tmp_path / "ran"
    for place in (tmp_path, tmp_path / "unet"):
        (place / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass UNet2DConditionModel: ...\n")
    for named in (
        ["own", "UNet2DConditionModel"],
        ["transformers", "pipeline"],
        ["diffusers", "StableDiffusionPipeline"],
    ):
        with pytest.raises(ppap.PPAPError, match=f"unet: {named[0]}.{named[1]} is none of the networks"):
            ppap.load_pipeline(index_of(tmp_path, unet=named))
    index_of(tmp_path, unet=["diffusers", "UNet2DConditionModel"])
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        whole = tmp_path / part / f"{name}.safetensors"
        kept = whole.read_bytes()
        whole.unlink()
        with pytest.raises(ppap.PPAPError, match=f"{part}: no weights"):
            ppap.load_pipeline(tmp_path)
        pickled = whole.with_name(f"{name.removeprefix('model') or 'pytorch_model'}.bin")
        torch.save({"weight": Running(str(ran))}, pickled)
        with pytest.raises(ppap.PPAPError, match=f"{part} cannot be read") as refused:
            ppap.load_pipeline(tmp_path)
        assert "\n" not in str(refused.value)
        pickled.unlink()
        whole.write_bytes(kept)
    ppap.load_pipeline(tmp_path)
    assert not ran.exists()


class Running:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_a_folder_of_another_pipeline_and_one_whose_weights_are_others_are_refused(tmp_path: Path) -> None:
    index = tmp_path / "model_index.json"
    theirs = ["pipeline", "StableDiffusionPipeline"]  # in a file pipeline.py beside, which is not run
    for name in ("CogVideoXPipeline", "SomebodysPipeline", theirs):
        index.write_text(json.dumps({"_class_name": name, "vae": ["diffusers", "AutoencoderKL"]}))
        with pytest.raises(
            ppap.PPAPError, match=rf"{re.escape(str(name))}: cannot be drawn; StableDiffusionPipeline, "
        ):
            ppap.load_pipeline(tmp_path)
    tiny("StableDiffusionPipeline").save_pretrained(tmp_path)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.bias"]
    save_file(weights, path)
    with pytest.raises(ppap.PPAPError, match=r"1 weights of UNet2DConditionModel are missing, such as conv_in\.bias"):
        ppap.load_pipeline(tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline", "IFPipeline", "LDMPipeline"])
@pytest.mark.parametrize("guidance", ["mpgd", "x0_gradient"])
def test_a_guide_that_likes_light_pictures_makes_them_lighter(name: str, guidance: str) -> None:
    pipeline = solved(name)
    model = model_of(pipeline)
    light = nn.Linear(3, 2)
    light.weight.data = torch.tensor([[-1.0] * 3, [1.0] * 3])
    guide = ppap.wrap_guide(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), light),
        outputs=2,
        image_size=16,
        mean=(0,) * 3,
        std=(1,) * 3,
    )
    sampler = "euler" if name in FLOWS else "ddim"
    dark, plain, bright = (
        ppap.sample(model, 2, ppap.Goal(guide, target, scale), guidance=guidance, sampler=sampler, steps=STEPS).mean()
        for target, scale in ((0, 3000.0), (1, 0.0), (1, 3000.0))
    )
    assert dark + 0.5 < plain < bright - 0.5


@pytest.mark.parametrize(
    ("name", "truths"), [("StableDiffusionPipeline", None), ("FluxPipeline", torch.arange(24) % 2)]
)
def test_experts_of_the_estimate_learn_by_each_images_own_prompt(name: str, truths: Tensor | None, monkeypatch) -> None:
    """Each image is asked of the network with the prompt that it was drawn by, whichever batch it comes in."""
    prompts = [PROMPTS[i % 2] for i in range(24)]
    base = ppap.load_pipeline(solved(name), image_size=size_of(name))
    model = base.prompted(prompts, guidance_scale=1)
    latents = np.random.default_rng(0).normal(size=(24, *model.shape)).astype(np.float32)
    latents[:, 0, 0, 0] = np.arange(24) % 2 * 100.0 - 50  # an image shows which prompt is its own
    family, seen = model.network.family, []
    texts = dict(zip(PROMPTS, (family.told(prompt)[0] for prompt in PROMPTS), strict=True))
    predict = family.predict

    def watched(network, x, t, told, scale):
        seen.extend(zip(x[:, 0, 0, 0].tolist(), t.tolist(), told[0], strict=True))
        return predict(network, x, t, told, scale)

    monkeypatch.setattr(family, "predict", watched)
    guide = ppap.wrap_guide(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), outputs=2, image_size=16
    )
    training = {"steps": 3, "batch_size": 8, "learning_rate": 1e-3}
    bank = ppap.train_experts(guide, model, latents, experts=1, sees="x0_hat", training=training, truths=truths)
    told = [(pixel > 0, text) for pixel, t, text in seen if t < 500 and abs(pixel) > 5]
    assert len(told) > 5 and {own for own, _ in told} == {True, False}
    assert all(torch.equal(text, texts[PROMPTS[own]][0]) for own, text in told)
    goal = ppap.Goal(bank, 1, 3.0)
    drawn = ppap.sample(base.prompted(PROMPTS), 2, goal, guidance="experts", sampler="euler", steps=STEPS)
    assert drawn.shape == (2, *model.picture_shape[1:], 3)
    with pytest.raises(ppap.PPAPError, match="model: 24 prompts for 20 images"):
        ppap.train_experts(guide, model, latents[:20], experts=1, sees="x0_hat", training=training)
