"""A preset's experts: what each is made for, how it is trained and written, and how they guide a run."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ppap.config.guidance_scales import guidance_scale
from ppap.config.preset import Preset
from ppap.config.runs import Run, expert_owner, streams_data
from ppap.data import datasets
from ppap.data.datasets import RealImages
from ppap.experts.bank import ExpertBank
from ppap.experts.distillation import train_expert
from ppap.experts.examples import AnsweredImages, Examples, HeldOut, LabelledImages, StreamedImages
from ppap.experts.expert import Expert, ExpertHeader, Purpose, check_experts, read_expert
from ppap.guides.goal import Goal
from ppap.guides.guide import Guide
from ppap.training.loop import TrainingRun
from ppap.utils import files
from ppap.utils.mixed_precision import autocast
from ppap.utils.seeds import name_seed
from ppap.utils.settings import DATASET
from ppap.workflow import networks, stored_images, targets
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step


def purpose_of(preset: Preset, guide: str, method: str, weights: Path | None = None) -> Purpose:
    """Return what an expert of this guide and method is made for; whatever the weights if none are given."""
    spec, owner = preset.methods[method], expert_owner(preset, method)
    return purpose(preset, guide, owner, str(spec.supervision), str(spec.trainable), weights)


def purpose(
    preset: Preset, guide: str, method: str, supervision: str, trainable: str, weights: Path | None = None
) -> Purpose:
    """Return the purpose of a method's experts, or a shared start's, by what these learn from and what they train."""
    adapter, adapted = preset.guides[guide].adapter, trainable == "adapter"
    return Purpose(
        guide=preset.guides[guide].model,
        guide_sha256=None if weights is None else files.sha256(weights),
        timesteps=preset.diffusion.timesteps,
        noise_schedule=preset.diffusion.schedule_name,
        method=method,
        supervision=supervision,
        trainable=trainable,
        rank=adapter.rank if adapted else None,
        lora_scale=adapter.alpha / adapter.rank if adapted else None,
    )


def bank_of(layout: Layout, guide: str, method: str, network: Guide) -> ExpertBank:
    """Read the experts of a guide and a method; DataError unless they are the preset's."""
    preset = layout.preset
    experts = [read_expert(path) for path in layout.experts(guide, method)]
    wanted = purpose_of(preset, guide, method, layout.model(guide))
    check_experts(experts, wanted, preset.ranges(preset.methods[method]))
    return ExpertBank(network, experts)


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
    scale = guidance_scale(layout.preset, run.sampler, run.guide)
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
    initialisation: Expert | None = None,
) -> None:
    """Train the expert that is the output of a job, and write what it changes. The name seeds its random numbers."""
    preset, (out,) = layout.preset, job.outputs(layout)
    spec = preset.guides[guide]
    with job.unfinished(layout) as checkpoint:
        network = networks.load_guide(layout, guide)
        examples, unseen = _examples(layout, guide, str(purpose.supervision))
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
            )
        about = purpose.model_dump() | {"lora_scale": purpose.lora_scale or 1.0}
        header = ExpertHeader(**about, config=job.fingerprint(preset), **facts)
        files.write_tensors(out, delta, header.metadata())


def _examples(layout: Layout, guide: str, supervision: str) -> tuple[Examples, HeldOut | None]:
    """Open what experts learn from, and what is held out of that, if anything.

    They are clean images with the teacher's answers, or real ones with what is true of them.
    """
    preset = layout.preset
    wanted, mirror = preset.experts.held_out, preset.dataset.mirror
    if supervision == "teacher":
        return AnsweredImages(*stored_images.labelled(layout, guide), mirror).apart(wanted)
    if streams_data(preset):
        return StreamedImages(preset.dataset), None

    def labelled(data: RealImages) -> LabelledImages:
        truths = stored_images.truth_of(preset, data, guide)
        return LabelledImages(data.images, truths, preset.task_of(guide), mirror)

    real = datasets.load_all(preset.dataset, layout.model(DATASET))
    seen, first = real["train"], real["holdout"].first(wanted)
    return labelled(seen), labelled(first) if len(first.images) else None
