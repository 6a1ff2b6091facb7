"""Leaf keys that parts of the work read: of networks, data, trainings and target classes.

Steps declare the keys of their jobs by these; a test records what jobs really read and finds the same.
"""

from __future__ import annotations

from ppap.config.preset import Preset
from ppap.config.runs import Run, computed_runs, drawn_runs, has_warm_start, table_runs
from ppap.data.settings import Download
from ppap.utils.settings import DATASET, DIFFUSION, EVALUATOR, REFERENCE

IMAGE = ["dataset.channels", "dataset.image_size"]
SCHEDULE = ["diffusion.noise_schedule", "diffusion.timesteps"]
DENOISER = ["diffusion.variance", "diffusion.predicts"]
CLEAN = ["clean_images.count", "clean_images.shard_size"]


def network_keys(preset: Preset, name: str) -> list[str]:
    """What building and loading a guide, the evaluator or its classifier reads."""
    own = _of(preset, name, "input_size", "mean", "std")
    return [*_built(preset, name), *own, *answer_keys(preset, name)]


def finished_keys(preset: Preset) -> list[str]:
    """What tells the size of finished images."""
    upsampling = preset.diffusion.source.upsampling
    return [*IMAGE, *([f"diffusion.{upsampling}.image_size"] if upsampling else [])]


def _built(preset: Preset, name: str) -> list[str]:
    kind = preset.task(name)
    outputs = [f"dataset.{kind.outputs}"] if kind.outputs else []
    return [
        *_of(preset, name, "model", "options"),
        *task_key(preset, name),
        "dataset.channels",
        *outputs,
    ]


def task_key(preset: Preset, name: str) -> list[str]:
    """The key that names the task of a network, if there is one."""
    named = name in preset.guides or name in preset.judges
    return [f"{preset.key(name)}.task"] if named else []


def answer_keys(preset: Preset, name: str) -> list[str]:
    """What the shape of a network's answer reads."""
    kind = preset.task(name)
    keys = [kind.outputs, *kind.reads] if kind.outputs else kind.reads
    return [*task_key(preset, name), *(f"dataset.{key}" for key in keys)]


def _of(preset: Preset, name: str, *leaves: str) -> list[str]:
    return [f"{preset.key(name)}.{leaf}" for leaf in leaves]


def diffusion_keys(preset: Preset) -> list[str]:
    """What building and loading the diffusion network reads."""
    return list(preset.diffusion.source.reads)


def denoiser_keys(preset: Preset, sampler: str) -> list[str]:
    """What the diffusion model on a sampler's schedule reads."""
    own = [f"samplers.{sampler}.kind", f"samplers.{sampler}.steps"]
    return [*own, *diffusion_keys(preset), *SCHEDULE, *DENOISER, *IMAGE]


def upsampling_keys(preset: Preset) -> list[str]:
    """What the second stage of a cascade reads to be built, loaded and drawn."""
    source, spec = preset.diffusion.source, preset.diffusion.upsampling
    assert spec is not None
    own = ("image_size", "noise_schedule", "kind", "steps", "temperature")
    noise = ["eta"] if spec.sampler(preset.module_folders).eta is None else []
    keys = [f"diffusion.{source.upsampling}.{key}" for key in (*own, *noise)]
    return [*source.upsampler_reads, *keys, "diffusion.timesteps", "diffusion.variance"]


def drawing_keys(preset: Preset, sampler: str) -> list[str]:
    """What drawing images with a sampler reads, guidance aside."""
    noise = [f"samplers.{sampler}.eta"] if preset.sampler(sampler).eta is None else []
    return [*denoiser_keys(preset, sampler), *noise]


def training_keys(prefix: str) -> list[str]:
    """What an optimisation reads of its section of the preset."""
    own = ("steps", "batch_size", "learning_rate", "weight_decay", "warmup", "decay", "ema", "clip")
    return [f"{prefix}.{key}" for key in own]


def data_keys(preset: Preset) -> list[str]:
    """What reading the real images reads."""
    own = ("kind", *preset.dataset.facts.reads)
    return [f"dataset.{key}" for key in own if key != "path"]


def target_keys(preset: Preset, guide: str) -> list[str]:
    """What the list of the targets of a guide's samples reads, by number."""
    common = ["sampling.samples", "sampling.seeds"]
    if guide in preset.guides:
        common += task_key(preset, guide)
        if preset.task(guide).of_pictures:
            return common
    return [*common, "sampling.classes", "dataset.classes"]


def targets_file_keys(preset: Preset, guide: str) -> list[str]:
    """What making the file of a guide's targets reads, where they are pictures'."""
    own = [f"guides.{guide}.targets.folder", *answer_keys(preset, guide)]
    if preset.guides[guide].targets.folder is None:
        return [*own, f"guides.{guide}.targets.count", *data_keys(preset)]
    return [*own, *IMAGE, *network_keys(preset, guide)]


def real_keys(preset: Preset, run: Run) -> list[str]:
    """What choosing the real pictures reads that stand in for a run's samples."""
    shown = preset.task(run.guide).of_pictures
    return shown_keys(preset, run.guide) if shown else data_keys(preset)


def shown_keys(preset: Preset, guide: str) -> list[str]:
    """What reading a guide's targets reads, where they are pictures'."""
    return answer_keys(preset, guide) if preset.task(guide).of_pictures else []


def judged_keys(preset: Preset, guide: str) -> list[str]:
    """What holding samples against a guide's targets reads."""
    found = [*target_keys(preset, guide), *shown_keys(preset, guide)]
    if preset.task(guide).of_pictures:
        found += [key for judge in preset.judges for key in task_key(preset, judge)]
    judge = preset.judge(guide)
    return found + (network_keys(preset, judge) if judge else [])


def download_keys(preset: Preset, name: str) -> list[str]:
    """What the download of a network or of data reads."""
    if name == DATASET:
        return ["dataset.name"]
    if name == REFERENCE:
        return reference_keys(preset)
    if name == DIFFUSION:
        source, downloads = preset.diffusion.source, preset.diffusion.downloads
        files = [_of_file(f"{DIFFUSION}.{key}", download) for key, download in downloads.items()]
        return [*source.download_reads, *(key for keys in files for key in keys)]
    spec = preset.network(name)
    if spec is None:  # of an evaluator that is no classifier
        return _of_file(f"{EVALUATOR}.weights", preset.evaluator.downloads["weights"])
    if not spec.published:
        return _built(preset, name)
    besides = _of(preset, name, *spec.library.download_reads)
    return [*_built(preset, name), *besides, *_of_file(f"{preset.key(name)}.weights", spec.weights)]


def reference_keys(preset: Preset) -> list[str]:
    """What the download of the images that samples are compared with reads."""
    source = preset.evaluator.compared_with
    assert source is not None
    key = f"{EVALUATOR}.{REFERENCE}"
    if source.archive:
        return _of_file(f"{key}.archive", source.archive)
    if source.registered:
        return [f"{key}.registered"]
    return [f"{key}.registered", f"{key}.folder", "dataset.image_size"]


def _of_file(key: str, download: Download | None) -> list[str]:
    """What is read of a file of somebody else's."""
    return [f"{key}.{leaf}" for leaf in Download.model_fields] if download else []


def run_keys(preset: Preset, sampler: str, guide: str, method: str) -> list[str]:
    """What a run's guidance reads."""
    kind = preset.guidance(method)
    scale = scale_keys(preset, sampler, guide) if kind.guided and kind.drawn else []
    return [*scale, *guiding_keys(preset, guide, method)]


def guiding_keys(preset: Preset, guide: str, method: str) -> list[str]:
    """What a run's guide, or its experts, read to be loaded."""
    kind = preset.guidance(method)
    found = [f"methods.{method}.guidance"]
    found += network_keys(preset, guide) if kind.guided and kind.drawn else []
    return found + (bank_keys(preset, guide, method) if kind.experts else [])


def scale_keys(preset: Preset, sampler: str, guide: str) -> list[str]:
    """What tells the guidance scale."""
    own = sampler in preset.guides[guide].scales
    return [f"guides.{guide}.scales", *([] if own else [f"samplers.{sampler}.scale"])]


def bank_keys(preset: Preset, guide: str, method: str) -> list[str]:
    """What tells whether expert files are those of a guide and method."""
    own = [f"methods.{method}.{key}" for key in ("experts", "supervision", "trainable")]
    return [*own, *purpose_keys(preset, guide, method), "experts.allocation"]


def purpose_keys(preset: Preset, guide: str, method: str) -> list[str]:
    adapter = [f"guides.{guide}.adapter.{key}" for key in ("rank", "alpha")]
    adapted = preset.methods[method].trainable == "adapter"
    return [f"guides.{guide}.model", *SCHEDULE, *(adapter if adapted else [])]


def lesson_keys(preset: Preset, guide: str, supervision: str) -> list[str]:
    """What an expert's lessons read: real images with labels, or clean ones with a teacher's answers."""
    if supervision == "labels":
        return [*data_keys(preset), "dataset.mirror"]
    loss = [f"experts.{key}" for key in preset.task(guide).distils_with]
    own = [*CLEAN, "clean_images.label_shards", *loss]
    return [*own, *IMAGE, *answer_keys(preset, guide), "dataset.mirror"]


def student_keys(preset: Preset, guide: str, trainable: str) -> list[str]:
    """What the training of an expert of a guide reads, lessons aside."""
    found = ["seed", *SCHEDULE, *network_keys(preset, guide)]
    training = training_keys(f"guides.{guide}.experts")
    if trainable == "adapter":
        own = ("rank", "alpha", "layers", "train", "freeze", "learning_rate")
        found += [f"guides.{guide}.adapter.{key}" for key in own]
        if preset.guides[guide].adapter.learning_rate is not None:
            training.remove(f"guides.{guide}.experts.learning_rate")
    return found + training


def evaluator_keys(preset: Preset) -> list[str]:
    """What the evaluator reads to judge images."""
    judge = preset.evaluator
    own = [f"{EVALUATOR}.kind", *(f"{EVALUATOR}.{key}" for key in judge.reads)]
    own += ["dataset.classes"] if judge.counts_classes else []
    return own + [key for name in judge.networks for key in network_keys(preset, name)]


def reference_data_keys(preset: Preset) -> list[str]:
    """What reading the real images reads that samples are compared with."""
    return [] if preset.evaluator.compared_with else [*data_keys(preset), f"{EVALUATOR}.compared"]


def rows_keys(preset: Preset, table: str) -> list[str]:
    """What tells which rows of a table are computed."""
    if preset.supervised:
        return [f"tables.{table}", "supervised"]
    methods = (run.method for run in table_runs(preset, table))
    return [f"tables.{table}", "supervised", *(f"methods.{m}.supervision" for m in methods)]


def values_keys(preset: Preset, table: str) -> list[str]:
    """What the values in a table read."""
    found = [*rows_keys(preset, table), "sampling.samples", "sampling.seeds"]
    for run in table_runs(preset, table):
        found += [f"methods.{run.method}.guidance", f"guides.{run.guide}.stands_for"]
        found += task_key(preset, run.guide)
    for run in computed_runs(preset, table):
        if preset.guidance(run.method).experts:
            found += [*bank_keys(preset, run.guide, run.method), f"methods.{run.method}.imported"]
            found += [f"guides.{run.guide}.experts.steps", "experts.warm_start"]
            if has_warm_start(preset, preset.methods[run.method]):
                found.append("experts.warm_share")
    return found


def table_keys(preset: Preset, table: str) -> list[str]:
    """What a table reads: its values, and what its note says."""
    scales = [f"samplers.{run.sampler}.scale" for run in table_runs(preset, table)]
    scales += [f"guides.{run.guide}.scales" for run in table_runs(preset, table)]
    return [*values_keys(preset, table), *scales, *printed_keys()]


def printed_keys() -> list[str]:
    """What tells whether images and judge are those of the paper's printed values."""
    return ["dataset.image_size", "dataset.classes"]


def drawn_keys(preset: Preset, guide: str) -> list[str]:
    """What tells which runs of a guide figures show, and which of them have guidance."""
    methods = (run.method for run in drawn_runs(preset, guide))
    own = [*rows_keys(preset, "main"), "figures.sampler"]
    return own + [f"methods.{method}.guidance" for method in methods]
