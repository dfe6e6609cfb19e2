# The artifact folder in other people's tools, each in an environment of its own; included by the Makefile.

INTEROP_TOOLS := genai graphs optimum transformers-js
PIP_QUIETLY := -m pip --disable-pip-version-check install --quiet

.PHONY: interop
interop: $(VENV)/.installed interop-environments ## an artifact in optimum, onnxruntime-genai, transformers.js, Netron and polygraphy
	.interop/optimum/bin/python $(PIP_QUIETLY) --no-deps --force-reinstall dist/minimind_edge-*.whl dist/minimind_edge_export-*.whl
	MINIMIND_EDGE_INTEROP=$(CURDIR)/.interop $(PYTEST) --durations=5 tests/interop

.PHONY: interop-environments
interop-environments: has-node $(INTEROP_TOOLS:%=.interop/%/.installed)

.PHONY: interop-latest
interop-latest: $(VENV)/.installed has-node ## the same with the newest versions, fetched anew: what will break next
	rm -rf .interop-latest
	$(MAKE) --no-print-directory $(INTEROP_TOOLS:%=.interop-latest/%/.installed)
	.interop-latest/optimum/bin/python $(PIP_QUIETLY) --no-deps --force-reinstall dist/minimind_edge-*.whl dist/minimind_edge_export-*.whl
	for tool in genai graphs optimum; do .interop-latest/$$tool/bin/python -m pip list --format=freeze | grep -i -E 'onnx|optimum|transformers|netron|polygraphy'; done
	cd .interop-latest/transformers-js && npm ls @huggingface/transformers onnxruntime-node
	MINIMIND_EDGE_INTEROP=$(CURDIR)/.interop-latest $(BIN)/pytest --durations=5 tests/interop

.PHONY: has-node
has-node:
	@node --eval 'process.exit(Number(process.versions.node.split(".")[0] < 18))' || { echo "Node.js 18 or newer is needed, with npm" >&2; exit 1; }
	@command -v npm >/dev/null || { echo "npm is needed: it comes with Node.js" >&2; exit 1; }

# requirements.txt is complete and exact. torch is the CPU build where pip is set up to find that.
.interop/%/.installed: interop/%/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(PIP_QUIETLY) --no-deps -r $<
	touch $@

.interop/transformers-js/.installed: interop/transformers-js/package-lock.json interop/transformers-js/package.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp interop/transformers-js/package.json interop/transformers-js/package-lock.json $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

# torch keeps its version: a newer one could be a CUDA build of several GB.
.interop-latest/%/.installed: interop/%/requirements.in
	$(PYTHON) -m venv $(@D)
	sed '/^torch=/!s/==.*//' $< > $(@D)/requirements.in
	$(@D)/bin/python $(PIP_QUIETLY) -r $(@D)/requirements.in
	touch $@

.interop-latest/transformers-js/.installed: interop/transformers-js/package.json
	mkdir -p $(@D)
	cp $< $(@D)
	cd $(@D) && npm install @huggingface/transformers@latest --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@
