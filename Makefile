# Everything a developer, CI or a visitor runs. Each target makes and reuses .venv by itself.
.PHONY: demo test check bench test-faults campaign clean help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(wildcard edge/*/*.pyx edge/*/*.pxd sim_bus/*/*.pyx sim_bus/*/*.pxd)

help:
	@echo "make demo         simulated buses on the depot's page"
	@echo "make test         all tests but the fault campaigns"
	@echo "make test-faults  kills and cuts, a slice that CI runs"
	@echo "make campaign     the full campaigns: conformance, fuzz, sanitizers, faults (hours)"
	@echo "make check        format, lint, types"
	@echo "make bench        benchmarks beside their peers"

# Two installs, so that a visitor waits only for what the demo needs.
$(VENV)/demo.stamp: $(SOURCES)
	@scripts/need-tools $(PYTHON)
	@scripts/make-venv $(PYTHON) $(VENV) depot
	@touch $@

$(VENV)/dev.stamp: $(SOURCES)
	@scripts/need-tools $(PYTHON)
	@scripts/make-venv $(PYTHON) $(VENV) dev
	@touch $(VENV)/demo.stamp $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@scripts/make-venv $(PYTHON) $(VENV) dev,bench
	@touch $@

demo: $(VENV)/demo.stamp
	$(BIN)/ayaz demo $(DEMO)

test: $(VENV)/dev.stamp
	@scripts/system-packages
	$(BIN)/pytest -m "not faults and not whole" $(PYTEST)

test-faults: $(VENV)/dev.stamp
	@scripts/system-packages
	$(BIN)/pytest -m faults $(PYTEST)

campaign: $(VENV)/dev.stamp
	@scripts/system-packages
	AYAZ_CAMPAIGN=1 $(BIN)/pytest -m "faults or campaign or whole" $(PYTEST)
	scripts/sanitize $(BIN) -m campaign tests/fuzz

check: $(VENV)/dev.stamp
	@scripts/check $(BIN)

bench: $(VENV)/bench.stamp
	$(BIN)/python bench/run.py $(BENCH)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find edge sim_bus -name '*.so' -delete -o -name '*.c' -delete
