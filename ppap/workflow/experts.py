"""A preset's experts: what each is made for, how it is trained and written, and how they guide a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ppap.config.guidance_scales import guidance_scale
from ppap.config.preset import Preset
from ppap.config.runs import Learning, Run, estimate_timesteps, expert_owner, streams_data
from ppap.data import datasets
from ppap.data.datasets import RealImages
from ppap.data.images import to_tensor
from ppap.data.loading import ImagesInMemory
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.model import DiffusionModel
from ppap.diffusion.noise_ranges import TrainedAt
from ppap.experts.bank import ExpertBank
from ppap.experts.distillation import train_expert
from ppap.experts.examples import AnsweredImages, Examples, HeldOut, LabelledImages, StreamedImages
from ppap.experts.expert import Expert, ExpertHeader, Purpose, check_experts, read_expert, sight
from ppap.experts.teacher import TeacherAnswers, answers_on
from ppap.guides.goal import Goal
from ppap.guides.guide import Guide
from ppap.guides.views import FITTED, DecoderView, LinearView, ViewName, look_through
from ppap.training.loop import TrainingRun
from ppap.utils import files
from ppap.utils.device import device_of
from ppap.utils.mixed_precision import autocast
from ppap.utils.seeds import name_seed
from ppap.utils.settings import DATASET
from ppap.workflow import networks, prompts, stored_images, targets
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step


def purpose_of(preset: Preset, guide: str, method: str, weights: Path | None = None) -> Purpose:
    """Return what an expert of this guide and method is made for; whatever the weights if none are given."""
    learning = Learning.of(preset.methods[method])
    return purpose(preset.trained_for(method), guide, expert_owner(preset, method), learning, weights)


def purpose(preset: Preset, guide: str, name: str, learning: Learning, weights: Path | None = None) -> Purpose:
    """Return the purpose of a method's experts, or of the shared start of this name that they have."""
    adapter, adapted = preset.guides[guide].adapter, learning.trainable == "adapter"
    return Purpose(
        guide=preset.guides[guide].model,
        guide_sha256=None if weights is None else files.sha256(weights),
        timesteps=preset.diffusion.timesteps,
        noise_schedule=preset.diffusion.schedule_name,
        method=name,
        supervision=learning.supervision,
        trainable=learning.trainable,
        view=learning.view,
        sees=None if learning.sees == "x_t" else learning.sees,
        rank=adapter.rank if adapted else None,
        lora_scale=adapter.alpha / adapter.rank if adapted else None,
    )


def bank_of(layout: Layout, guide: str, method: str, network: Guide) -> ExpertBank:
    """Read the experts of a guide and a method; DataError unless they are the preset's."""
    preset = layout.preset
    experts = [read_expert(path) for path in layout.experts(guide, method)]
    wanted = purpose_of(preset, guide, method, layout.model(guide))
    check_experts(experts, wanted, preset.ranges(method))
    return ExpertBank(network, experts, networks.load_autoencoder(layout))


def guide_of(layout: Layout, run: Run) -> Guide | ExpertBank:
    """Load a run's guide, or its experts."""
    guide = networks.load_guide(layout, run.guide)
    experts = layout.preset.guidance(run.method).experts
    chosen = bank_of(layout, run.guide, run.method, guide) if experts else guide
    networks.hold_precision(layout, run.guide, guide)  # after the bank, which merges in float32
    return chosen


def goals_of(layout: Layout, run: Run, numbers: Tensor) -> list[Goal]:
    """Load a run's goal, with the targets that have these numbers (N,), one for each sample; none without guidance."""
    if not layout.preset.guidance(run.method).guided:
        return []
    scale = guidance_scale(layout.preset, run.sampler, run.guide, run.method)
    wanted, objective = targets.of_numbers(layout, run.guide, numbers), layout.preset.objective(run.method)
    return [Goal(guide_of(layout, run), wanted, scale, objective)]


def train_and_write(
    job: Step,
    layout: Layout,
    guide: str,
    *,
    name: str,
    purpose: Purpose,
    timesteps: range,
    steps: int,
    learning: Learning,
    initialisation: Expert | None = None,
    trained_at: TrainedAt = "range",
) -> None:
    """Train the expert that is the output of a job, and write what it changes. The name seeds its random numbers.

    From stored estimates of clean images it learns at those of its timesteps.
    """
    preset, (out,) = layout.preset, job.outputs(layout)
    spec = preset.guides[guide]
    with job.unfinished(layout) as checkpoint:
        network = networks.load_guide(layout, guide)
        autoencoder = networks.load_autoencoder(layout)
        model = _model(layout, learning) if (learning.sees, learning.estimates) == ("x0_hat", "fresh") else None
        labels = torch.tensor(model.labels) if model and model.labels else None
        examples, unseen = _examples(layout, network, guide, learning, timesteps, labels)
        if autoencoder is not None:
            look_through(network, _view(layout, purpose.view, autoencoder))
        with autocast(preset.runtime):
            delta, facts = train_expert(
                network,
                examples,
                schedule=networks.full_schedule(layout),
                timesteps=timesteps,
                training=spec.experts.model_copy(update={"steps": steps}),
                adapter=spec.adapter if purpose.trainable == "adapter" else None,
                settings=preset.experts,
                run=TrainingRun(name, name_seed(preset.seed, name), checkpoint),
                held_out=unseen,
                initialisation=initialisation,
                denoiser=None if model is None else model.on(model.schedule),
                trained_at=trained_at,
            )
        about = purpose.model_dump() | {"lora_scale": purpose.lora_scale or 1.0}
        predicts = networks.process(layout).predicts if purpose.sees == "x0_hat" else "eps"
        about |= sight(purpose.sees or "x_t", predicts, purpose.view, autoencoder)
        header = ExpertHeader(**about, config=job.fingerprint(preset), **facts)
        files.write_tensors(out, delta, header.metadata())


def _view(layout: Layout, name: ViewName | None, autoencoder: Autoencoder) -> nn.Module:
    """Make experts' view of latents; a linear one is fitted to the first that were drawn."""
    if name == "decoder":
        return DecoderView(autoencoder)
    few = torch.arange(min(FITTED, layout.clean_sizes[0]))
    latents = to_tensor(stored_images.clean(layout, range(1)).take(few)).to(device_of(layout.preset.runtime))
    return LinearView.fitted(latents, autoencoder.decoded(latents))


def _model(layout: Layout, learning: Learning) -> DiffusionModel:
    """Load the diffusion model whose estimates experts see, told of clean images, where experts learn from these."""
    model = networks.load_model(layout, layout.preset.runtime)
    if learning.real or layout.preset.clean_images.prompts is None:
        return model
    shards = range(len(layout.clean_sizes))
    seeds = [seed for shard in shards for seed in stored_images.clean_seeds(layout, shard)]
    return prompts.told(layout, "clean_images", model, seeds)


def _examples(
    layout: Layout, network: Guide, guide: str, learning: Learning, timesteps: range, labels: Tensor | None
) -> tuple[Examples, HeldOut | None]:
    """Open what experts learn from, and what is held out of that, if anything.

    They are clean images with the teacher's answers, and `labels` of their prompts, or real ones with those of the
    `network`, or with what is true of them.
    """
    preset, data = layout.preset, layout.preset.dataset
    wanted, mirror = preset.experts.held_out, preset.mirrored
    most = preset.experts.images if learning.supervision == "teacher" else None
    if learning.taught_on == "real":
        shown = ImagesInMemory(stored_images.as_drawn(layout, stored_images.real(layout, "train")))
        return AnsweredImages(shown, _answers(layout, network, shown), mirror).apart(wanted, most)
    if learning.supervision == "teacher":
        images, answers = stored_images.labelled(layout, guide)
        if learning.estimates == "fresh":
            return AnsweredImages(images, answers, mirror, labels=labels).apart(wanted, most)
        each, levels = preset.clean_images.estimates, estimate_timesteps(preset)
        chosen = tuple(level for level, t in enumerate(levels) if t in timesteps)
        seen_images = stored_images.estimated(layout)
        return AnsweredImages(seen_images, answers, mirror, levels=chosen, stored=each).apart(wanted, most)
    if streams_data(preset):
        return StreamedImages(data.facts.listed(data), data.image_size, preset.task_of(guide), mirror).apart(wanted)

    def labelled(part: RealImages) -> LabelledImages:
        truths = stored_images.truth_of(layout, part, guide)
        return LabelledImages(stored_images.as_drawn(layout, part), truths, preset.task_of(guide), mirror)

    real = datasets.load_all(data, layout.model(DATASET))
    seen, first = real["train"], real["holdout"].first(wanted)
    return labelled(seen), labelled(first) if len(first.images) else None


def _answers(layout: Layout, network: Guide, images: ImagesInMemory) -> TeacherAnswers:
    """Have a guide answer on real images, or on what their latents decode to."""
    autoencoder, batches = networks.load_autoencoder(layout), torch.arange(len(images)).split(500)
    how = {} if autoencoder is None else {"pictures": autoencoder.decoded}
    return answers_on(network, images, batches, mirror=layout.preset.mirrored, **how)  # type: ignore[arg-type]
