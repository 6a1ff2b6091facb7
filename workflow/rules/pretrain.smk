# What the preset trains itself: the diffusion model, the off-the-shelf guides, the evaluator.


rule models:
    input:
        TARGETS.models,


rule judges:
    input:
        TARGETS.judges,


rule pretrain:
    input:
        GRAPH.data,
    output:
        f"{ROOT}/{{kind}}/{{model}}.safetensors",
    log:
        f"{ROOT}/logs/{{kind}}/{{model}}.log",
    benchmark:
        f"{ROOT}/benchmarks/{{kind}}/{{model}}.tsv"
    wildcard_constraints:
        model="|".join(GRAPH.trained_models) or "nothing",
    priority: 50
    conda:
        ENVIRONMENT
    threads: PRESET.resources.pretrain.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.pretrain.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.pretrain.runtime * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.pretraining,
    message:
        "Training {wildcards.model} on real images"
    shell:
        "ppap pretrain {params.preset:q} {wildcards.model:q} > {log:q} 2>&1"
