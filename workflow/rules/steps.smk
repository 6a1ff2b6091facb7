# The steps of the workflow (ppap/workflow/steps, a module each), as rules: what they read and write, what a change of
# the preset makes stale, what they ask of the machine.


for RULE in all_rules(LAYOUT, PRESET_FILE):
    if RULE.local:
        workflow.localrules(RULE.name)

    rule:
        name:
            RULE.name
        input:
            RULE.input,
        output:
            RULE.output,
        log:
            RULE.log,
        benchmark:
            RULE.benchmark
        wildcard_constraints:
            **RULE.wildcard_constraints,
        priority: RULE.priority
        retries: RULE.retries
        conda:
            ENVIRONMENT
        threads: RULE.threads
        resources:
            **RULE.resources,
        params:
            **RULE.params,
        message:
            RULE.message
        shell:
            "ppap {params.command:q} {params.preset:q} {params.arguments:q} > {log:q} 2>&1"
