# Everything happens in one virtual environment, $(VENV). `make` alone lists the targets.

PYTHON   ?= python3
VENV     ?= .venv
# Passed to every `pip install`, such as an --extra-index-url that has CPU builds of torch.
PIP_ARGS ?=
# What to install for torch: a version (torch==2.13.0) or a wheel. Plain torch is several GB of CUDA on Linux.
TORCH    ?= torch
# Tests at once; 0 runs them in pytest's own process, as --pdb wants it.
JOBS     ?= 2
# Passed on to the command of the targets demo, test, test-all, report.
ARGS     ?=
# For train: a folder with train/ (originals) and val/ (pairs); and where runs are kept, and taken up again.
DATA     ?=
RUNS     ?= runs
# For train: a folder with torchvision's squeezenet1_1.pth and lpips' squeeze.pth; without it, no perceptual loss.
LPIPS    ?=
# For report: a folder with hr_256/ and lr_64/.
PAIRS    ?=
TRAIN    := --val "$(DATA)/val" $(if $(LPIPS),--lpips "$(LPIPS)") $(ARGS)
# The network of the fallback bundle, for boards too weak for diffusion: 0.44 million weights.
SMALL    := --width 48 --blocks 2 --deep-width 48 --deep-blocks 4

BIN  := $(VENV)/bin
# A file's tests stay in one process, since they share what its fixtures make.
TEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
PIP  := $(BIN)/python -m pip --disable-pip-version-check
# What is installed: the project with its extras, first without torch, then with the host rooms on top.
BASE := $(VENV)/.stamp-base
ALL  := $(VENV)/.stamp-all

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two pips must not write to one environment, nor a test run while one does; nothing here gains from -j.
.NOTPARALLEL:
.PHONY: help venv demo serve test test-all service-check lint format train report clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

venv: $(BASE)  ## make .venv with all that needs no torch

demo: $(BASE)  ## a real chest radiograph, before and after (ARGS="--input FILE" for another image)
	$(BIN)/edge-sr demo $(ARGS)

serve: $(BASE)  ## the service and its page, at http://127.0.0.1:8080 (ARGS="--port 9000" for another place)
	$(BIN)/edge-sr serve $(ARGS)

test: $(BASE)  ## the tests that need no torch and no GPU
	$(TEST) -m "not torch and not gpu and not slow" $(ARGS)

test-all: $(ALL)  ## all tests but those that need a GPU or much time; installs torch
	$(TEST) -m "not gpu and not slow" $(ARGS)

# A Chromium is no package of pip: Debian's is called chromium; EDGE_SR_CHROMIUM may name another. Without one the
# tests of the page skip, and say so.
service-check: $(BASE)  ## the page in Chromium, the API by its own description, hostile bodies: some minutes
	$(PIP) install $(PIP_ARGS) -e ".[page-check,api-check]"
	$(BIN)/python -m pytest tests/edge_sr/service -m "browser or slow" $(ARGS)

lint: $(BASE)  ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(BASE)  ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

train: $(ALL)  ## train the shipped models on DATA=FOLDER and write their bundles; goes on where it was stopped
	@[ -d "$(DATA)/train" ] || { echo "no $(DATA)/train; name the images with: make train DATA=FOLDER" >&2; exit 1; }
	$(BIN)/python -m export train-regression $(TRAIN) --train "$(DATA)/train" --out $(RUNS)/regression --iterations 1962 --learning-rate 0.0008
	$(BIN)/python -m export train-vae $(TRAIN) --train "$(DATA)/train" --regression $(RUNS)/regression --out $(RUNS)/vae --iterations 2400 --learning-rate 0.0006 --validate-every 300
	$(BIN)/python -m export train-unet $(TRAIN) --train "$(DATA)/train" --vae $(RUNS)/vae --out $(RUNS)/unet --iterations 3000 --batch 8 --pairs 3200 --learning-rate 0.0006 --validate-every 500
	$(BIN)/python -m export train-decoder $(TRAIN) --vae $(RUNS)/vae --unet $(RUNS)/unet --out $(RUNS)/decoder --iterations 1500 --learning-rate 0.0003 --validate-every 200
	$(BIN)/python -m export bundle --vae $(RUNS)/vae --unet $(RUNS)/unet --decoder $(RUNS)/decoder --out $(RUNS)/cxr-x4
	$(BIN)/python -m export train-regression $(TRAIN) --train "$(DATA)/train" --out $(RUNS)/cnn $(SMALL) --iterations 4000 --learning-rate 0.001
	$(BIN)/python -m export bundle --regression $(RUNS)/cnn --out $(RUNS)/cxr-x4-cnn
	for name in cxr-x4 cxr-x4-cnn; do \
	    set -- --bundle "$(RUNS)/$$name" && $(BIN)/python -m calibration record "$$@" --images "$(DATA)/train" \
	        --reduce-to 64 --count 32 --out "$(RUNS)/$$name.npz" && \
	    $(BIN)/python -m calibration sensitivity "$$@" --recording "$(RUNS)/$$name.npz" --images "$(DATA)/val" \
	        --count 4 --budget 1.3 --out "$(RUNS)/$$name-plan" && \
	    $(BIN)/python -m calibration quantize "$$@" --plan "$(RUNS)/$$name-plan/plan.json" && \
	    $(BIN)/python -m calibration consistency "$$@" --pairs "$(DATA)/val" --data "the pairs of val" || exit 1; \
	done

report: $(ALL)  ## one page of what benchmarks/results has of the default bundle, on PAIRS=FOLDER; pictures to docs/
	@[ -d "$(PAIRS)/hr_256" ] || { echo "no $(PAIRS)/hr_256; name the images with: make report PAIRS=FOLDER" >&2; exit 1; }
	$(BIN)/python -m benchmarks report --pairs "$(PAIRS)" --out benchmarks/results/report-cxr-x4.html $(ARGS)
	$(BIN)/python -m benchmarks.report_page.screenshots benchmarks/results/report-cxr-x4.html docs

clean:  ## remove the environment, caches and build output
	rm -rf "$(VENV)" dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here; name one with: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "edge-sr needs Python 3.10 or newer, not $$($(PYTHON) -V); name one with: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make environments yet; on Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BASE): pyproject.toml | $(BIN)/pip
	$(PIP) install $(PIP_ARGS) -e ".[cpu,dicom,dicom-net,demo,service,dev]"
	@touch $@

# lpips is wanted for the file of its linear weights alone; torchvision, which it depends on, is not.
$(ALL): $(BASE)
	$(PIP) install $(PIP_ARGS) "$(TORCH)" -e ".[export,calibration,bench]"
	$(PIP) install $(PIP_ARGS) --no-deps lpips
	@touch $@
