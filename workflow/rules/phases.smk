# The phases of the workflow as targets: `snakemake samples` makes every sample. DVC runs them as its stages.


for phase, files in TARGETS.items():

    rule:
        name:
            phase
        input:
            files,
