# What the preset trains itself: the diffusion model, the off-the-shelf guides, the evaluator.


rule models:
    input:
        GRAPH.trained,


rule pretrain:
    output:
        f"{ROOT}/models/{{model}}.safetensors",
    log:
        f"{ROOT}/logs/pretrain/{{model}}.log",
    benchmark:
        f"{ROOT}/benchmarks/pretrain/{{model}}.tsv"
    priority: 50
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.pretraining,
    message:
        "Training {wildcards.model} on real images"
    shell:
        "ppap pretrain {params.preset} {wildcards.model} > {log} 2>&1"
