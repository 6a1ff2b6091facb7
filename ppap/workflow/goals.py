"""What runs are guided by, loaded from where the workflow keeps it: guides or their experts, and their goals."""

from __future__ import annotations

from torch import Tensor

from ppap.config.runs import Run
from ppap.diffusion.sampling import Seeds
from ppap.experts.bank import ExpertBank
from ppap.guides.goal import Goal
from ppap.guides.guide import Guide
from ppap.workflow import networks as models
from ppap.workflow import targets
from ppap.workflow.experts import bank_of
from ppap.workflow.layout import Layout


def guide_of(layout: Layout, run: Run) -> Guide | ExpertBank:
    """Load a run's guide, or its experts."""
    guide = models.load_guide(layout, run.guide)
    experts = layout.preset.guidance(run.method).experts
    chosen = bank_of(layout, run.guide, run.method, guide) if experts else guide
    models.hold_precision(layout, run.guide, guide)  # after the bank, which merges in float32
    return chosen


def goals_of(layout: Layout, run: Run, numbers: Tensor) -> list[Goal]:
    """Load a run's goal, with the targets that have these numbers (N,), one for each sample; none without guidance."""
    if not layout.preset.guidance(run.method).guided:
        return []
    guide, wanted = guide_of(layout, run), targets.taker(layout, run.guide)(numbers)
    return [Goal(guide, wanted, layout.preset.guidance_scale(run.sampler, run.guide))]


def clean_seeds(layout: Layout, shard: int) -> Seeds:
    """Return the seeds of a shard of clean images."""
    clean, size = layout.preset.clean_images, layout.clean_sizes[shard]
    return [(clean.seed, shard * clean.shard_size + i) for i in range(size)]


def sample_seeds(layout: Layout, shard: int) -> Seeds:
    """Return the seeds of a shard of samples: places count anew for each sampling seed."""
    sampling, size = layout.preset.sampling, layout.sample_sizes[shard]
    places = range(shard * sampling.shard_size, shard * sampling.shard_size + size)
    return [(sampling.seeds[i // sampling.samples], i % sampling.samples) for i in places]
