# Noise-aware experts: one job per range, after the start that all ranges share.


rule experts:
    input:
        TARGETS.experts,


rule warm_start:
    input:
        f"{ROOT}/models/{{guide}}.safetensors",
        GRAPH.lesson,
    output:
        f"{ROOT}/experts/{{guide}}/warm_{{supervision}}_{{trainable}}.safetensors",
    log:
        f"{ROOT}/logs/experts/{{guide}}/warm_{{supervision}}_{{trainable}}.log",
    benchmark:
        f"{ROOT}/benchmarks/experts/{{guide}}/warm_{{supervision}}_{{trainable}}.tsv"
    priority: 30
    conda:
        ENVIRONMENT
    threads: PRESET.resources.train_expert.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.train_expert.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.train_expert.runtime
        * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        method=GRAPH.warm_method,
        depends=GRAPH.warm_training,
    message:
        "Training the shared start of {wildcards.guide}'s experts ({wildcards.supervision}, {wildcards.trainable})"
    shell:
        "ppap train-expert {params.preset:q} {wildcards.guide:q} {params.method:q} warm > {log:q} 2>&1"


rule train_expert:
    input:
        f"{ROOT}/models/{{guide}}.safetensors",
        GRAPH.lesson,
        GRAPH.start,
    output:
        f"{ROOT}/experts/{{guide}}/{{method}}/expert_{{part}}.safetensors",
    log:
        f"{ROOT}/logs/experts/{{guide}}/{{method}}/expert_{{part}}.log",
    benchmark:
        f"{ROOT}/benchmarks/experts/{{guide}}/{{method}}/expert_{{part}}.tsv"
    wildcard_constraints:
        method="|".join(GRAPH.trained_methods),
    priority: 20
    conda:
        ENVIRONMENT
    threads: PRESET.resources.train_expert.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.train_expert.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.train_expert.runtime
        * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.expert_training,
    message:
        "Training expert {wildcards.part} of {wildcards.guide}, {wildcards.method}"
    shell:
        "ppap train-expert {params.preset:q} {wildcards.guide:q} {wildcards.method:q} {wildcards.part:q}"
        " > {log:q} 2>&1"
