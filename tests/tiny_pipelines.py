"""Pipelines of diffusers as people have them, of tiny random networks, with tokenizers and text encoders of their kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    KandinskyV22Pipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    LDMPipeline,
    LDMTextToImagePipeline,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
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
    """Build a tokenizer of single letters."""
    words = ["<|startoftext|>", "<|endoftext|>", *ALPHABET, *(f"{letter}</w>" for letter in ALPHABET)]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=16)


def t5_tokenizer() -> T5TokenizerFast:
    """Build a tokenizer of single letters."""
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
    """Build an autoencoder with 4 latent channels, which halves the size with each level after the first."""
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
    """Return the configuration of Stable Diffusion's schedulers."""
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


def kandinsky() -> KandinskyV22Pipeline:
    """Kandinsky 2.2's class, whose autoencoder has no scale; it is told of images, in the place of prompts."""
    unet = conditional_unet(
        out_channels=8, cross_attention_dim=8, encoder_hid_dim=8, encoder_hid_dim_type="image_proj",
        addition_embed_type="image", resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    movq = autoencoder(VQModel, num_vq_embeddings=16)
    return KandinskyV22Pipeline(unet, DDIMScheduler(**steady(beta_schedule="linear")), movq)


def few_steps() -> LatentConsistencyModelPipeline:
    """A network of few steps, whose scheduler draws noise anew."""
    unet = conditional_unet(time_cond_proj_dim=8)
    return LatentConsistencyModelPipeline(
        autoencoder(scaling_factor=0.18215), clip(), clip_tokenizer(), unet, LCMScheduler(**steady()), None, None,
        requires_safety_checker=False,
    )  # fmt: skip


def image_to_image() -> StableDiffusionImg2ImgPipeline:
    return StableDiffusionImg2ImgPipeline(**stable_diffusion().components, requires_safety_checker=False)


def aura_flow(**scheduler: Any) -> AuraFlowPipeline:
    transformer = AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16,
        pos_embed_max_size=64,
    ).eval()  # fmt: skip
    vae = autoencoder(scaling_factor=0.13025)
    return AuraFlowPipeline(t5_tokenizer(), t5(), vae, transformer, FlowMatchEulerDiscreteScheduler(**scheduler))


def lumina() -> Lumina2Pipeline:
    """Lumina 2's class, whose network predicts the velocity the other way round."""
    transformer = Lumina2Transformer2DModel(
        sample_size=8, in_channels=4, hidden_size=16, num_layers=1, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=4, axes_dim_rope=(4, 2, 2), axes_lens=(64, 32, 32), cap_feat_dim=16,
    ).eval()  # fmt: skip
    vae = autoencoder(scaling_factor=0.3611, shift_factor=0.1159)
    return Lumina2Pipeline(transformer, FlowMatchEulerDiscreteScheduler(shift=6.0), vae, gemma(), t5_tokenizer())


def chroma(**scheduler: Any) -> ChromaPipeline:
    transformer = ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 2, 2), approximator_num_channels=8, approximator_hidden_dim=8,
        approximator_layers=1,
    ).eval()  # fmt: skip
    vae = autoencoder(scaling_factor=0.3611, shift_factor=0.1159)
    return ChromaPipeline(FlowMatchEulerDiscreteScheduler(**scheduler), vae, t5(), t5_tokenizer(), transformer)


def cogview() -> CogView4Pipeline:
    transformer = CogView4Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, text_embed_dim=16,
        time_embed_dim=8, condition_dim=4, pos_embed_max_size=64, sample_size=16, rope_axes_dim=(16, 16),
    ).eval()  # fmt: skip
    return CogView4Pipeline(None, None, autoencoder(), transformer, FlowMatchEulerDiscreteScheduler(shift=3.0))


def z_image() -> ZImagePipeline:
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 2, 2], axes_lens=[64, 32, 32],
    ).eval()  # fmt: skip
    vae = autoencoder(scaling_factor=0.3611, shift_factor=0.1159)
    return ZImagePipeline(FlowMatchEulerDiscreteScheduler(shift=3.0), vae, None, None, transformer)


def qwen_image() -> QwenImagePipeline:
    """Qwen-Image's class: latents packed 2 by 2, of an autoencoder of videos, with a mean and a deviation a channel."""
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 2, 2),
    ).eval()  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[-0.7, 0.1, -0.1, 0.9], latents_std=[2.8, 1.4, 2.3, 2.6],
    ).eval()  # fmt: skip
    return QwenImagePipeline(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), vae, None, None, transformer)


def embedding(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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

_TOLD = {"prompt_embeds": embedding(2, 5, 16), "negative_prompt_embeds": embedding(2, 5, 16, seed=4)}
_EACH = {key: list(value) for key, value in _TOLD.items()}
_MASK = torch.ones(2, 5, dtype=torch.long)
_MASKS = {"prompt_attention_mask": _MASK, "negative_prompt_attention_mask": _MASK}
_WEIGHTS = {key: mask.float() for key, mask in _MASKS.items()}
_IMAGES = {"image_embeds": embedding(2, 8), "negative_image_embeds": embedding(2, 8, seed=4)}
OTHERS = {
    "KandinskyV22Pipeline": Tiny(kandinsky, {**_IMAGES, **_SIZED}, False),
    "LatentConsistencyModelPipeline": Tiny(few_steps, {"original_inference_steps": 50, **_SIZED}),
    "StableDiffusionImg2ImgPipeline": Tiny(
        image_to_image, {"image": embedding(2, 3, SIZE, SIZE).tanh() / 2 + 0.5, "strength": 0.8}
    ),
    "AuraFlowPipeline": Tiny(aura_flow, {**_TOLD, **_MASKS, **_SIZED}, False),
    "Lumina2Pipeline": Tiny(lumina, {**_TOLD, **_MASKS, "height": 64, "width": 64}, False),
    "ChromaPipeline": Tiny(lambda: chroma(shift=3.0), {**_TOLD, **_WEIGHTS, "height": SIZE, "width": 2 * SIZE}, False),
    "CogView4Pipeline": Tiny(cogview, {**_TOLD, **_SIZED}, False),
    "ZImagePipeline": Tiny(z_image, {**_EACH, **_SIZED}, False),
    "QwenImagePipeline": Tiny(
        qwen_image,
        {
            **_TOLD, "prompt_embeds_mask": _MASK, "height": 2 * SIZE, "width": SIZE,
            "negative_prompt_embeds_mask": _MASK, "true_cfg_scale": 3.0,
        },
        False,
    ),
}  # fmt: skip
"""More classes, which `ppap.guided` guides; most are told of prompts by embeddings alone."""


def tiny(name: str) -> Any:
    """A pipeline of this class, always the same one."""
    torch.manual_seed(0)
    pipeline = (PIPELINES | OTHERS)[name].make()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline: Any, seed: int = 0, steps: int = 4, **call: Any) -> Tensor:
    """Two pictures that it draws by itself, (2, 3, H, W) in [0, 1]."""
    about = (PIPELINES | OTHERS)[type(pipeline).__name__]
    prompts = {"prompt": PROMPTS} if about.prompts else {}
    asked = {**about.call, **prompts, "num_inference_steps": steps, "output_type": "pt", **call}
    found = pipeline(generator=torch.Generator().manual_seed(seed), **asked).images
    if not isinstance(found, Tensor):  # LDMPipeline knows no tensors
        found = torch.tensor(found).permute(0, 3, 1, 2)
    return found / 2 + 0.5 if isinstance(pipeline, IFPipeline) else found
