# A clone uses the workflow as any other folder does (see README): rules and default target are the module's.
module ppap:
    snakefile:
        "workflow/Snakefile"
    config:
        config


use rule * from ppap
