# Guided samples, shard by shard.


rule samples:
    input:
        TARGETS.samples,


rule sample:
    input:
        f"{ROOT}/models/diffusion.safetensors",
        GRAPH.guiding,
    output:
        f"{ROOT}/samples/{{sampler}}/{{guide}}/{{method}}/{{shard}}.npy",
        f"{ROOT}/samples/{{sampler}}/{{guide}}/{{method}}/{{shard}}.safetensors",
    log:
        f"{ROOT}/logs/sample/{{sampler}}/{{guide}}/{{method}}/{{shard}}.log",
    benchmark:
        f"{ROOT}/benchmarks/sample/{{sampler}}/{{guide}}/{{method}}/{{shard}}.tsv"
    priority: 10
    conda:
        ENVIRONMENT
    threads: PRESET.resources.sample.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.sample.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.sample.runtime * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        shard=lambda wildcards: int(wildcards.shard),
        depends=GRAPH.sampling,
    message:
        "Sampling {wildcards.sampler}, guide {wildcards.guide}, {wildcards.method}, shard {wildcards.shard}"
    shell:
        "ppap sample {params.preset:q} {wildcards.sampler:q} {wildcards.guide:q} {wildcards.method:q}"
        " --shard {params.shard:q} > {log:q} 2>&1"
