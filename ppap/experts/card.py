"""The card of a folder of experts: what they are, for the hub as YAML (its model cards), for people as tables."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ppap.experts.expert import Expert, ExpertHeader
from ppap.guides.libraries.registry import library_of
from ppap.guides.recipe import GuideRecipe

_LOADED = {
    None: "FOLDER_OR_NAME",
    "weights": "FOLDER_OR_NAME, weights=FILE_OF_THE_GUIDE",
    "guide": "FOLDER_OR_NAME, guide",
}


def card(experts: Sequence[Expert], names: Sequence[str], recipe: GuideRecipe) -> str:
    """Say what a folder of experts holds, in files with these names, and what their guide is.

    In Markdown below YAML, as the Hugging Face hub has it.
    """
    return f"---\n{_metadata(experts, names, recipe)}---\n\n{_text(experts, names, recipe)}"


def _metadata(experts: Sequence[Expert], names: Sequence[str], recipe: GuideRecipe) -> str:
    """Write what the hub lists and searches; experts' losses on held-out images are its evaluation results."""
    from huggingface_hub import EvalResult, ModelCardData  # takes a second

    header, published = experts[0].header, None
    if recipe.published:
        published = library_of(header.guide).hub_name(header.guide.partition(":")[2])
    facts = [recipe.task, "data-free" if header.supervision == "teacher" else None, "lora" if header.rank else None]
    results = [
        EvalResult(
            task_type=recipe.task or "guidance",
            dataset_type="held-out",
            dataset_name="Noisy images that no expert learned from",
            metric_type="loss",
            metric_name=f"Loss of {name} ({expert.header.off_the_shelf_loss:.4g} of the guide itself)",
            metric_value=expert.header.held_out_loss,
        )
        for name, expert in zip(names, experts, strict=True)
        if expert.header.held_out_loss is not None and expert.header.off_the_shelf_loss is not None
    ]
    return (
        ModelCardData(
            library_name="ppap",
            tags=["diffusion", "guidance", "noise-aware", *filter(None, facts)],
            base_model=published,
            base_model_relation=published and ("adapter" if header.rank else "finetune"),
            model_name=f"experts of {header.guide}",
            eval_results=results,
        ).to_yaml()
        + "\n"
    )


def _text(experts: Sequence[Expert], names: Sequence[str], recipe: GuideRecipe) -> str:
    header = experts[0].header
    learned = {
        "teacher": "the guide's own answers on drawn images (data-free distillation)",
        "labels": "what is true of real images",
        None: "not recorded",
    }[header.supervision]
    facts = {
        "Guide": f"`{header.guide}`",
        "Options": f"`{json.dumps(recipe.options)}`" if recipe.options else "none",
        "Input size": recipe.input_size,
        "Resize": f"{recipe.interpolation}{'' if recipe.antialias else ', without antialiasing'}",
        "Mean, deviation": f"{recipe.mean}, {recipe.std}",
        "Task": recipe.task or "not recorded",
        "Experts": len(experts),
        "Timesteps of training": header.timesteps,
        "Noise schedule": header.noise_schedule,
        "Sees": about_sight(header),
        "Learned from": learned,
        "Parameters trained, an expert": f"{header.trainable_parameters:,} of {header.guide_parameters:,}",
        "Adapters": f"rank {header.rank}, scale {header.lora_scale:g}" if header.rank else "none",
    }
    lines = ["# Noise-aware experts of a guide (PPAP)", ""]
    lines += [f"Load them with `ppap.load_experts({_LOADED[recipe.lacks(header.guide)]})`.", ""]
    lines += ["| | |", "|:--|:--|", *(f"| {name} | {value} |" for name, value in facts.items())]
    lines += ["", "| File | Timesteps | Log-SNR | Steps | Final loss | On held-out images | Guide's own there |"]
    lines += ["|:--|:--|:--|--:|--:|--:|--:|"]
    for name, expert in zip(names, experts, strict=True):
        own = expert.header
        timesteps = f"{own.range_start} to {own.range_stop - 1}"
        noise = "not recorded" if expert.log_snr is None else "{:.2f} to {:.2f}".format(*expert.log_snr)
        losses = [own.final_loss, own.held_out_loss, own.off_the_shelf_loss]
        cells = [timesteps, noise, own.steps or "", *("" if loss is None else f"{loss:.4g}" for loss in losses)]
        lines.append(f"| `{name}` | {' | '.join(map(str, cells))} |")
    lines += [f"\n`{n}` is worse than the guide itself." for n, e in zip(names, experts, strict=True) if e.header.worse]
    return "\n".join([*lines, ""])


def about_sight(header: ExpertHeader) -> str:
    """Say in words what experts look at."""
    seen = "the network's estimate of x_0" if header.sees == "x0_hat" else "x_t"
    if header.latents is None:
        return seen
    space = header.latents
    return f"{seen}, latents (scale {space.scale}, shift {space.shift}) by the view `{header.view}`"
