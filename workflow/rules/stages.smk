# The stages of the workflow as targets: `snakemake samples` makes every sample. DVC runs them as its stages.


for stage, files in TARGETS.items():

    rule:
        name:
            stage
        input:
            files,
