# A teacher's answers on the clean images.


rule labels:
    input:
        GRAPH.labels,


rule label:
    input:
        f"{ROOT}/models/{{guide}}.safetensors",
        GRAPH.clean,
    output:
        expand(f"{ROOT}/labels/{{{{guide}}}}/{{shard}}.safetensors", shard=GRAPH.shards),
    log:
        f"{ROOT}/logs/label/{{guide}}.log",
    benchmark:
        f"{ROOT}/benchmarks/label/{{guide}}.tsv"
    priority: 30
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
        "Labelling the clean images with {wildcards.guide}"
    shell:
        "ppap label {params.preset} {wildcards.guide} > {log} 2>&1"
