# Features, once a sample set, and the metrics made of them.


rule reference_features:
    input:
        f"{ROOT}/models/evaluator.safetensors",
    output:
        f"{ROOT}/features/reference.safetensors",
    log:
        f"{ROOT}/logs/features/reference.log",
    benchmark:
        f"{ROOT}/benchmarks/features/reference.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.depends("dataset"),
    message:
        "Extracting the features of the real images"
    shell:
        "ppap features {params.preset} reference > {log} 2>&1"


# One job evaluates all methods of a sampler and guide: a set takes seconds, a process's start as long.
for sampler, guide in GRAPH.groups:

    rule:
        name:
            f"features_{sampler}_{guide}"
        input:
            f"{ROOT}/models/evaluator.safetensors",
            GRAPH.samples(sampler, guide),
        output:
            expand(
                f"{ROOT}/features/{sampler}/{guide}/{{method}}.safetensors",
                method=GRAPH.methods(sampler, guide),
            ),
            expand(
                f"{ROOT}/samples/{sampler}/{guide}/{{method}}/samples.npz",
                method=GRAPH.methods(sampler, guide),
            ),
        log:
            f"{ROOT}/logs/features/{sampler}_{guide}.log",
        benchmark:
            f"{ROOT}/benchmarks/features/{sampler}_{guide}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 60 * attempt,
            gpu=GRAPH.gpu,
        params:
            preset=PRESET_FILE,
            run=f"{sampler} {guide}",
            methods=GRAPH.methods(sampler, guide),
        message:
            f"Extracting the features of {sampler}, guide {guide}"
        shell:
            "ppap features {params.preset} {params.run} {params.methods} > {log} 2>&1"

    rule:
        name:
            f"metrics_{sampler}_{guide}"
        input:
            f"{ROOT}/features/reference.safetensors",
            expand(
                f"{ROOT}/features/{sampler}/{guide}/{{method}}.safetensors",
                method=GRAPH.methods(sampler, guide),
            ),
        output:
            expand(
                f"{ROOT}/metrics/{sampler}/{guide}/{{method}}.json",
                method=GRAPH.methods(sampler, guide),
            ),
        log:
            f"{ROOT}/logs/metrics/{sampler}_{guide}.log",
        benchmark:
            f"{ROOT}/benchmarks/metrics/{sampler}_{guide}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 60 * attempt,
        params:
            preset=PRESET_FILE,
            run=f"{sampler} {guide}",
            methods=GRAPH.methods(sampler, guide),
            depends=GRAPH.depends("evaluator.neighbours"),
        message:
            f"Computing the metrics of {sampler}, guide {guide}"
        shell:
            "ppap metrics {params.preset} {params.run} {params.methods} > {log} 2>&1"
