"""The figures of a preset: one kind a module of this folder, which gathers what `ppap.report.figures` draws."""
