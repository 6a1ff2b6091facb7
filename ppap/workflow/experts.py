"""A preset's experts: what they learn from, where they are written, and the bank that they make."""

from __future__ import annotations

from ppap.diffusion.schedules import Schedule
from ppap.experts.bank import ExpertBank
from ppap.experts.distillation import train_expert
from ppap.experts.examples import AnsweredImages, Examples, LabelledImages, StreamedImages
from ppap.experts.expert import Expert, ExpertHeader, Purpose, check_experts, read_expert
from ppap.guides.guide import Guide
from ppap.training.loop import TrainingRun
from ppap.utils import files
from ppap.utils.mixed_precision import autocast
from ppap.utils.seeds import name_seed
from ppap.workflow import networks, real_images
from ppap.workflow.layout import Layout
from ppap.workflow.purposes import purpose_of
from ppap.workflow.shards import labelled_images
from ppap.workflow.step import Step


def bank_of(layout: Layout, guide: str, method: str, network: Guide) -> ExpertBank:
    """Read the experts of a guide and a method; DataError unless they are the preset's."""
    preset = layout.preset
    experts = [read_expert(path) for path in layout.experts(guide, method)]
    wanted = purpose_of(preset, guide, method, layout.model(guide))
    check_experts(experts, wanted, preset.ranges(preset.methods[method]))
    return ExpertBank(network, experts)


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
    spec, diffusion = preset.guides[guide], preset.diffusion
    checkpoint = job.checkpoint(layout)
    files.check_writable(out, checkpoint.path)
    network = networks.load_guide(layout, guide)
    with autocast(preset.runtime):
        delta, facts = train_expert(
            network,
            _examples(layout, guide, str(purpose.supervision)),
            schedule=Schedule.create(diffusion.noise_schedule, diffusion.timesteps),
            timesteps=timesteps,
            training=spec.experts.model_copy(update={"steps": steps}),
            adapter=spec.adapter if purpose.trainable == "adapter" else None,
            settings=preset.experts,
            run=TrainingRun(name, name_seed(preset.seed, name), checkpoint),
            initialisation=initialisation,
        )
    about = purpose.model_dump() | {"lora_scale": purpose.lora_scale or 1.0}
    header = ExpertHeader(**about, config=job.fingerprint(preset), **facts)
    files.write_tensors(out, delta, header.metadata())
    checkpoint.drop()


def _examples(layout: Layout, guide: str, supervision: str) -> Examples:
    """Open what experts learn from: clean images with the teacher's answers, or real ones with what is true of them."""
    preset = layout.preset
    if supervision == "teacher":
        return AnsweredImages(*labelled_images(layout, guide), preset.dataset.mirror)
    if preset.dataset.facts.streamed:
        return StreamedImages(preset.dataset)
    data = real_images.load(layout, "train")
    task = preset.task_of(guide)
    return LabelledImages(data.images, real_images.truth_of(preset, data, guide), task, preset.dataset.mirror)
