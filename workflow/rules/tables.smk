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
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.depends("tables", "guides"),
    message:
        "Writing table {wildcards.table}"
    shell:
        "ppap table {params.preset} {wildcards.table} > {log} 2>&1"


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
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
        gpu=GRAPH.gpu,
    params:
        preset=PRESET_FILE,
        depends=GRAPH.depends("tables", "guides", "figures"),
    message:
        "Drawing figure {wildcards.figure}"
    shell:
        "ppap figure {params.preset} {wildcards.figure} > {log} 2>&1"
