# The two commands of the README are `make demo` and `make test`.  Needs python3 (3.10 to 3.13) and make.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
# A new lock or new dependencies make a new installation; anything else reuses it.
KEY := $(shell cat requirements.lock pyproject.toml | cksum | cut -d" " -f1)
INSTALLED := $(VENV)/installed-$(KEY)
MODEL ?= edge_sam_tiny
OUT ?= out/demo
# Processes that pytest runs in, a core each; no test depends on another, so an idle one takes over from a busy one.
WORKERS ?= 2
# Without a debugger's tables, which nothing here reads. The index stays: swift test finds tests in it.
SWIFT_LEAN := -debug-info-format none
PARTS := lint pytest swift-test swift-apple-check conformance-sample
# The bundled weights unless told otherwise: make demo MODEL=edge_sam_3x CHECKPOINT=edge_sam_3x.pth PICTURE=photo.jpg
WEIGHTS := $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))
PICTURE ?= edgesam_export/resources/samples/scene.png
PROMPT ?= --point 425,384

# Every target is a command, none a file.
.PHONY: $(shell sed -n 's/^\([a-z][a-z0-9-]*\):.*/\1/p' $(MAKEFILE_LIST))

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(INSTALLED)  ## Make the virtual environment and install everything at the locked versions

$(INSTALLED):
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and "needs Python 3.10 to 3.13, this is %d.%d; say make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock hatchling editables
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --no-build-isolation --editable '.[dev]'
	@reason=$$($(RUN)/python -c 'from edgesam_export.coreai.availability import why_not_here; print(why_not_here() or "")'); \
	if [ -n "$$reason" ]; then echo "$$reason; its tests are skipped"; else \
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --no-build-isolation --editable '.[coreai]'; fi
	$(RUN)/python tests/install_others.py
	rm -f $(VENV)/installed-*
	touch $@

demo: setup  ## Export the bundled model, check it, look at it for the Neural Engine, segment an image; names the page
	$(RUN)/edgesam-export coreml $(MODEL) $(WEIGHTS) --mask-input --no-verify --output $(OUT)
	$(RUN)/edgesam-export onnx $(MODEL) $(WEIGHTS) --mask-input --no-verify --output $(OUT)
	$(RUN)/edgesam-export parity $(OUT) $(WEIGHTS) --output $(OUT)
	$(RUN)/edgesam-export analyze $(OUT)/$(MODEL)_encoder.mlpackage --quiet --output $(OUT)
	$(RUN)/edgesam-export analyze $(OUT)/$(MODEL)_decoder.mlpackage --quiet --output $(OUT)
	$(RUN)/edgesam-export segment $(PICTURE) $(PROMPT) --artifact $(OUT) --backend coreml --output $(OUT)
	@echo
	@echo "Core ML packages   $(OUT)/$(MODEL)_encoder.mlpackage, $(OUT)/$(MODEL)_decoder.mlpackage"
	@echo "ONNX files         $(OUT)/$(MODEL)_encoder.onnx, $(OUT)/$(MODEL)_decoder.onnx"
	@echo "parity report      $(OUT)/parity.html"
	@echo "mask over image    $(OUT)/$(basename $(notdir $(PICTURE)))_overlay.png"
	@echo "click on it        $(RUN)/edgesam-export serve $(OUT)"

# The first run is the same to the last bit on CPUs of one kind, in two processes of one thread; the second needs a GPU.
tiny: setup  ## Train the bundled weights again: two hours on two cores, then six minutes on a data centre's GPU; resumes
	OMP_NUM_THREADS=1 $(RUN)/torchrun --nproc-per-node 2 -m edgesam_export.cli \
	  distill edge_sam_tiny --config models/edge_sam_tiny_start.json --resume --output out/tiny_start --device cpu
	$(RUN)/edgesam-export distill edge_sam_tiny --config models/edge_sam_tiny.json --resume \
	  --checkpoint out/tiny_start/edge_sam_tiny.safetensors --output out/tiny --device cuda
	$(RUN)/edgesam-export eval edge_sam_tiny --checkpoint out/tiny/edge_sam_tiny.safetensors --data scenes:1000:60 \
	  --prompts box,point,point+2,box+mask --min-miou box=0.89 --min-miou point=0.85

compression: setup  ## What compression costs masks: schemes, recipes, bundled and medical weights; tables of docs/compression.md
	OMP_NUM_THREADS=2 $(RUN)/python benchmarks/compression.py

activations: setup  ## What 8-bit activations cost masks: the table of docs/activations.md; resumes
	OMP_NUM_THREADS=2 $(RUN)/python benchmarks/activations.py

distillation: setup  ## Three kinds of training compared, and what recovery wins back: the tables of docs/distillation.md
	$(RUN)/python benchmarks/distillation.py
	$(RUN)/python benchmarks/recovery.py

test: setup  ## Every test: lint, Python, conformance sample, Swift where a toolchain is present; all at once
	@$(RUN)/python tests/run_parts.py out/test-logs "$(MAKE) --no-print-directory" $(PARTS)

pytest: setup  ## Python's tests
	$(RUN)/python -m pytest -n $(WORKERS) --dist worksteal

coverage: setup  ## Python's tests with the share of statements and branches that they run
	$(RUN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term:skip-covered

# The types of the libraries stay with the environment that they are installed in, so a fresh clone has them too.
lint: setup  ## Style, formatting, types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/python -m mypy --cache-dir $(VENV)/mypy-cache

fmt: setup  ## Format the code
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

check: test  ## What CI runs

swift-test: setup  ## Swift: build and test both packages, the predictor on real packages included
	@if command -v swift >/dev/null; then \
	  export EDGESAM_PYTHON=$(abspath $(RUN))/python; \
	  swift test $(SWIFT_LEAN) && swift test --package-path swift $(SWIFT_LEAN); \
	else echo "swift: no toolchain on PATH, so the Swift packages are not tested here"; fi

swift-sam2: setup  ## Swift: the predictor on a real SAM 2.1 tiny too, which takes minutes; make test does EdgeTAM
	EDGESAM_SAM2=1 EDGESAM_PYTHON=$(abspath $(RUN))/python swift test $(SWIFT_LEAN) --filter aStretchedPortrait

# Other systems: make swift-apple-check TRIPLE=arm64-apple-xros1.0
swift-apple-check: setup  ## Swift: type-check everything for iOS 17 and macOS 14, on Linux; minutes once, then seconds
	@$(RUN)/python swift/AppleCheck/check.py $(if $(TRIPLE),--triple $(TRIPLE))

demo-app: setup  ## Export the bundled model into the iOS demo; then open swift/Apps/EdgeSAMDemo/EdgeSAMDemo.xcodeproj
	$(RUN)/edgesam-export coreml $(MODEL) $(WEIGHTS) --no-verify --output out/demo-app/$(MODEL)
	$(RUN)/python swift/Apps/make_xcodeproj.py --models out/demo-app/$(MODEL)

demo-states: demo-app  ## Draw docs/demo_states.jpg with the demo's own Swift code
	$(RUN)/python benchmarks/demo_states.py

conformance-sample: setup  ## A sample of coremltools' own op tests against the executor
	$(RUN)/python tests/conformance/run.py --sample

conformance: setup  ## coremltools' own op tests against the executor, all of them
	$(RUN)/python tests/conformance/run.py

corpus: setup  ## Models of torchvision, timm and transformers through the executor and the analysis, all of them: minutes
	$(RUN)/python -m pytest tests/mil/corpus/test_corpus.py tests/mil/corpus/whole_corpus.py

fuzz: setup  ## 100 000 damaged packages through the loader and the analysis, then 10 000 through the executor; resumes
	PYTHONPATH=.:tests $(RUN)/python tests/mil/fuzz/fuzz.py
	PYTHONPATH=.:tests $(RUN)/python tests/mil/fuzz/fuzz.py --predict --count 10000

bench: setup  ## Export and executor benchmarks: ratios measured in one run
	$(RUN)/python benchmarks/export.py
	$(RUN)/python benchmarks/peers.py
	$(RUN)/python benchmarks/executor.py
	$(RUN)/python benchmarks/executor.py --busy --rounds 5
	$(RUN)/python benchmarks/ane_cost.py
	$(RUN)/python benchmarks/rewrites.py

serve-bench: setup  ## What a click on the page takes; writes the table of docs/serve.md
	$(RUN)/python benchmarks/serve.py

model-table: setup  ## Export, check and analyse every model that has no figures yet; write docs/models.md
	$(RUN)/python benchmarks/model_table.py

gate-roc: setup  ## Error rate of the parity gates: correct exports and planted faults; resumes, tables into docs/parity.md
	OMP_NUM_THREADS=1 $(RUN)/python benchmarks/gate_roc.py

ane-evidence: setup  ## The ANE rules against public reports of placement: every statement, recall, precision, agreement
	PYTHONPATH=. $(RUN)/python benchmarks/ane_evidence.py

sam2-goldens: setup  ## SAM 2.1 against upstream's code: every image of tiny, small and base_plus; make test does one
	$(RUN)/python -m pytest tests/families/sam2_goldens.py

sam2-layout: setup  ## Layout operations of SAM 2.1's encoder against a plain export of the same weights
	$(RUN)/python benchmarks/sam2_layout.py

coreai-witness: setup  ## Core ML in our executor against Core AI in Apple's interpreter, FP32: the table of docs/coreai_execution.md; hours
	OMP_NUM_THREADS=1 $(RUN)/python benchmarks/coreai_witness.py

families: setup  ## Time every family on this machine, PyTorch and ONNX Runtime
	$(RUN)/python benchmarks/families.py

everything-agreement: setup  ## Everything mode against segment-anything's own generator; writes the table of docs/everything.md
	OMP_NUM_THREADS=1 $(RUN)/python benchmarks/everything.py

op-table: setup  ## Rewrite the generated tables: MIL ops, ANE rules
	PYTHONPATH=. $(RUN)/python tests/conformance/table.py
	$(RUN)/python benchmarks/ane_docs.py

loc:  ## Lines of code by folder
	@for d in edgesam_export edgesam_export/* tests; do [ -d $$d ] && printf '%6d  %s\n' $$(find $$d -name '*.py' -exec cat {} + | wc -l) $$d; done; true

wheel: setup  ## Build the wheel into dist/
	$(RUN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

clean:  ## Remove what was built, not the virtual environment
	rm -rf build out dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
