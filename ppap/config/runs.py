"""The runs of a preset, and what they use: guides, experts, networks trained here or taken from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product, starmap
from typing import Any, NamedTuple, get_args

from ppap.config.preset import Preset
from ppap.config.rows import MethodConfig
from ppap.diffusion.guidance import Sees
from ppap.evaluation.measured import Run as Run
from ppap.guides.views import ViewName
from ppap.report.titles import method_title
from ppap.utils.errors import ConfigError
from ppap.utils.settings import AUTOENCODER, DATASET, DIFFUSION, UNGUIDED

WARM = "warm"
OWN = "of_"
"""The name of a shared start begins so if it is that of one method, which follows."""


def known(preset: Preset, kind: str, name: str) -> None:
    """Raise ConfigError unless the preset has this guide, sampler, method or table."""
    names = getattr(preset, kind)
    if name not in names:
        raise ConfigError(f"{kind}: preset {preset.name} has no '{name}' (it has {', '.join(names)})")


def table_runs(preset: Preset, table: str) -> list[Run]:
    """List the table's rows: guide by guide, sampler by sampler, method by method."""
    return [
        Run(sampler, guide, method)
        for grid in preset.tables[table]
        for guide in grid.guides
        for sampler in grid.samplers
        for method in grid.methods
    ]


def computed_runs(preset: Preset, *tables: str) -> list[Run]:
    """List the rows of these tables that are computed: all, but for the supervised ones if those are left out."""
    rows = (run for table in tables for run in table_runs(preset, table))
    return [run for run in rows if preset.computed(run.method)]


def stored_as(preset: Preset, run: Run) -> Run:
    """Return the run that holds a row's samples: without guidance, all guides share one."""
    return run if preset.guidance(run.method).guided else run._replace(guide=UNGUIDED)


def all_runs(preset: Preset) -> list[Run]:
    """List every sample set that the preset computes, each once."""
    rows = computed_runs(preset, *preset.tables)
    return list(dict.fromkeys(stored_as(preset, run) for run in rows))


def group(preset: Preset, sampler: str, guide: str) -> list[Run]:
    """List the runs with this sampler and guide, in an order that does not depend on the preset's."""
    return sorted(run for run in all_runs(preset) if (run.sampler, run.guide) == (sampler, guide))


def used_guides(preset: Preset) -> list[str]:
    """List guides that appear in a run, each once."""
    return list(dict.fromkeys(run.guide for run in all_runs(preset) if run.guide != UNGUIDED))


def used_judges(preset: Preset) -> list[str]:
    """List judges of these guides' samples, beside the evaluator."""
    judges = (preset.judge(guide) for guide in used_guides(preset))
    return list(dict.fromkeys(judge for judge in judges if judge is not None))


def judged_guides(preset: Preset, run: Run) -> list[str]:
    """List the guides whose targets a run's samples are held against: its own; without one, all that share the run."""
    if run.guide != UNGUIDED:
        return [run.guide]
    rows = computed_runs(preset, *preset.tables)
    return list(dict.fromkeys(row.guide for row in rows if stored_as(preset, row) == run))


def guides_of_pictures(preset: Preset) -> list[str]:
    """List guides whose samples are guided to what pictures show."""
    return [guide for guide in used_guides(preset) if preset.task(guide).of_pictures]


def taught_guides(preset: Preset) -> list[str]:
    """List guides that teach: their answers on the clean images are what experts learn."""
    methods = preset.methods
    runs = (run for run in all_runs(preset) if methods[run.method].supervision == "teacher")
    return list(dict.fromkeys(run.guide for run in runs))


def trained_models(preset: Preset) -> list[str]:
    """List networks that the workflow trains on real images (`ppap pretrain`)."""
    names = (AUTOENCODER, DIFFUSION, *preset.evaluator.networks, *used_judges(preset), *used_guides(preset))
    return [name for name in names if preset.training(name) is not None]


def external_models(preset: Preset) -> list[str]:
    """List networks and data that come from elsewhere (`ppap download`)."""
    needed = [DIFFUSION, *used_guides(preset), *preset.evaluator.files, *used_judges(preset)]
    if preset.dataset.facts.downloaded and needs_data(preset) and not streams_data(preset):
        needed.append(DATASET)
    trained = trained_models(preset)
    return [name for name in needed if name not in trained]


def needs_data(preset: Preset) -> bool:
    """Say whether anything is trained on the real images, compared with them, or guided to them."""
    return bool(_taught_by_labels(preset)) or _needs_whole(preset)


def knows_truth(preset: Preset, model: str) -> bool:
    """Say whether real images have the truths that a network should answer."""
    return preset.task(model).own_truth or preset.task_name(model) in preset.dataset.facts.truths


def streams_data(preset: Preset) -> bool:
    """Say whether experts alone need the real images, and read them as they learn: there may be too many for memory.

    Those of a latent model learn from latents, which are encoded before.
    """
    pixels = preset.diffusion.latent_space is None
    return bool(preset.dataset.facts.listed_reads) and pixels and not _needs_whole(preset)


def _taught_by_labels(preset: Preset) -> list[str]:
    return [run.guide for run in all_runs(preset) if preset.methods[run.method].supervision == "labels"]


def _needs_whole(preset: Preset) -> bool:
    judged = preset.evaluator.compared_with is None
    shown = any(preset.guides[guide].targets.held_out for guide in guides_of_pictures(preset))
    real = not all(preset.guidance(run.method).drawn for run in all_runs(preset)) or bool(taught_on_real(preset))
    tasks = map(preset.task, _taught_by_labels(preset))
    computed = any(task.own_truth or task.own_look for task in tasks)
    return judged or shown or real or computed or bool(trained_models(preset))


def taught_on_real(preset: Preset) -> list[str]:
    """List methods whose experts learn a teacher's answers on real images."""
    return [method for _, method in banks(preset) if preset.methods[method].taught_on == "real"]


class Learning(NamedTuple):
    """The way that experts learn, as far as a shared start is concerned: its `name` tells one from another."""

    supervision: str
    trainable: str
    view: ViewName | None = None
    sees: Sees = "x_t"
    estimates: str = "fresh"
    taught_on: str = "drawn"

    @classmethod
    def of(cls, method: MethodConfig) -> Learning:
        """Return how a method's experts learn."""
        how = str(method.supervision), str(method.trainable), method.view, method.sees
        return cls(*how, method.estimates, method.taught_on)

    @classmethod
    def named(cls, name: str) -> Learning:
        """Return the one of this name; ConfigError if there is none."""
        known = {learning.name: learning for learning in starmap(cls, product(*_LEARNINGS))}
        if name not in known:
            raise ConfigError(f"no experts learn by '{name}'")
        return known[name]

    @property
    def real(self) -> bool:
        """True if experts learn from real images."""
        return self.supervision == "labels" or self.taught_on == "real"

    @property
    def name(self) -> str:
        """Its name, such as teacher_adapter, or teacher_adapter_linear_x0_hat."""
        return "_".join(str(part) for part in self if part not in (None, "x_t", "fresh", "drawn"))


_LEARNINGS: tuple[tuple[Any, ...], ...] = (
    ("labels", "teacher"),
    ("all", "adapter"),
    (None, *get_args(ViewName)),
    get_args(Sees),
    ("fresh", "stored"),
    ("drawn", "real"),
)


def warm_name(start: str) -> str:
    """Name the file of a shared start."""
    return f"{WARM}_{start}"


def has_warm_start(preset: Preset, method: str) -> bool:
    spec = preset.methods[method]
    shared = preset.trained_for(method).experts.warm_start == "shared"
    return shared and (spec.experts or 0) > 1 and not spec.imported


def shared_start(preset: Preset, method: str) -> str:
    """Return the name of the shared start that a method's experts have, if they have one."""
    spec = preset.methods[method]
    return f"{OWN}{method}" if spec.overrides else Learning.of(spec).name


def started(preset: Preset, start: str) -> tuple[Preset, Learning]:
    """Return the preset as a shared start of this name has it, and how it learns; ConfigError if there is none."""
    method = start.removeprefix(OWN)
    if method == start:
        return preset, Learning.named(start)
    known(preset, "methods", method)
    return preset.trained_for(method), Learning.of(preset.methods[method])


def warm_steps(preset: Preset, guide: str) -> int:
    """Return the steps of a shared start of the guide's experts."""
    return round(preset.experts.warm_share * preset.guides[guide].experts.steps)


def expert_steps(preset: Preset, guide: str, method: str) -> tuple[int, int]:
    """Return the steps of the shared start, and of each expert; their sum over the row is its total."""
    preset = preset.trained_for(method)
    warm = warm_steps(preset, guide) if has_warm_start(preset, method) else 0
    return warm, (preset.guides[guide].experts.steps - warm) // (preset.methods[method].experts or 1)


def expert_owner(preset: Preset, method: str) -> str:
    """Return the method that a method's experts are trained for: itself, unless it uses another's."""
    return preset.methods[method].experts_of or method


def titles(preset: Preset, runs: Iterable[Run]) -> dict[str, str]:
    """Return the names of these runs' methods in tables and figures."""
    methods = dict.fromkeys(run.method for run in runs)
    return {method: preset.methods[method].title or method_title(method) for method in methods}


def stores_estimates(preset: Preset) -> bool:
    """Say whether experts learn from stored estimates of the clean images."""
    return any(preset.methods[method].estimates == "stored" for _, method in banks(preset))


def estimate_timesteps(preset: Preset) -> list[int]:
    """List the timesteps of stored estimates, at even distances."""
    count, total = preset.clean_images.estimates, preset.diffusion.timesteps
    return [min(total - 1, (2 * level + 1) * total // (2 * count)) for level in range(count)]


def main_guides(preset: Preset) -> list[str]:
    """List the guides of the main table."""
    return list(dict.fromkeys(run.guide for run in table_runs(preset, "main")))


def banks(preset: Preset) -> list[tuple[str, str]]:
    """List guides and methods whose experts the workflow trains, each pair once."""
    runs = (run for run in all_runs(preset) if preset.guidance(run.method).experts)
    trained = (run for run in runs if not preset.methods[run.method].imported)
    return list(dict.fromkeys((run.guide, expert_owner(preset, run.method)) for run in trained))


def evaluated(preset: Preset) -> list[tuple[str, str]]:
    """List samplers and guides whose runs are evaluated together."""
    return list(dict.fromkeys((run.sampler, run.guide) for run in all_runs(preset)))


def drawn_runs(preset: Preset, guide: str) -> list[Run]:
    """List the main table's rows of a guide that figures show: those with the figures' sampler."""
    shown = (guide, preset.figures.sampler)
    return [run for run in computed_runs(preset, "main") if (run.guide, run.sampler) == shown]


def runs_seeing_x_t(preset: Preset, guide: str) -> list[Run]:
    """List those of `drawn_runs` whose guide sees x_t itself, so that it can be asked for its confidence."""
    return [run for run in drawn_runs(preset, guide) if preset.guidance(run.method).sees_x_t]
