#!/usr/bin/env bash
# Snakemake runs this in the conda environment it has made: the project and what it depends on, as locked.
# (Not `pip:` in the YAML file: conda would look for requirements.lock beside the copy that Snakemake makes of it.)
set -euo pipefail
cd "${PPAP_SOURCE:-.}" # the clone, where the workflow is used as a module of another folder
python -m pip install --require-hashes -r requirements.lock
python -m pip install --no-build-isolation --no-deps .
