# Features, once a sample set, and the metrics made of them. One job evaluates all methods of a sampler
# and guide: a set takes seconds, a process's start as long.


rule evaluation:
    input:
        TARGETS.evaluation,


rule reference_features:
    input:
        GRAPH.judges,
        GRAPH.reference,
    output:
        f"{ROOT}/features/reference.safetensors",
    log:
        f"{ROOT}/logs/features/reference.log",
    benchmark:
        f"{ROOT}/benchmarks/features/reference.tsv"
    conda:
        ENVIRONMENT
    threads: PRESET.resources.features.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.features.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.features.runtime * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.depends("dataset"),
    message:
        "Extracting the features of the real images"
    shell:
        "ppap features {params.preset:q} reference > {log:q} 2>&1"


rule features:
    input:
        GRAPH.judges,
        GRAPH.samples,
    output:
        f"{ROOT}/features/{{sampler}}/{{guide}}.safetensors",
        directory(f"{ROOT}/archives/{{sampler}}/{{guide}}"),
    log:
        f"{ROOT}/logs/features/{{sampler}}_{{guide}}.log",
    benchmark:
        f"{ROOT}/benchmarks/features/{{sampler}}_{{guide}}.tsv"
    conda:
        ENVIRONMENT
    threads: PRESET.resources.features.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.features.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.features.runtime * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        methods=GRAPH.methods,
    message:
        "Extracting the features of {wildcards.sampler}, guide {wildcards.guide}"
    shell:
        "ppap features {params.preset:q} {wildcards.sampler:q} {wildcards.guide:q} {params.methods:q} > {log:q} 2>&1"


rule metrics:
    input:
        f"{ROOT}/features/reference.safetensors",
        f"{ROOT}/features/{{sampler}}/{{guide}}.safetensors",
    output:
        f"{ROOT}/metrics/{{sampler}}/{{guide}}.json",
    log:
        f"{ROOT}/logs/metrics/{{sampler}}_{{guide}}.log",
    benchmark:
        f"{ROOT}/benchmarks/metrics/{{sampler}}_{{guide}}.tsv"
    conda:
        ENVIRONMENT
    threads: PRESET.resources.metrics.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.metrics.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.metrics.runtime * attempt,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.evaluating,
    message:
        "Computing the metrics of {wildcards.sampler}, guide {wildcards.guide}"
    shell:
        "ppap metrics {params.preset:q} {wildcards.sampler:q} {wildcards.guide:q} > {log:q} 2>&1"
