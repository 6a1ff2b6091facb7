"""The jobs that Snakemake runs for a preset from nothing, listed without it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

from ppap.graph.layout import model_kind, shard_name
from ppap.preset import Preset
from ppap.preset.runs import all_runs, figure_names, group, has_warm_start, taught_guides, warm_name
from ppap.workflow.graph import Graph


class Job(NamedTuple):
    """A job of a rule. `name` is that of its benchmark file, under results/PRESET/benchmarks."""

    rule: str
    name: str
    wildcards: dict[str, Any]
    inputs: list[str]
    outputs: list[str]


def all_jobs(preset: Preset) -> list[Job]:
    """Every job of the preset, each after the ones that it waits for."""
    graph = Graph(preset)
    return [
        *_models(graph),
        *_clean(graph),
        *_labels(graph),
        *_warm_starts(graph),
        *_experts(graph),
        *_samples(graph),
        *_evaluation(graph),
        *_results(graph),
    ]


def _models(graph: Graph) -> Iterator[Job]:
    """Networks and data of others, then what is trained here."""
    for rule, models, inputs in (
        ("download", graph.external_models, []),
        ("pretrain", graph.trained_models, graph.data),
    ):
        for model in models:
            outputs = [str(graph.layout.model(model))]
            yield Job(rule, f"{model_kind(model)}/{model}", {"model": model}, inputs, outputs)


def _clean(graph: Graph) -> Iterator[Job]:
    diffusion = [str(graph.layout.model("diffusion"))]
    for index, path in enumerate(graph.clean):
        name = f"generate/{shard_name(index)}"
        yield Job("generate", name, {"shard": index}, diffusion, [path])


def _labels(graph: Graph) -> Iterator[Job]:
    preset, layout = graph.preset, graph.layout
    for guide in taught_guides(preset):
        for index in range(len(layout.label_sizes)):
            part = shard_name(index)
            inputs = [str(layout.model(guide)), *graph.labelled(SimpleNamespace(shard=part))]
            outputs = [str(layout.labels(guide, index))]
            wildcards = {"guide": guide, "part": index}
            yield Job("label", f"label/{guide}/{part}", wildcards, inputs, outputs)


def _banks(graph: Graph) -> list[tuple[str, str]]:
    """Guides and methods whose runs use experts, each pair once."""
    methods = graph.preset.methods
    runs = (run for run in all_runs(graph.preset) if methods[run.method].guidance == "experts")
    return list(dict.fromkeys((run.guide, run.method) for run in runs))


def _warm_starts(graph: Graph) -> Iterator[Job]:
    methods, layout = graph.preset.methods, graph.layout
    shared = [(g, m) for g, m in _banks(graph) if has_warm_start(graph.preset, methods[m])]
    for (guide, name), method in {(g, warm_name(methods[m])): m for g, m in shared}.items():
        wildcards = {"guide": guide, "method": method, "part": "warm"}
        inputs = [str(layout.model(guide)), *graph.lesson(SimpleNamespace(**wildcards))]
        outputs = [str(layout.warm(guide, name))]
        yield Job("warm_start", f"experts/{guide}/{name}", wildcards, inputs, outputs)


def _experts(graph: Graph) -> Iterator[Job]:
    layout = graph.layout
    for guide, method in _banks(graph):
        for part, path in enumerate(layout.experts(guide, method), start=1):
            wildcards = {"guide": guide, "method": method, "part": str(part)}
            named = SimpleNamespace(**wildcards)
            inputs = [str(layout.model(guide)), *graph.lesson(named), *graph.start(named)]
            name = f"experts/{guide}/{method}/expert_{part}"
            yield Job("train_expert", name, wildcards, inputs, [str(path)])


def _samples(graph: Graph) -> Iterator[Job]:
    for run in all_runs(graph.preset):
        inputs = [
            str(graph.layout.model("diffusion")),
            *graph.guiding(SimpleNamespace(**run._asdict())),
        ]
        for shard in range(len(graph.layout.sample_sizes)):
            path = graph.layout.samples(run, shard)
            outputs = [str(path), str(path.with_suffix(".safetensors"))]
            name = "/".join(["sample", *run, path.stem])
            yield Job("sample", name, {"run": run, "shard": shard}, inputs, outputs)


def _evaluation(graph: Graph) -> Iterator[Job]:
    layout, reference = graph.layout, str(graph.layout.reference)
    inputs = [*graph.judges, *graph.reference]
    yield Job("reference_features", "features/reference", {}, inputs, [reference])
    for sampler, guide in dict.fromkeys((r.sampler, r.guide) for r in all_runs(graph.preset)):
        wildcards = {"sampler": sampler, "guide": guide}
        inputs = [*graph.judges, *graph.samples(SimpleNamespace(**wildcards))]
        features, metrics = layout.features(sampler, guide), layout.metrics(sampler, guide)
        archives = layout.archive(group(graph.preset, sampler, guide)[0]).parent
        outputs = [str(features), str(archives)]
        yield Job("features", f"features/{sampler}_{guide}", wildcards, inputs, outputs)
        inputs = [reference, str(features)]
        yield Job("metrics", f"metrics/{sampler}_{guide}", wildcards, inputs, [str(metrics)])


def _results(graph: Graph) -> Iterator[Job]:
    layout = graph.layout
    for table in graph.preset.tables:
        wildcards = SimpleNamespace(table=table)
        inputs = [*graph.table_metrics(wildcards), *graph.table_experts(wildcards)]
        yield Job(
            "table", f"tables/{table}", {"table": table}, inputs, [str(layout.table(table, "md"))]
        )
    inputs = graph.figure_inputs(SimpleNamespace())
    for figure in figure_names(graph.preset):
        outputs = [str(layout.figure(figure))]
        yield Job("figure", f"figures/{figure}", {"figure": figure}, inputs, outputs)
