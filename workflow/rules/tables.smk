# The paper's tables and figures.


rule tables:
    input:
        GRAPH.tables,
        GRAPH.figures,


rule table:
    input:
        GRAPH.table_metrics,
        GRAPH.table_experts,
    output:
        expand(
            f"{ROOT}/tables/{{{{table}}}}.{{suffix}}",
            suffix=["csv", "md", "tex", "json"],
        ),
    log:
        f"{ROOT}/logs/tables/{{table}}.log",
    benchmark:
        f"{ROOT}/benchmarks/tables/{{table}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.tabulating,
    message:
        "Writing table {wildcards.table}"
    shell:
        "ppap table {params.preset} {wildcards.table} > {log} 2>&1"


rule figure:
    input:
        GRAPH.figure_inputs,
    output:
        f"{ROOT}/figures/{{figure}}.png",
    log:
        f"{ROOT}/logs/figures/{{figure}}.log",
    benchmark:
        f"{ROOT}/benchmarks/figures/{{figure}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.drawing,
    message:
        "Drawing figure {wildcards.figure}"
    shell:
        "ppap figure {params.preset} {wildcards.figure} > {log} 2>&1"
