"""Rules between the sections of a preset: each yields what is wrong, a line each, with the key in front.

What would fail a job hours from now is refused here, if whole numbers and names suffice to see it;
`ppap.workflow.check` builds the networks besides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ppap.config.contents import networks, sources
from ppap.config.kinds import problems_of_kinds
from ppap.config.limits import excesses
from ppap.utils.errors import ConfigError
from ppap.utils.settings import DIFFUSION, EVALUATOR, RESERVED

if TYPE_CHECKING:
    from ppap.config.preset import Preset


def problems(preset: Preset) -> list[str]:
    """Everything that does not fit together; names and kinds first, because all other rules look them up."""
    rules = (
        *(
            _steps,
            _ranges,
            _expert_steps,
            _diffusion_network,
            _networks,
            _classes,
            _trained,
            _tasks,
        ),
        *(_sizes_of_data, _evaluation, _rows, _figures, excesses, _downloads),
    )
    first = list(_names(preset)) or list(problems_of_kinds(preset))
    return first or [problem for rule in rules for problem in rule(preset)]


# -- names -------------------------------------------------------------------------------------------


def _names(preset: Preset) -> Iterator[str]:
    yield from _unknown_names(preset)
    for key in ("guides", "judges"):
        for name in getattr(preset, key):
            if name in RESERVED or (key == "judges" and name in preset.guides):
                yield f"{key}: '{name}' is the name of something else; choose another"


def _unknown_names(preset: Preset) -> Iterator[str]:
    for table, grids in preset.tables.items():
        for grid in grids:
            for kind in ("guides", "samplers", "methods"):
                for name in getattr(grid, kind):
                    if name not in getattr(preset, kind):
                        yield f"tables.{table}: {kind} has no '{name}'"
    for guide, spec in preset.guides.items():
        for name in spec.scales.keys() - preset.samplers.keys():
            yield f"guides.{guide}.scales: samplers has no '{name}'"
    for key, sampler in (
        ("clean_images", preset.clean_images.sampler),
        ("figures", preset.figures.sampler),
    ):
        if sampler not in preset.samplers:
            yield f"{key}.sampler: samplers has no '{sampler}'"


# -- timesteps and steps -----------------------------------------------------------------------------


def _steps(preset: Preset) -> Iterator[str]:
    diffusion = preset.diffusion
    for name in preset.samplers:
        try:
            preset.schedule(name)
        except ConfigError as error:
            yield f"samplers.{name}.steps: {error}"
    if upsampling := diffusion.upsampling:
        try:
            upsampling.schedule(diffusion.timesteps, preset.module_folders)
        except ConfigError as error:
            yield f"diffusion.{diffusion.source.upsampling}.steps: {error}"
    beyond = [t for t in preset.figures.timesteps if t >= diffusion.timesteps]
    if beyond:
        yield (
            f"figures.timesteps: there is no timestep {beyond[0]}; the diffusion model has "
            f"0 to {diffusion.timesteps - 1}"
        )


def _ranges(preset: Preset) -> Iterator[str]:
    for name, method in preset.methods.items():
        if (method.experts or 0) > preset.diffusion.timesteps:
            yield (
                f"methods.{name}.experts: {method.experts} experts over "
                f"{preset.diffusion.timesteps} timesteps leave one without any"
            )
            continue
        try:
            preset.ranges(method)
        except ConfigError as error:
            yield f"methods.{name}.experts: {error}"


def _expert_steps(preset: Preset) -> Iterator[str]:
    """Every expert, and every shared start, has a step at least."""
    from ppap.config import runs

    for guide, name in dict.fromkeys((run.guide, run.method) for run in runs.all_runs(preset)):
        method = preset.methods[name]
        if not preset.guidance(name).experts or method.imported:
            continue
        warm, each = runs.expert_steps(preset, guide, method)
        total = preset.guides[guide].experts.steps
        if runs.has_warm_start(preset, method) and warm < 1:
            yield f"experts.warm_share: leaves the shared start of {guide} none of its {total} steps"
        if each < 1:
            yield (
                f"guides.{guide}.experts.steps: {total} are too few for {method.experts} experts "
                f"({name})" + (f" after a shared start of {warm}" if warm else "")
            )


# -- networks and data -------------------------------------------------------------------------------


def _diffusion_network(preset: Preset) -> Iterator[str]:
    spec, data = preset.diffusion, preset.dataset
    for key, (arch, own_size) in spec.unets.items():
        size = own_size or data.image_size
        if arch.in_channels != data.channels:
            yield (
                f"diffusion.{key}.in_channels: {arch.in_channels}, "
                f"but dataset.channels is {data.channels}"
            )
        if arch.learn_sigma != (spec.variance == "learned_range"):
            yield f"diffusion.variance: learned_range goes with {key}.learn_sigma: true, only"
        factor = 2 ** (len(arch.channel_mult) - 1)
        if size % factor:
            yield (
                f"diffusion.{key}.channel_mult: {len(arch.channel_mult)} resolutions need an "
                f"image size that {factor} divides, not {size}"
            )
    if spec.upsampling and spec.upsampling.image_size <= data.image_size:
        yield (
            f"diffusion.{spec.source.upsampling}.image_size: {spec.upsampling.image_size} is no "
            f"more than dataset.image_size, {data.image_size}"
        )


def _networks(preset: Preset) -> Iterator[str]:
    channels = preset.dataset.channels
    for name, spec in networks(preset):
        for key in ("mean", "std"):
            numbers = getattr(spec, key)
            if numbers and len(numbers) not in (1, channels):
                yield (
                    f"{preset.key(name)}.{key}: {len(numbers)} numbers for images of "
                    f"{channels} channel{'s' * (channels > 1)}"
                )
        if spec.train and spec.train.shift >= preset.dataset.image_size:
            yield (
                f"{preset.key(name)}.train.shift: {spec.train.shift} pixels move an image of "
                f"{preset.dataset.image_size} out of sight"
            )


def _classes(preset: Preset) -> Iterator[str]:
    for key, wanted in (
        ("sampling.classes", preset.sampling.classes or ()),
        ("figures.target_class", (preset.figures.target_class,)),
    ):
        missing = [c for c in wanted if c >= preset.dataset.classes]
        if missing:
            yield (
                f"{key}: there is no class {missing[0]}; "
                f"the classes are 0 to {preset.dataset.classes - 1}"
            )


def _trained(preset: Preset) -> Iterator[str]:
    names = (DIFFUSION, *(name for name, _ in networks(preset)))
    trained = [name for name in names if preset.training(name) is not None]
    if trained and preset.dataset.facts.streamed:
        yield (
            f"{preset.key(trained[0])}.train: images of kind {preset.dataset.kind} only teach experts"
        )


def _tasks(preset: Preset) -> Iterator[str]:
    """Tasks have what they need: labels of label maps, truths to learn from, pictures as targets, one judge each."""
    for name, spec in networks(preset):
        kind = preset.task(name)
        if kind.outputs and getattr(preset.dataset, kind.outputs) is None:
            yield f"dataset.{kind.outputs}: {preset.key(name)} needs it"
        if kind.of_pictures and spec.train and spec.train.shift:
            yield f"{preset.key(name)}.train.shift: would move the picture, but not what is true of it"
    yield from _truths(preset)
    yield from _targets(preset)
    judged = Counter(spec.task for spec in preset.judges.values())
    for name, judge in preset.judges.items():
        if judged[judge.task] > 1:
            yield f"judges.{name}.task: two judges of {judge.task}; one is enough"
        if not preset.task(name).of_pictures:
            yield f"judges.{name}.task: classes are judged by the evaluator"


def _truths(preset: Preset) -> Iterator[str]:
    """What learns from real images finds there what is true of them."""
    from ppap.config import runs

    methods = preset.methods
    learning = {name: f"{preset.key(name)}.train" for name, spec in networks(preset) if spec.train}
    for run in runs.all_runs(preset):
        if methods[run.method].supervision == "labels":
            learning.setdefault(run.guide, f"methods.{run.method}.supervision")
    for name, key in learning.items():
        task = preset.task_name(name)
        if not preset.task(name).own_truth and task not in preset.dataset.facts.truths:
            yield f"{key}: images of kind {preset.dataset.kind} say nothing of {task} ({name})"


def _targets(preset: Preset) -> Iterator[str]:
    """Where targets and real pictures come from is there."""
    from ppap.config import runs

    data = preset.dataset
    for guide, spec in preset.guides.items():
        kind, task = preset.task(guide), spec.task
        known = kind.own_truth or task in data.facts.truths
        if spec.targets.folder is not None and not kind.of_pictures:
            yield f"guides.{guide}.targets.folder: classes are given by sampling.classes"
        if kind.of_pictures and spec.targets.folder is None and not known:
            yield f"guides.{guide}.targets: images of kind {data.kind} say nothing of {task}; give a `folder`"
    real = {run.method for run in runs.all_runs(preset) if not preset.guidance(run.method).drawn}
    shown = any(preset.guides[guide].targets.folder is None for guide in runs.shown_guides(preset))
    if preset.diffusion.upsampling:
        for method in sorted(real):
            yield f"methods.{method}: a cascade has no real pictures of both sizes"
    if data.facts.streamed:
        for method in sorted(real):
            yield f"methods.{method}: images of kind {data.kind} are not read as a whole"
        if shown:
            yield f"dataset.kind: images of kind {data.kind} are not read as a whole, for targets"


def _sizes_of_data(preset: Preset) -> Iterator[str]:
    """A data set's images are what they are, where anything looks at them."""
    from ppap.config import runs

    data = preset.dataset
    if not runs.needs_data(preset):
        return
    for key, value in data.facts.sizes.items():
        if getattr(data, key) != value:
            yield f"dataset.{key}: {getattr(data, key)}, but {data.kind} have {value}"


# -- evaluation and figures --------------------------------------------------------------------------


def _evaluation(preset: Preset) -> Iterator[str]:
    judge, samples = preset.evaluator, preset.sampling.samples
    if judge.neighbours >= samples:
        yield (
            f"evaluator.neighbours: {judge.neighbours}, but a sampling seed has no more than "
            f"{samples} samples (sampling.samples)"
        )
    yield from (f"{EVALUATOR}.{problem}" for problem in judge.problems(preset.dataset))


def _rows(preset: Preset) -> Iterator[str]:
    from ppap.config import runs

    for table in preset.tables:
        for run, count in Counter(runs.table_runs(preset, table)).items():
            if count > 1:
                yield f"tables.{table}: the row {', '.join(run)} stands there twice"


def _figures(preset: Preset) -> Iterator[str]:
    """The figures draw the main table's guides with one sampler: each needs runs with it to draw."""
    from ppap.config import runs

    chosen = preset.figures.sampler
    for guide in runs.main_guides(preset):
        shown = (
            preset.guidance(run.method).sees_x_t
            for run in runs.computed_runs(preset, "main")
            if (run.guide, run.sampler) == (guide, chosen)
        )
        if not any(shown):
            yield (
                f"figures.sampler: tables.main has no row of {guide} with {chosen} that is guided by "
                "an off-the-shelf model or by experts, and nothing to show of it"
            )


# -- files of others ---------------------------------------------------------------------------------


def _downloads(preset: Preset) -> Iterator[str]:
    """Downloads lie side by side: two of them under one name would be taken for each other."""
    places: dict[str, str] = {}
    for key, source in sources(preset):
        if source.local is None and places.setdefault(source.name, source.url) != source.url:
            yield f"{key}: another download is called {source.name} too; give one of them a `file`"
