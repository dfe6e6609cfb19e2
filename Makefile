# The same commands for a developer and for CI. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out
TORTURE ?= --seed 1
TORTURE_SERVE ?= --minutes 1
WORKERS ?= 2
BENCH ?= --plot docs/images/speed-kl.png
FUZZ_EXAMPLES ?= 100000
FUZZ_SEED ?= 0
# The folder of the transformers 4 packages; first on the path, it hides the venv's own packages.
TF4 := .venv-tf4
TF4_PACKAGES := transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2 requests urllib3 charset_normalizer certifi
TF4_TESTS := $(wildcard tests/unit/test_model_*.py tests/unit/test_config.py tests/parity/test_checkpoint_*.py tests/parity/test_stock_*.py)

# The tools that test the page, in addition to the JavaScript libraries of tests/web/package.json.
WEB := .venv-web
PLAYWRIGHT := playwright==1.65.2

# The operators in C++ and the tests that run with them: their own, and those of graphs and sessions that use them.
NATIVE := .venv-native
NATIVE_TESTS ?= tests/native $(wildcard tests/parity/test_native_*.py)
NATIVE_SOURCES := $(shell find native -type f -not -name '*.pyc')
COMPILER = command -v "$${CXX:-c++}" >/dev/null || { echo "a C++ compiler is missing: install g++ or clang" >&2; exit 4; }

# Where the user land for Arm is made and kept.
ARM64 := .arm64

# The documentation's site has an environment of its own.
DOCS := .venv-docs
DOCS_PACKAGES := mkdocs==1.6.1 mkdocs-material==9.8.2 mkdocstrings==1.0.8 mkdocstrings-python==2.0.11 ruff==0.17.6
COVERAGE := coverage==7.17.4
COVERED := minimind_edge.export,minimind_edge.minimind,minimind_edge.runtime,minimind_edge.server

# TensorRT-RTX builds plans without a GPU; of full TensorRT only the bindings are installed, for tests of its interface.
TENSORRT := tensorrt-rtx-cu13-bindings onnxruntime-ep-nv-tensorrt-rtx-cu13 tensorrt-cu13-bindings
IS_LINUX_X86_64 := $(filter Linux/x86_64,$(shell uname -s)/$(shell uname -m))

ISSUE_FORMS := $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))

PACKAGES := cli export minimind page runtime server
SOURCES := pyproject.toml README.md LICENSE $(shell find $(PACKAGES) -type f -not -name '*.pyc' 2>/dev/null)
# Whoever is done early takes over tests of the other; tests/conftest.py gives each worker its own core.
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.installed ## make .venv with the wheel, its extras and every console script

# Only the wheel's dependencies, at the versions of constraints.txt.
$(VENV)/.dependencies: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt setuptools
	$(MAKE) --no-print-directory wheel
	$(PIP) -c constraints.txt "$$(ls dist/minimind_edge-*.whl)[export,serve,dev]" dist/minimind_edge_export-*.whl
	$(if $(IS_LINUX_X86_64),$(PIP) -c constraints.txt --no-deps $(TENSORRT))
	touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	$(MAKE) --no-print-directory wheel
	$(PIP) --no-deps --force-reinstall dist/minimind_edge-*.whl
	$(PIP) --no-deps --force-reinstall dist/minimind_edge_export-*.whl  # last: an older wheel takes these files with it
	touch $@

.PHONY: wheel
wheel: ## build dist/minimind_edge-*.whl, and what an export takes as dist/minimind_edge_export-*.whl
	rm -rf build dist *.egg-info export/build  # an older list of files would bring back what has left the wheel
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . ./export
	rm -rf build export/build export/*.egg-info
	$(BIN)/python scripts/check_wheel.py dist

.PHONY: dist
dist: $(VENV)/.dependencies ## the wheels and all source archives in dist/, checked, ready for a package index
	@$(COMPILER)
	$(MAKE) --no-print-directory wheel
	$(BIN)/python scripts/check_release.py dist
	rm -rf *.egg-info export/*.egg-info

.PHONY: dev
dev: $(VENV)/.dependencies ## install the checkout editable instead of the wheel (`make test` goes back to the wheel)
	rm -f $(VENV)/.installed
	$(PIP) --no-deps --no-build-isolation --editable .

.PHONY: native
native: $(VENV)/.installed ## build the operators in C++ (minimind-edge-native) into the venv: a compiler is needed
	@$(COMPILER)
	$(PIP) --force-reinstall --no-deps ./native

.PHONY: demo
demo: setup ## export the bundled checkpoint to out/demo, and let it talk in English and in Chinese
	$(BIN)/minimind-export onnx -o $(OUT)/demo --force
	$(BIN)/minimind-run --engine $(OUT)/demo --greedy --stats "Tell me a story about a fox."
	$(BIN)/minimind-run --engine $(OUT)/demo --greedy --stats "法国的首都是哪里？"

.PHONY: test
test: lint types layers pytest ## lint, types, import layers, and the tests against the built wheel

.PHONY: lint
lint: $(VENV)/.dependencies ## ruff, the lists in docs/architecture.md, the pages, the workflows and the Dockerfiles
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/module_lists.py --check
	$(BIN)/python scripts/check_docs.py
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms $(ISSUE_FORMS)
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/pre-commit validate-config
	$(if $(IS_LINUX_X86_64),$(BIN)/hadolint docker/*.Dockerfile)

.PHONY: format
format: $(VENV)/.dependencies ## format with ruff, and apply its fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: types
types: $(VENV)/.dependencies ## mypy --strict over the packages
	$(BIN)/python scripts/check_types.py

.PHONY: layers
layers: $(VENV)/.dependencies ## import-linter's contracts
	$(BIN)/python scripts/check_layers.py

.PHONY: pytest
pytest: $(VENV)/.installed ## the tests, against the built wheel; in WORKERS=2 processes, and then those that measure time
	MINIMIND_EDGE_TEST_INSTALLED=1 $(PYTEST) -m "not alone" --durations=20 --ignore tests/interop --ignore tests/web  # they have targets
	MINIMIND_EDGE_TEST_INSTALLED=1 $(BIN)/pytest -m alone

.PHONY: fuzz
fuzz: $(VENV)/.installed ## hostile files for every reader, FUZZ_EXAMPLES=1000000 of them from FUZZ_SEED=0 on; prints counts
	PYTHONPATH=$(CURDIR)/tests/support $(BIN)/python -m fuzzing --examples $(FUZZ_EXAMPLES) --seed $(FUZZ_SEED)

.PHONY: environments
environments: $(TF4)/.installed $(NATIVE)/.installed $(WEB)/.installed $(DOCS)/.installed interop-environments ## what test-transformers4, test-native, interop and web-test need beyond .venv

.PHONY: test-transformers4
test-transformers4: $(VENV)/.installed $(TF4)/.installed ## the model's tests with transformers 4.57
	PYTHONPATH=$(CURDIR)/$(TF4)/site $(PYTEST) $(TF4_TESTS)

$(TF4)/.installed: Makefile $(VENV)/.dependencies
	rm -rf $(TF4)
	$(PIP) --no-deps --target $(TF4)/site $(TF4_PACKAGES)
	touch $@

.PHONY: test-native
test-native: $(VENV)/.installed $(NATIVE)/.installed ## the operators in C++, and what uses them: NATIVE_TESTS="tests/native ..."
	PYTHONPATH=$(CURDIR)/$(NATIVE)/site $(PYTEST) $(NATIVE_TESTS)

$(NATIVE)/.installed: Makefile $(VENV)/.dependencies $(NATIVE_SOURCES)
	@$(COMPILER)
	rm -rf $(NATIVE)
	$(PIP) --no-deps --target $(NATIVE)/site ./native
	touch $@

.PHONY: native-sanitize
native-sanitize: $(VENV)/.installed ## the tests of the operators in C++ with AddressSanitizer and UndefinedBehaviorSanitizer of GCC
	rm -rf $(NATIVE)-sanitize
	$(PIP) --no-deps --target $(NATIVE)-sanitize --config-settings=cmake.build-type=Sanitize ./native
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(CURDIR)/$(NATIVE)-sanitize \
	$(BIN)/pytest tests/native/test_row_operators.py tests/native/test_cached_attention.py tests/native/test_quantized_matmul.py tests/native/test_expert_rows.py tests/native/test_refusals.py

.PHONY: test-wheel-only
test-wheel-only: $(VENV)/.installed ## the wheel alone, without its extras, in a fresh venv: its size, and text from an artifact
	$(BIN)/python scripts/check_wheel_only.py --wheel dist/minimind_edge-*.whl --python $(PYTHON)

.PHONY: images
images: ## the images of docker/, where docker runs; elsewhere the rules that they keep
	@if docker info >/dev/null 2>&1; then $(MAKE) --no-print-directory wheel && for name in device serve export; do \
	docker build --tag minimind-$$name --file docker/$$name.Dockerfile . || exit 1; done; \
	else echo "no docker here: checking the files"; $(BIN)/pytest tests/unit/test_dockerfile.py; fi

.PHONY: torture-serve
torture-serve: $(VENV)/.installed ## minimind-serve under overload, bad clients, killed workers: TORTURE_SERVE="--minutes 60" for a soak
	PYTHONPATH=$(CURDIR)/tests/support $(BIN)/python scripts/serve_torture.py $(TORTURE_SERVE)

.PHONY: test-llama-server
test-llama-server: $(VENV)/.installed ## llama.cpp's tests of its server against minimind-serve; LLAMA_TESTS=FOLDER for a copy of them
	PYTHONPATH=$(CURDIR)/tests/support $(BIN)/python scripts/llama_server_tests.py $(LLAMA_TESTS)

.PHONY: torture
torture: $(VENV)/.installed ## kill -9 at random moments, and two writers at once: 100 and 50 times; TORTURE="onnx --kills 5" for less
	PYTHONPATH=$(CURDIR)/tests/support $(BIN)/python scripts/torture.py $(TORTURE)

.PHONY: bench
bench: $(VENV)/.installed $(if $(shell command -v $${CXX:-c++}),$(NATIVE)/.installed) ## this project against its peers, interleaved; BENCH="--quick --models A" for less
	PYTHONPATH=$(CURDIR)/$(NATIVE)/site $(BIN)/python -m benchmarks.peers $(BENCH)

.PHONY: bench-serve
bench-serve: $(VENV)/.installed ## the server against llama-server and OpenVINO over HTTP; BENCH_SERVE="--quick" for less
	$(BIN)/python -m benchmarks.serving $(BENCH_SERVE)

.PHONY: test-arm64
test-arm64: $(VENV)/.installed $(ARM64)/.complete ## a bundle on emulated 64-bit Arm: every target and precision computes what it computes here
	$(BIN)/python scripts/test_arm64.py --folder $(ARM64)

.PHONY: arm64-userland
arm64-userland: $(ARM64)/.complete ## what test-arm64 needs beyond .venv: an emulator, and Debian for 64-bit Arm

$(ARM64)/.complete: scripts/arm64_userland.sh
	scripts/arm64_userland.sh $(ARM64)
	touch $@

.PHONY: bundle-sizes
bundle-sizes: $(VENV)/.installed ## the table of sizes in docs/bundle.md, from bundles made for each platform
	$(BIN)/python scripts/bundle_sizes.py

include interop/interop.mk

.PHONY: docs
docs: $(DOCS)/.installed ## the documentation's site, in out/docs
	NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(DOCS)/bin:$$PATH" $(DOCS)/bin/mkdocs build --strict --quiet

$(DOCS)/.installed: Makefile
	rm -rf $(DOCS)
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --disable-pip-version-check install --quiet $(DOCS_PACKAGES)
	touch $@

.PHONY: coverage
coverage: $(VENV)/.installed ## the lines that the tests run; the report is out/coverage/index.html
	$(PIP) $(COVERAGE)
	$(BIN)/coverage run --source-pkgs=$(COVERED) -m pytest tests/unit tests/parity tests/server
	$(BIN)/coverage html --quiet -d $(OUT)/coverage
	$(BIN)/coverage report --skip-covered

.PHONY: web-test
web-test: $(VENV)/.installed $(WEB)/.installed ## the page: types of its scripts, and headless Chromium against the runtime
	node $(WEB)/node_modules/typescript/bin/tsc -p tests/web/tsconfig.json
	node $(WEB)/node_modules/typescript/bin/tsc -p tests/web/tsconfig.server.json
	PYTHONPATH=$(CURDIR)/$(WEB)/site $(PYTEST) tests/web

# Chromium is the system's own; .ci/run installs it. npm writes no lock file: the versions are exact.
$(WEB)/.installed: tests/web/package.json Makefile $(VENV)/.dependencies
	rm -rf $(WEB)
	mkdir $(WEB)
	cp tests/web/package.json $(WEB)
	cd $(WEB) && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --silent
	$(PIP) --target $(WEB)/site $(PLAYWRIGHT)
	touch $@

.PHONY: clean
clean: ## remove everything that the other targets made
	rm -rf build dist out .bench .interop .interop-latest .mirror *.egg-info $(VENV) $(TF4) $(NATIVE) $(NATIVE)-sanitize $(WEB) $(DOCS) $(ARM64)
