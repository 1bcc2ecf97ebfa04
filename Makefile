# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo serve test test-all check bench readers leg-oldest leg-newest train wheel lock docs screenshots clean

demo: $(READY)  ## the whole job on a drawn catalogue; says where the report is
	$(BIN)/python -m jobs.demo

serve: $(READY)  ## a page to search the demo's pictures with; RUN=folder takes another run
	$(BIN)/python -m jobs.serve --run $(or $(RUN),reports/demo/sights)

# Tests of a file stay in one process, for they share what is slow to make; each process has a Ray of its own.
JOBS ?= 2
TEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=10
# What Python compiles of the tests is kept, whatever the shell says: 7 of the 25 seconds that collecting them takes.
test test-all: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)  ## the tests, but for campaigns, in JOBS processes; needs no GPU, network or cloud account
	$(TEST) -m "not campaign"

# The last five draw at random and are short here; each tells in its file how to run it longer.
test-all: test  ## every test, campaigns too (kills, clusters of their own), then mutated images, odd tables, requests, kills
	$(TEST) -m campaign
	$(BIN)/python benchmarks/fuzz_images.py --count 300 --max-seconds 60
	$(BIN)/python benchmarks/fuzz_tables.py --tables 40
	$(BIN)/python benchmarks/serve_fuzz.py --minutes 1
	$(BIN)/python benchmarks/train_kills.py --kills 4 --in-commit 1
	$(BIN)/python benchmarks/faults.py --minutes 2 --kinds driver,worker --target local --kills 2

check: $(READY)  ## style, types, import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# IMAGES=folder of JPEGs takes those instead of drawn ones; the other peers need `pip install -e .[bench]`.
bench: $(READY)  ## images per second beside the limit and what else one would use; top-K beside FAISS
	$(BIN)/python benchmarks/throughput.py $(if $(IMAGES),--images $(IMAGES)) --num 1000 --ways ours limit reference dataloader ray_data
	$(BIN)/python benchmarks/topk.py

readers: $(READY)  ## which Parquet readers read a run with failed rows, each in an environment of its own (needs a package index)
	$(BIN)/python benchmarks/readers.py

leg-oldest: $(READY)  ## part of the suite with the lowest versions of pandas, pyarrow, Pillow, pydantic, aiohttp, ... (a package index)
	scripts/leg.sh oldest

leg-newest: $(READY)  ## the same with the newest versions that the index has
	scripts/leg.sh newest

train: $(READY)  ## the demo's models again, from nothing, into reports/training
	$(BIN)/python -m jobs.train --nice 10 --conf conf/train/demo_recall.yaml
	$(BIN)/python -m jobs.train --nice 10 --conf conf/train/demo_ranking.yaml
	$(BIN)/python -m jobs.train --nice 10 --conf conf/train/demo_composer.yaml

wheel: $(READY)  ## the wheel and the source archive, into dist/
	$(BIN)/python -m build

docs: $(READY)  ## the reference pages from the code, then the site into docs/_build/html; warnings are errors
	$(BIN)/python docs/make_reference.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

screenshots: $(READY)  ## the pictures in the docs, made by the browser tests of the demo (needs chromium)
	AISTUDIO_SCREENSHOTS=docs/pictures $(BIN)/python -m pytest -q tests/jobs/test_demo.py -m browser

lock: $(READY)  ## requirements.lock again, after pyproject.toml changed (needs a package index; minutes)
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

# `make test LOCK=requirements.lock` takes the base packages in the versions that are pinned there.
# The stamp is made last, so that an interrupted installation is taken up again.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -z "$(LOCK)" || $(BIN)/python -m pip install --quiet --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
