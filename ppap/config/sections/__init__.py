"""The sections of a preset: a class for each key, which says what may stand there."""
