# A teacher's answers on the clean images; a job takes several shards.


rule labels:
    input:
        TARGETS.labels,


rule label:
    input:
        f"{ROOT}/models/{{guide}}.safetensors",
        GRAPH.labelled,
    output:
        f"{ROOT}/labels/{{guide}}/{{shard}}.safetensors",
    log:
        f"{ROOT}/logs/label/{{guide}}/{{shard}}.log",
    benchmark:
        f"{ROOT}/benchmarks/label/{{guide}}/{{shard}}.tsv"
    priority: 30
    conda:
        ENVIRONMENT
    threads: PRESET.resources.label.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.label.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.label.runtime * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        part=lambda wildcards: int(wildcards.shard),
        depends=GRAPH.labelling,
    message:
        "Labelling clean images with {wildcards.guide}, part {wildcards.shard}"
    shell:
        "ppap label {params.preset:q} {wildcards.guide:q} --part {params.part:q} > {log:q} 2>&1"
