"""What the rule files ask: the checked preset, inputs of a rule, fingerprints that tell Snakemake to rerun."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from ppap import preset as presets
from ppap.errors import ConfigError
from ppap.graph.dependencies import (
    fingerprint,
    of_clean_images,
    of_expert,
    of_external,
    of_figures,
    of_labels,
    of_metrics,
    of_model,
    of_samples,
    of_tables,
)
from ppap.graph.layout import Layout
from ppap.graph.targets import Targets
from ppap.preset import CLASSIFIER, DATASET, EVALUATOR, REFERENCE, Preset
from ppap.preset.runs import (
    WARM,
    ExpertJob,
    Run,
    computed_runs,
    external_models,
    group,
    has_warm_start,
    stored_as,
    trained_models,
    used_guides,
    warm_name,
)
from ppap.process import failures

Wildcards = Any
_UNSAFE = re.compile(r"[^\w ./+@,=%~:-]|^[-~]")
Inputs = Callable[[Wildcards], list[str]]


def load_preset(options: dict[str, Any]) -> tuple[str, Preset]:
    """The preset that `--config preset=` names and its file; one line and exit code 2 if it is wrong."""
    with failures.ending_the_process("snakemake"):
        path = preset_file(options.get("preset", "digits"))
        return str(path), presets.load(path)


def preset_file(named: Any) -> Path:
    """The file of the preset that Snakemake's configuration names; ConfigError if it is no plain path.

    Snakemake hands its configuration on to the shells of jobs that it starts elsewhere (Slurm, conda), in
    quotes that do not hold every character.
    """
    found = _UNSAFE.search(str(named))
    if found:
        raise ConfigError(
            f"preset {str(named)!r}: {found[0]!r} is no character for the path of a preset; rename it"
        )
    return presets.find(str(named))


def check_before_first_job(workflow: Any, preset: str) -> None:
    """Have Snakemake check a preset in full before the first job of a run, in a process of its own.

    It ends with the check's lines and exit code if something is wrong. Dry runs have no such hook, nor have
    the processes that Snakemake starts for single jobs. Snakemake runs the `onstart:` of the outermost
    Snakefile only, and this workflow is a module of that, in a clone and wherever it is deployed: hence not
    the directive. What such a Snakefile does in its own `onstart:` comes after.
    """
    after = workflow._onstart

    def check(log: Any) -> None:
        if not workflow.touch:
            command = [sys.executable, "-P", "-m", "ppap", "config", "check", preset, "--files"]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            if done.returncode:
                raise SystemExit(done.returncode)  # gives the folder's lock back on its way
        after(log)

    workflow._onstart = check


class Graph:
    """A preset's graph: each method gives a rule's inputs or parameters for its wildcards."""

    def __init__(self, config: Preset) -> None:
        self.preset, self.layout = config, Layout(config)
        self.root = str(self.layout.root)
        self.gpu = 0 if config.runtime.device == "cpu" else 1

    # -- names, for wildcard constraints ---------------------------------------------------------

    @property
    def guides(self) -> list[str]:
        return used_guides(self.preset)

    @cached_property
    def trained_models(self) -> list[str]:
        return trained_models(self.preset)

    @cached_property
    def external_models(self) -> list[str]:
        return external_models(self.preset)

    @property
    def models(self) -> list[str]:
        return [*self.trained_models, *self.external_models]

    @property
    def trained_methods(self) -> list[str]:
        """The methods whose experts the workflow trains."""
        return [name for name, method in self.preset.methods.items() if not method.imported]

    # -- inputs ----------------------------------------------------------------------------------

    @cached_property
    def clean(self) -> list[str]:
        return Targets(self.preset).clean

    @property
    def data(self) -> list[str]:
        """The file of real images, where they are downloaded into one."""
        return [str(self.layout.model(DATASET))] if DATASET in self.external_models else []

    @property
    def reference(self) -> list[str]:
        """The real images that samples are compared with."""
        return (
            [str(self.layout.model(REFERENCE))] if REFERENCE in self.external_models else self.data
        )

    @property
    def judges(self) -> list[str]:
        """The evaluator's networks."""
        return [str(self.layout.model(m)) for m in (EVALUATOR, CLASSIFIER) if m in self.models]

    def labelled(self, wildcards: Wildcards) -> list[str]:
        """The clean images of one file of labels."""
        each, part = self.preset.clean_images.label_shards, int(wildcards.shard)
        return self.clean[part * each : (part + 1) * each]

    def lesson(self, wildcards: Wildcards) -> list[str]:
        """What an expert learns from: real images, or clean ones with the teacher's labels."""
        method = getattr(wildcards, "method", None)
        taught = self.preset.methods[method].supervision if method else wildcards.supervision
        if taught == "labels":
            return self.data
        labels = [
            self.layout.labels(wildcards.guide, i) for i in range(len(self.layout.label_sizes))
        ]
        return self.clean + [str(path) for path in labels]

    def start(self, wildcards: Wildcards) -> list[str]:
        """The expert that this one starts from, if any."""
        method, part = self.preset.methods[wildcards.method], int(wildcards.part)
        if has_warm_start(self.preset, method):
            return [str(self.layout.warm(wildcards.guide, warm_name(method)))]
        if self.preset.experts.warm_start == "sequential" and part > 1:
            return [str(self.layout.expert(wildcards.guide, wildcards.method, part - 1))]
        return []

    def warm_method(self, wildcards: Wildcards) -> str:
        """A method that uses this shared start."""
        wanted = f"{WARM}_{wildcards.supervision}_{wildcards.trainable}"
        return next(
            name
            for name, method in self.preset.methods.items()
            if has_warm_start(self.preset, method) and warm_name(method) == wanted
        )

    def guiding(self, wildcards: Wildcards) -> list[str]:
        """The networks that guide a run."""
        method = self.preset.methods[wildcards.method]
        if method.guidance == "none":
            return []
        experts = self.layout.experts(wildcards.guide, wildcards.method)
        return [str(path) for path in (self.layout.model(wildcards.guide), *experts)]

    def methods(self, wildcards: Wildcards) -> list[str]:
        """The methods that are evaluated in one job."""
        return [run.method for run in group(self.preset, wildcards.sampler, wildcards.guide)]

    def samples(self, wildcards: Wildcards) -> list[str]:
        """All shards, and the target classes beside them, of the runs with a sampler and guide."""
        runs = group(self.preset, wildcards.sampler, wildcards.guide)
        shards = range(len(self.layout.sample_sizes))
        images = [self.layout.samples(run, shard) for run in runs for shard in shards]
        return [
            str(path) for image in images for path in (image, image.with_suffix(".safetensors"))
        ]

    def table_metrics(self, wildcards: Wildcards) -> list[str]:
        runs = computed_runs(self.preset, wildcards.table)
        stored = [stored_as(self.preset, run) for run in runs]
        found = (self.layout.metrics(run.sampler, run.guide) for run in stored)
        return list(dict.fromkeys(str(path) for path in found))

    def table_experts(self, wildcards: Wildcards) -> list[str]:
        runs = computed_runs(self.preset, wildcards.table)
        experts = [p for run in runs for p in self.layout.experts(run.guide, run.method)]
        return list(dict.fromkeys(str(path) for path in experts))

    def figure_inputs(self, wildcards: Wildcards) -> list[str]:
        """Samples, metrics and experts of the main table's runs."""
        stored = [stored_as(self.preset, run) for run in computed_runs(self.preset, "main")]
        needed = [
            path
            for run in stored
            for path in (
                self.layout.metrics(run.sampler, run.guide),
                self.layout.samples(run, 0),
            )
        ]
        experts = [p for run in stored for p in self.layout.experts(run.guide, run.method)]
        unique = dict.fromkeys(str(path) for path in (*needed, *experts))
        return [*unique, *self.clean[:1], *self.data]

    # -- report ----------------------------------------------------------------------------------

    def table_labels(self, wildcards: Wildcards) -> dict[str, str]:
        return {"table": wildcards.table.replace("_", "-")}

    def figure_group(self, wildcards: Wildcards) -> str:
        return "Samples" if wildcards.figure.startswith("samples_") else "Analysis"

    def figure_labels(self, wildcards: Wildcards) -> dict[str, str]:
        kind, _, guide = wildcards.figure.partition("_")
        return {"guide": guide} if guide else {"figure": kind}

    # -- parameters: a change of these makes a rule's outputs stale ------------------------------

    def depends(self, *keys: str) -> str:
        return fingerprint(self.preset, *keys)

    @property
    def generating(self) -> str:
        return self.depends(*of_clean_images(self.preset))

    def pretraining(self, wildcards: Wildcards) -> str:
        return self.depends(*of_model(self.preset, wildcards.model))

    def downloading(self, wildcards: Wildcards) -> str:
        return self.depends(*of_external(self.preset, wildcards.model))

    def warm_training(self, wildcards: Wildcards) -> str:
        return self.depends(
            *of_expert(ExpertJob(wildcards.guide, self.warm_method(wildcards), WARM))
        )

    def expert_training(self, wildcards: Wildcards) -> str:
        return self.depends(
            *of_expert(ExpertJob(wildcards.guide, wildcards.method, wildcards.part))
        )

    @property
    def labelling(self) -> str:
        return self.depends(*of_labels())

    @property
    def evaluating(self) -> str:
        return self.depends(*of_metrics())

    @property
    def tabulating(self) -> str:
        return self.depends(*of_tables())

    @property
    def drawing(self) -> str:
        return self.depends(*of_figures())

    def sampling(self, wildcards: Wildcards) -> str:
        return self.depends(*of_samples(Run(wildcards.sampler, wildcards.guide, wildcards.method)))
