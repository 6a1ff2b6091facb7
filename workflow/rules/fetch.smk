# What the preset takes from elsewhere: public weights, reference images. Runs where Snakemake runs, because a
# cluster's nodes often have no network. Downloads lie in downloads/, for all presets ($PPAP_DOWNLOADS).
localrules:
    fetch,


rule fetch:
    output:
        f"{ROOT}/{{kind}}/{{model}}.safetensors",
    log:
        f"{ROOT}/logs/{{kind}}/{{model}}.log",
    benchmark:
        f"{ROOT}/benchmarks/{{kind}}/{{model}}.tsv"
    wildcard_constraints:
        model="|".join(GRAPH.fetched_models) or "nothing",
    priority: 50
    retries: 3
    conda:
        ENVIRONMENT
    threads: PRESET.resources.fetch.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.fetch.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.fetch.runtime * attempt,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.fetching,
    message:
        "Fetching {wildcards.model}"
    shell:
        "ppap fetch {params.preset} {wildcards.model} > {log} 2>&1"
