include: "workflow/Snakefile"


# Snakemake takes its default target from this file only, never from an included one.
rule paper:
    default_target: True
    input:
        rules.all.input,
