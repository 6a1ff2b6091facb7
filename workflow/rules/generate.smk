# Clean images, drawn by the diffusion model without guidance.


rule clean_images:
    input:
        TARGETS.clean,


rule generate:
    input:
        f"{ROOT}/models/diffusion.safetensors",
    output:
        f"{ROOT}/clean/{{shard}}.npy",
    log:
        f"{ROOT}/logs/generate/{{shard}}.log",
    benchmark:
        f"{ROOT}/benchmarks/generate/{{shard}}.tsv"
    priority: 40
    conda:
        ENVIRONMENT
    threads: PRESET.resources.generate.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.generate.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.generate.runtime * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        shard=lambda wildcards: int(wildcards.shard),
        depends=GRAPH.generating,
    message:
        "Drawing clean images, shard {wildcards.shard}"
    shell:
        "ppap generate {params.preset:q} --shard {params.shard:q} > {log:q} 2>&1"
