# `make help` lists the targets. PRESET=NAME names a preset (config/NAME.yaml) or its file; without it: digits.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRESET ?= digits
# exported, so that recipes can say "$$PRESET": a name with spaces or $$() in it stays a name
export PRESET

# An environment that is active and has the package, of this folder or from a wheel, is used as it is.
ACTIVE := $(shell python -P -c 'import pathlib, sys, ppap; here = pathlib.Path.cwd(); \
	place = pathlib.Path(ppap.__file__).parent.parent; \
	own = pathlib.Path(sys.prefix) == here / "$(VENV)"; \
	print("yes" if not own and (place == here or "site-packages" in place.parts) else "")' 2>/dev/null)
ifneq ($(ACTIVE),yes)
export PATH := $(CURDIR)/$(BIN):$(PATH)
endif

PIP := $(BIN)/pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install tables study publish compare rehearsal notebooks test-fast test test-exhaustive test-lowest test-slurm bench bench-gpu lint format docs docs-external report pull unlock schema lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(if $(filter yes,$(ACTIVE)),,$(BIN)/.installed) ## make the environment in .venv from requirements.lock, unless one with the package is active

$(BIN)/.installed: requirements.lock pyproject.toml
	@echo "Installing the locked environment into $(VENV): about 6 GB, some minutes ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-build-isolation --no-deps -e .
	@touch $@
	@echo "Installed."

tables: install ## the main job: rebuild the paper's tables and figures (PRESET=digits), compare them with the published ones
	snakemake --config preset="$$PRESET"
	@ppap config where "$$PRESET"
	@ppap compare "$$PRESET" --if-published

study: install ## `digits` five times, for error bars that include training, with rivals and open questions (three to four hours)
	snakemake --config preset=study
	snakemake --config preset=questions
	snakemake --config preset=scales
	@ppap config where study && ppap config where questions && ppap config where scales

publish: install ## copy a preset's finished tables, figures and metrics to published/ and into README.md
	ppap publish "$$PRESET"

compare: install ## how far a preset's results lie from the published ones
	@ppap compare "$$PRESET"

rehearsal: PRESET = imagenet256
rehearsal: REHEARSAL = scratch/rehearsal_$(PRESET)/rehearsal_$(PRESET).yaml
rehearsal: install ## the whole graph of imagenet256 (or PRESET=glide, sd15, sd3) at full size on this CPU, with random weights
	python workflow/scripts/rehearsal.py $(PRESET)
	snakemake --config preset=$(REHEARSAL) --resources mem_mb=18000
	@ppap config where $(REHEARSAL)

notebooks: install ## execute the notebooks in place (digits and shapes must have been made)
	python notebooks/execute.py

test-fast: install ## run the tests marked fast
	pytest -m fast -n 2 --dist loadfile $$(grep -l mark.fast tests/*.py)

test: install ## run the tests (7 to 16 minutes)
	pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# An environment of its own over that of `make install`, whose torch it shares: to fetch another takes minutes.
# With `SHARED= OLD=.venv-lowest-torch` it shares nothing that pyproject.toml names.
SHARED := torch torchvision
OLD := .venv-lowest

$(OLD)/.installed: $(BIN)/.installed tests/lowest.py
	rm -rf $(OLD)
	$(PYTHON) -m venv $(OLD)
	$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
		> $$($(OLD)/bin/python -c 'import site; print(site.getsitepackages()[0])')/above.pth
	$(BIN)/python tests/lowest.py $(SHARED) > $(OLD)/requirements.txt
	$(OLD)/bin/pip install --quiet --progress-bar on -r $(OLD)/requirements.txt
	@touch $@

test-lowest: $(OLD)/.installed ## run the tests of what other libraries give with the lowest versions allowed
	cat $(OLD)/requirements.txt
	$(OLD)/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		tests/test_guides.py tests/test_diffusers.py tests/test_inception.py tests/test_libraries_dense.py \
		tests/test_config.py tests/test_tasks.py tests/test_targets.py

test-exhaustive: install ## run the tests that repeat others for every class of pipelines (minutes)
	pytest -m exhaustive -n 2

test-slurm: install ## run the workflow under a real, private Slurm (10 to 22 minutes; needs slurm-wlm and munge); SLURM=FILE
	pytest -m slurm $(SLURM)

# one thread each, so that the figures of several machines can be compared
bench: install ## how fast this CPU draws and trains beside named peers, as ratios (some minutes)
	python -m benchmarks.sampling
	python -m benchmarks.switching
	python -m benchmarks.scale --work forward --batch 1 --repeats 1
	python -m benchmarks.scale --work training --batch 4 --repeats 2
	python -m benchmarks.growth

# with any python3 that has torch, torchvision and timm, not installed; it says what else is missing
bench-gpu: ## what one GPU does at full size beside a plain loop (nine minutes), into docs/performance.md; BENCH=--profile
	$(PYTHON) -m benchmarks.gpu $(BENCH)

lint: install ## check style, types and the workflow
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

format: install ## bring the code into shape
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# all anew each time: what Sphinx keeps of a former build knows nothing of the package's docstrings
SPHINX := sphinx-build --quiet --fresh-env --conf-dir docs --doctree-dir build/doctrees

docs: install ## build the documentation site, build/docs/index.html; warnings and broken links within it are errors
	@rm -rf build/docs
	$(SPHINX) --builder html --fail-on-warning --keep-going . build/docs
	@echo "build/docs/index.html"

docs-external: install ## try the links of the documentation that lead elsewhere; needs network
	$(SPHINX) --builder linkcheck . build/links

report: install ## Snakemake's HTML report of a finished preset
	snakemake --config preset="$$PRESET" --report "results/$$PRESET/report.html"

pull: install ## fetch a preset's artifacts from the DVC remote, and tell Snakemake that they are current
	dvc pull
	snakemake --config preset="$$PRESET" --touch

unlock: install ## after a crash: unlock the folder
	snakemake --config "preset=$$PRESET" --unlock

schema: install ## write what the code says of presets: their JSON schema, and every key's explanation in config/README.md
	python workflow/scripts/preset_reference.py

# With the oldest Python 3.11 that is to be served: what is pinned is what that one takes.
lock: ## resolve the dependencies anew into requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --generate-hashes --strip-extras --allow-unsafe --extra test --extra lint --extra docs \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		--output-file requirements.lock pyproject.toml

clean: ## forget unfinished work (checkpoints), nothing else
	rm -rf scratch
