# What the preset takes from elsewhere: public weights, reference images. Runs where Snakemake runs, because a
# cluster's nodes often have no network. Downloads lie in downloads/, for all presets ($PPAP_DOWNLOADS).
localrules:
    download,


rule download:
    output:
        f"{ROOT}/{{kind}}/{{model}}.safetensors",
    log:
        f"{ROOT}/logs/{{kind}}/{{model}}.log",
    benchmark:
        f"{ROOT}/benchmarks/{{kind}}/{{model}}.tsv"
    wildcard_constraints:
        model="|".join(GRAPH.external_models) or "nothing",
    priority: 50
    retries: 3
    conda:
        ENVIRONMENT
    threads: PRESET.resources.download.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.download.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.download.runtime * attempt,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.downloading,
    message:
        "Downloading {wildcards.model}"
    shell:
        "ppap download {params.preset:q} {wildcards.model:q} > {log:q} 2>&1"
