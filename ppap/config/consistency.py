"""Rules between the sections of a preset: each yields what is wrong, a line each, with the key in front.

What would fail a job hours from now is refused here, if whole numbers and names suffice to see it;
`ppap.workflow.check` builds the networks besides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ppap.config import runs
from ppap.config.preset import Preset
from ppap.config.rows import OF_EXPERTS
from ppap.utils.errors import ConfigError
from ppap.utils.settings import DEPTH, DIFFUSION, EVALUATOR, RESERVED


def problems(preset: Preset) -> list[str]:
    """List all that does not fit together; names and kinds first, because all other rules look them up."""
    rules = (
        *(_timesteps, _experts, _unets, _prompts, _images, _classes, _tasks, _truths),
        *(_targets, _whole, _evaluation, _rows, _downloads),
    )
    first = list(_names(preset)) or list(_kinds(preset))
    return first or [problem for rule in rules for problem in rule(preset)]


def _failing(key: str, call: Callable[..., object], *arguments: Any) -> Iterator[str]:
    try:
        call(*arguments)
    except ConfigError as error:
        yield f"{key}: {error}"


def _names(preset: Preset) -> Iterator[str]:
    """Yield names that are unknown, or that stand for two things."""
    if "main" not in preset.tables:
        yield "tables: lack the table `main`, which the figures draw"
    named = [
        (f"tables.{table}", kind, name)
        for table, grids in preset.tables.items()
        for grid in grids
        for kind in ("guides", "samplers", "methods")
        for name in getattr(grid, kind)
    ]
    for guide, spec in preset.guides.items():
        named += [(f"guides.{guide}.scales", "samplers", name) for name in spec.scales]
    for name, method in preset.methods.items():
        named += [(f"methods.{name}.experts_of", "methods", method.experts_of)] if method.experts_of else []
        named += [(f"methods.{name}.scales", "guides", guide) for guide in method.scales]
    for key in ("clean_images", "figures"):
        named.append((f"{key}.sampler", "samplers", getattr(preset, key).sampler))
    for key, kind, name in named:
        if name not in getattr(preset, kind):
            yield f"{key}: {kind} has no '{name}'"
    for kind in ("guides", "judges"):
        for name in getattr(preset, kind):
            if name in RESERVED or (kind == "judges" and name in preset.guides):
                yield f"{kind}: '{name}' is the name of something else; choose another"


def _kinds(preset: Preset) -> Iterator[str]:
    """Yield kinds and models that cannot be found, and methods with keys of another kind of guidance."""
    for name in (*preset.guides, *preset.judges):
        yield from _failing(f"{preset.key(name)}.task", preset.task, name)
    for name in preset.samplers:
        yield from _failing(f"samplers.{name}.kind", preset.sampler, name)
    for name, method in preset.methods.items():
        try:
            kind = preset.guidance(name)
        except ConfigError as error:
            yield f"methods.{name}.guidance: {error}"
            continue
        yield from _failing(f"methods.{name}.objective", preset.objective, name)
        given = {v is not None for v in (method.supervision, method.experts, method.trainable)}
        if given != {kind.experts}:
            yield f"methods.{name}: supervision, experts and trainable belong to guidance: experts, all three"
        elif method.imported and not kind.experts:
            yield f"methods.{name}: imported belongs to guidance: experts"
        needs_view = kind.experts and preset.diffusion.latent_space is not None
        if needs_view != (method.view is not None):
            yield f"methods.{name}.view: " + (
                "say how experts look at latents" if needs_view else "is of latents, only"
            )
        for key, default in (("sees", "x_t"), ("trained_at", "range"), ("overrides", {})):
            if getattr(method, key) != default and not kind.experts:
                yield f"methods.{name}.{key}: belongs to guidance: experts"
        learning = method.sees, method.supervision, method.trained_at
        if method.estimates == "stored" and learning != ("x0_hat", "teacher", "range"):
            yield f"methods.{name}.estimates: stored ones are of experts that see x0_hat, taught by a teacher, on a whole range"
        if method.taught_on == "real" and (method.supervision, method.estimates) != ("teacher", "fresh"):
            yield f"methods.{name}.taught_on: real images have answers of a teacher, and no stored estimates"
        yield from _failing(f"methods.{name}.overrides", preset.trained_for, name)
        if method.objective and not kind.guided:
            yield f"methods.{name}.objective: belongs to guidance that has a guide"
        if other := method.experts_of:
            owner = preset.methods[other]
            if owner.experts_of:
                yield f"methods.{name}.experts_of: {other} uses those of {owner.experts_of} itself"
            for key in (key for key in OF_EXPERTS if getattr(method, key) != getattr(owner, key)):
                yield f"methods.{name}.{key}: is that of {other}, whose experts it uses; leave it out"


def _timesteps(preset: Preset) -> Iterator[str]:
    diffusion = preset.diffusion
    for name in preset.samplers:
        yield from _failing(f"samplers.{name}.steps", preset.schedule, name)
    if upsampling := diffusion.upsampling:
        key = f"diffusion.{diffusion.source.upsampling}.steps"
        yield from _failing(key, upsampling.schedule, diffusion.timesteps, preset.module_folders)
    last = diffusion.timesteps - 1
    for t in preset.figures.timesteps:
        if t > last:
            yield f"figures.timesteps: there is no timestep {t}; the diffusion model has 0 to {last}"


def _experts(preset: Preset) -> Iterator[str]:
    """Yield experts without a timestep or a stored estimate, and experts and shared starts without a step."""
    total, spec = preset.diffusion.timesteps, preset.diffusion
    unknown = spec.source.knows_process and "noise_schedule" not in spec.model_fields_set
    allocations = {preset.trained_for(name).experts.allocation for name in preset.methods}
    if "log_snr" in allocations and unknown:
        yield "diffusion.noise_schedule: state the pipeline's, by which experts.allocation: log_snr divides timesteps"
    for name, method in preset.methods.items():
        key = f"methods.{name}.experts"
        if (method.experts or 0) > total:
            yield f"{key}: {method.experts} experts over {total} timesteps leave one without any"
            continue
        try:
            ranges = preset.ranges(name) if method.experts else []
        except ConfigError as error:
            yield f"{key}: {error}"
            continue
        for part in ranges if method.estimates == "stored" else []:
            levels = runs.estimate_timesteps(preset)
            if not any(t in part for t in levels):
                span = f"{part.start} to {part.stop - 1} ({name})"
                yield f"clean_images.estimates: {len(levels)} are too few; none is at timesteps {span}"
    for guide, name in runs.banks(preset):
        method, steps = preset.methods[name], preset.trained_for(name).guides[guide].experts.steps
        warm, each = runs.expert_steps(preset, guide, name)
        if runs.has_warm_start(preset, name) and warm < 1:
            yield f"experts.warm_share: leaves the shared start of {guide} none of its {steps} steps"
        if each < 1:
            after = f" after a shared start of {warm}" if warm else ""
            yield f"guides.{guide}.experts.steps: {steps} are too few for {method.experts} experts ({name}){after}"


def _unets(preset: Preset) -> Iterator[str]:
    spec, data = preset.diffusion, preset.dataset
    for key, (arch, own_size) in spec.unets.items():
        channels, drawn, _ = preset.drawn_shape
        size, levels = own_size or drawn, len(arch.channel_mult)
        divisor = 2 ** (levels - 1)
        if arch.in_channels != channels:
            of = "dataset.channels is" if not spec.autoencoder else "a latent has"
            yield f"diffusion.{key}.in_channels: {arch.in_channels}, but {of} {channels}"
        if arch.learn_sigma != (spec.variance == "learned_range"):
            yield f"diffusion.variance: learned_range goes with {key}.learn_sigma: true, only"
        if size % divisor:
            yield f"diffusion.{key}.channel_mult: {levels} resolutions need a size that {divisor} divides, not {size}"
    if spec.upsampling and spec.upsampling.image_size <= data.image_size:
        key, size = f"diffusion.{spec.source.upsampling}.image_size", spec.upsampling.image_size
        yield f"{key}: {size} is no more than dataset.image_size, {data.image_size}"


def _prompts(preset: Preset) -> Iterator[str]:
    """Yield latents that do not fit the pictures, and images without a prompt where others have one."""
    latents, size = preset.diffusion.latents, preset.dataset.image_size
    if latents and size % latents.factor:
        yield f"diffusion.latents.factor: {latents.factor} does not divide dataset.image_size, {size}"
    given = {key: getattr(preset, key).prompts for key in ("clean_images", "sampling")}
    for key, prompts in given.items():
        if prompts is None and any(given.values()):
            yield f"{key}.prompts: needed, as the same diffusion model is told of prompts elsewhere"
        if prompts is not None and not preset.diffusion.pipeline:
            yield f"{key}.prompts: belong to diffusion.pipeline"
    for name, method in preset.methods.items():
        if any(given.values()) and (method.supervision, method.sees) == ("labels", "x0_hat"):
            yield f"methods.{name}.sees: real images have no prompts, by which x0_hat is estimated"


def _images(preset: Preset) -> Iterator[str]:
    """Yield networks that cannot take the data set's images."""
    data = preset.dataset
    for name, spec in preset.networks.items():
        for key in ("mean", "std"):
            numbers = getattr(spec, key)
            if numbers and len(numbers) not in (1, data.channels):
                channels = f"{data.channels} channel{'s' * (data.channels > 1)}"
                yield f"{preset.key(name)}.{key}: {len(numbers)} numbers for images of {channels}"
        if spec.train and (shift := spec.train.shift) >= data.image_size:
            yield f"{preset.key(name)}.train.shift: {shift} pixels move an image of {data.image_size} out of sight"
    if runs.needs_data(preset):
        for key, value in data.facts.sizes.items():
            if getattr(data, key) != value:
                yield f"dataset.{key}: {getattr(data, key)}, but {data.kind} have {value}"


def _classes(preset: Preset) -> Iterator[str]:
    count = preset.dataset.classes
    wanted = [("sampling.classes", c) for c in preset.sampling.classes or ()]
    for key, number in (*wanted, ("figures.target_class", preset.figures.target_class)):
        if number >= count:
            yield f"{key}: there is no class {number}; the classes are 0 to {count - 1}"


def _tasks(preset: Preset) -> Iterator[str]:
    """Yield tasks that lack what they need, such as labels of label maps, or have two judges."""
    for name, spec in preset.networks.items():
        kind = preset.task(name)
        if kind.outputs and getattr(preset.dataset, kind.outputs) is None:
            yield f"dataset.{kind.outputs}: {preset.key(name)} needs it"
        elif kind.takes:
            yield from _failing(f"{preset.key(name)}.task_options", _numbers, preset, name)
        if kind.of_pictures and spec.train and spec.train.shift:
            yield f"{preset.key(name)}.train.shift: would move the picture, but not what is true of it"
    judged = Counter(spec.task for spec in preset.judges.values())
    for name, judge in preset.judges.items():
        if judged[judge.task] > 1:
            yield f"judges.{name}.task: two judges of {judge.task}; one is enough"
        if not preset.task(name).of_pictures:
            yield f"judges.{name}.task: classes are judged by the evaluator"


def _numbers(preset: Preset, name: str) -> int:
    return preset.task_of(name).numbers


def _truths(preset: Preset) -> Iterator[str]:
    """Yield what would learn from real images whose truths are not known."""
    learning = {n: f"{preset.key(n)}.train" for n, spec in preset.networks.items() if spec.train}
    for run in runs.all_runs(preset):
        if preset.methods[run.method].supervision == "labels":
            learning.setdefault(run.guide, f"methods.{run.method}.supervision")
    for name, key in learning.items():
        if not runs.knows_truth(preset, name) and not (preset.task(name).own_look and key.startswith("methods.")):
            yield f"{key}: images of kind {preset.dataset.kind} say nothing of {preset.task_name(name)} ({name})"


def _targets(preset: Preset) -> Iterator[str]:
    """Yield guides whose samples have no source of targets."""
    data = preset.dataset
    for guide, spec in preset.guides.items():
        of_pictures, folder = preset.task(guide).of_pictures, spec.targets.folder
        if folder is not None and not of_pictures:
            yield f"guides.{guide}.targets.folder: classes are given by sampling.classes"
        if spec.targets.words is not None and not preset.task(guide).of_words:
            yield f"guides.{guide}.targets.words: are targets of an embedding, not of {spec.task}"
        if spec.targets.maps != "nearness" and spec.task != DEPTH:
            yield f"guides.{guide}.targets.maps: is said of depth maps, not of {spec.task}"
        known = preset.task(guide).own_look or runs.knows_truth(preset, guide)
        if of_pictures and spec.targets.held_out and not known:
            yield f"guides.{guide}.targets: images of kind {data.kind} say nothing of {spec.task}; give a `folder`"


def _whole(preset: Preset) -> Iterator[str]:
    """Yield what takes real pictures of a cascade, or of a data set that is not read as a whole."""
    methods = sorted({run.method for run in runs.all_runs(preset) if not preset.guidance(run.method).drawn})
    if preset.diffusion.upsampling:
        yield from (f"methods.{method}: a cascade has no real pictures of both sizes" for method in methods)
    trained = [name for name in (DIFFUSION, *preset.networks) if preset.training(name) is not None]
    shown = [guide for guide in runs.guides_of_pictures(preset) if preset.guides[guide].targets.held_out]
    needing = [f"{preset.key(name)}.train" for name in trained] + [f"guides.{guide}.targets" for guide in shown]
    needing += [f"methods.{name}.taught_on" for name in runs.taught_on_real(preset)]
    if not preset.dataset.facts.whole:
        for key in (*needing, *(f"methods.{method}" for method in methods)):
            yield f"{key}: images of kind {preset.dataset.kind} are not read as a whole"
    for run in runs.all_runs(preset):
        spec = preset.guides.get(run.guide)
        if spec and spec.targets.words is not None and not preset.guidance(run.method).drawn:
            yield f"methods.{run.method}: the targets of {run.guide} are words, and no real picture shows them"


def _evaluation(preset: Preset) -> Iterator[str]:
    evaluator, samples = preset.evaluator, preset.sampling.samples
    if evaluator.neighbours >= samples:
        yield (
            f"evaluator.neighbours: {evaluator.neighbours}, but a sampling seed has no more than {samples} samples "
            "(sampling.samples)"
        )
    yield from (f"{EVALUATOR}.{problem}" for problem in evaluator.problems(preset.dataset))


def _rows(preset: Preset) -> Iterator[str]:
    """Yield rows that stand twice, and guides of the main table without a run that figures can show."""
    for table in preset.tables:
        for run, count in Counter(runs.table_runs(preset, table)).items():
            if count > 1:
                yield f"tables.{table}: the row {', '.join(run)} stands there twice"
    for guide in runs.main_guides(preset):
        if not preset.diffusion.latent_space and not runs.runs_seeing_x_t(preset, guide):
            rows = f"tables.main has no row of {guide} with {preset.figures.sampler}"
            yield f"figures.sampler: {rows} that is guided by a model on x_t or by experts, to be shown"


def _downloads(preset: Preset) -> Iterator[str]:
    """Yield downloads of one name, which lie side by side and would be taken for each other."""
    places: dict[str, str] = {}
    for key, file in preset.files.items():
        if file.local is None and places.setdefault(file.name, file.url) != file.url:
            yield f"{key}: another download is called {file.name} too; give one of them a `file`"
