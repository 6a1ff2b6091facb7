"""Pipelines of diffusers as people have them, of tiny random networks, with tokenizers and text encoders of their kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    LDMPipeline,
    LDMTextToImagePipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
PROMPTS = ["a red cup", "two blue cats"]
SIZE = 16
"""The height of what they draw, but for two whose classes take multiples of 32."""


def clip_tokenizer() -> CLIPTokenizer:
    """Of letters."""
    words = ["<|startoftext|>", "<|endoftext|>", *ALPHABET, *(f"{letter}</w>" for letter in ALPHABET)]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=16)


def t5_tokenizer() -> T5TokenizerFast:
    """Of letters."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return T5TokenizerFast(vocab=[*special, *((c, -2.0) for c in "▁" + ALPHABET)], extra_ids=0, model_max_length=16)


def clip(kind: type = CLIPTextModel) -> Any:
    return kind(
        CLIPTextConfig(
            vocab_size=54, hidden_size=8, intermediate_size=16, projection_dim=8, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    ).eval()  # fmt: skip


def t5(width: int = 16) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=30, d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)).eval()


def gemma() -> Gemma2Model:
    about = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return Gemma2Model(Gemma2Config(vocab_size=30, num_key_value_heads=1, head_dim=8, **about)).eval()


def autoencoder(kind: type = AutoencoderKL, levels: int = 2, **options: Any) -> Any:
    """Of a factor of 2 for each level after the first; 4 latent channels."""
    return kind(
        block_out_channels=(8,) * levels, norm_num_groups=4, latent_channels=4, sample_size=SIZE,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, **options,
    ).eval()  # fmt: skip


def conditional_unet(**options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{
            "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "norm_num_groups": 4,
            "block_out_channels": (8, 8), "attention_head_dim": 4, "cross_attention_dim": 8,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        } | options
    ).eval()  # fmt: skip


def steady(**options: Any) -> dict[str, Any]:
    """What the schedulers of Stable Diffusion say."""
    return {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False, **options}


def stable_diffusion() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        autoencoder(scaling_factor=0.18215), clip(), clip_tokenizer(), conditional_unet(),
        DDIMScheduler(**steady(set_alpha_to_one=False, steps_offset=1)), None, None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    unet = conditional_unet(
        cross_attention_dim=16, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8, transformer_layers_per_block=1,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        autoencoder(scaling_factor=0.13025), clip(), clip(CLIPTextModelWithProjection),
        clip_tokenizer(), clip_tokenizer(), unet, DDIMScheduler(**steady()), add_watermarker=False,
    )  # fmt: skip


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=4,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=8, pooled_projection_dim=16,
        pos_embed_max_size=16,
    ).eval()  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), autoencoder(scaling_factor=1.5305, shift_factor=0.0609),
        clip(CLIPTextModelWithProjection), clip_tokenizer(), clip(CLIPTextModelWithProjection), clip_tokenizer(),
        t5(), t5_tokenizer(),
    )  # fmt: skip


def flux() -> FluxPipeline:
    """FLUX.1's class, whose scheduler shifts by the size of the picture and whose latents are packed 2 by 2."""
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=8, axes_dims_rope=(4, 2, 2), guidance_embeds=True,
    ).eval()  # fmt: skip
    return FluxPipeline(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        autoencoder(scaling_factor=0.3611, shift_factor=0.1159),
        clip(), clip_tokenizer(), t5(), t5_tokenizer(), transformer,
    )  # fmt: skip


def dit() -> DiTPipeline:
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        norm_num_groups=4,
    ).eval()  # fmt: skip
    return DiTPipeline(transformer, autoencoder(), DDIMScheduler(clip_sample=False))


def pixart(kind: type = PixArtAlphaPipeline) -> Any:
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        norm_num_groups=4, cross_attention_dim=8, caption_channels=16, use_additional_conditions=False,
    ).eval()  # fmt: skip
    return kind(t5_tokenizer(), t5(), autoencoder(), transformer, DPMSolverMultistepScheduler())


def sana() -> SanaPipeline:
    """Sana's class, whose scheduler is DPM-Solver++ on the noise of a flow."""
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=4, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=16,
        sample_size=16,
    ).eval()  # fmt: skip
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types="ResBlock", decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()),
        scaling_factor=0.41407,
    ).eval()  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    return SanaPipeline(t5_tokenizer(), gemma(), vae, transformer, scheduler)


def ldm() -> LDMPipeline:
    """The unconditional models of latent diffusion, whose autoencoder quantises."""
    unet = UNet2DModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=4, block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    ).eval()  # fmt: skip
    return LDMPipeline(autoencoder(VQModel, num_vq_embeddings=16), unet, DDIMScheduler(**steady()))


def ldm_text_to_image() -> LDMTextToImagePipeline:
    return LDMTextToImagePipeline(
        autoencoder(VQModel, levels=4, num_vq_embeddings=16), clip(), LongTokenizer(), conditional_unet(sample_size=4),
        DDIMScheduler(**steady()),
    )  # fmt: skip


class LongTokenizer:
    """Takes 16 tokens where a pipeline asks for 77."""

    def __init__(self) -> None:
        self.tokenizer = clip_tokenizer()

    def __call__(self, prompts: Any, max_length: int, **how: Any) -> Any:
        return self.tokenizer(prompts, max_length=16, **how)


def deepfloyd() -> IFPipeline:
    """DeepFloyd IF's class: pixels, drawn by prompts."""
    unet = UNet2DConditionModel(
        sample_size=SIZE, layers_per_block=1, block_out_channels=[32, 64], in_channels=3,
        out_channels=6, cross_attention_dim=32, encoder_hid_dim=16, attention_head_dim=8,
        down_block_types=["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
        addition_embed_type="text", addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift", act_fn="gelu",
    ).eval()  # fmt: skip
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", thresholding=True, variance_type="learned_range")
    return IFPipeline(t5_tokenizer(), t5(), unet, scheduler, None, None, None, False)


class Tiny(NamedTuple):
    """A class of pipelines: how one is made, and what it is called with, apart from the prompts, to draw two pictures."""

    make: Callable[[], Any]
    call: dict[str, Any]
    prompts: bool = True


_SIZED = {"height": SIZE, "width": SIZE}
_PLAIN = {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": 16}
PIPELINES = {
    "StableDiffusionPipeline": Tiny(stable_diffusion, {"guidance_scale": 5.0, **_SIZED}),
    "StableDiffusionXLPipeline": Tiny(stable_diffusion_xl, {"guidance_scale": 5.0, **_SIZED}),
    "StableDiffusion3Pipeline": Tiny(stable_diffusion_3, {"guidance_scale": 5.0, "max_sequence_length": 16, **_SIZED}),
    "FluxPipeline": Tiny(flux, {"max_sequence_length": 16, "height": SIZE, "width": 2 * SIZE}),
    "DiTPipeline": Tiny(dit, {"class_labels": [1, 2]}, False),
    "PixArtAlphaPipeline": Tiny(pixart, {**_PLAIN, **_SIZED}),
    "PixArtSigmaPipeline": Tiny(lambda: pixart(PixArtSigmaPipeline), {**_PLAIN, **_SIZED}),
    "SanaPipeline": Tiny(sana, {**_PLAIN, "height": 32, "width": 32, "complex_human_instruction": None}),
    "LDMPipeline": Tiny(ldm, {"batch_size": 2}, False),
    "LDMTextToImagePipeline": Tiny(ldm_text_to_image, {"guidance_scale": 2.0, "height": 32, "width": 32}),
    "IFPipeline": Tiny(deepfloyd, {"guidance_scale": 3.0, "clean_caption": False, **_SIZED}),
}


def tiny(name: str) -> Any:
    """A pipeline of this class, always the same one."""
    torch.manual_seed(0)
    pipeline = PIPELINES[name].make()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline: Any, seed: int = 0, steps: int = 4, **call: Any) -> Tensor:
    """Two pictures that it draws by itself, (2, 3, H, W) in [0, 1]."""
    about = PIPELINES[type(pipeline).__name__]
    prompts = {"prompt": PROMPTS} if about.prompts else {}
    asked = {**about.call, **prompts, "num_inference_steps": steps, "output_type": "pt", **call}
    found = pipeline(generator=torch.Generator().manual_seed(seed), **asked).images
    if not isinstance(found, Tensor):  # LDMPipeline knows no tensors
        found = torch.tensor(found).permute(0, 3, 1, 2)
    return found / 2 + 0.5 if isinstance(pipeline, IFPipeline) else found
