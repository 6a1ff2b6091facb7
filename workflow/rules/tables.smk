# The paper's tables and figures.


rule tables:
    input:
        TARGETS.tables,
        TARGETS.figures,


rule table:
    input:
        GRAPH.table_metrics,
        GRAPH.table_experts,
    output:
        expand(
            f"{ROOT}/tables/{{{{table}}}}.{{suffix}}",
            suffix=["csv", "md", "tex", "json"],
        ),
        report(
            f"{ROOT}/tables/{{table}}.html",
            caption="../report/table.rst",
            category="Tables",
            labels=GRAPH.table_labels,
        ),
    log:
        f"{ROOT}/logs/tables/{{table}}.log",
    benchmark:
        f"{ROOT}/benchmarks/tables/{{table}}.tsv"
    conda:
        ENVIRONMENT
    threads: PRESET.resources.tables.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.tables.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.tables.runtime * attempt,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.tabulating,
    message:
        "Writing table {wildcards.table}"
    shell:
        "ppap table {params.preset:q} {wildcards.table:q} > {log:q} 2>&1"


rule figure:
    input:
        GRAPH.figure_inputs,
    output:
        report(
            f"{ROOT}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            subcategory=GRAPH.figure_group,
            labels=GRAPH.figure_labels,
        ),
    log:
        f"{ROOT}/logs/figures/{{figure}}.log",
    benchmark:
        f"{ROOT}/benchmarks/figures/{{figure}}.tsv"
    conda:
        ENVIRONMENT
    threads: PRESET.resources.figures.threads
    resources:
        mem_mb=lambda wildcards, attempt: PRESET.resources.figures.mem_mb * attempt,
        runtime=lambda wildcards, attempt: PRESET.resources.figures.runtime * attempt,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.drawing,
    message:
        "Drawing figure {wildcards.figure}"
    shell:
        "ppap figure {params.preset:q} {wildcards.figure:q} > {log:q} 2>&1"
