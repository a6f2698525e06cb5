# make demo    compress a small net, show its accuracy and speed before and after
# make test    build, ruff, mypy, all tests; kernels and engine once for each ISA of this processor
# make bench   time kernels and layers on this machine
# make peers   time whole nets against other engines, which get an environment of their own
# Each target sets up its own virtual environment in .venv; a second call is quick.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
SOURCES := setup.py pyproject.toml proto/caffe.proto caffe_scnn/_kernels.pyx $(wildcard kernels/*)
SHARED := $(wildcard ../shared/data)
export CAFFE_SCNN_DATA ?= $(if $(SHARED),$(abspath ../shared))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test bench peers clean
demo: $(VENV)/demo.stamp
	$(BIN)/python models/digits/demo.py

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest
	@for isa in $$($(BIN)/python -c "from caffe_scnn import _kernels; print(*_kernels.isas())"); do \
	  echo "CAFFE_SCNN_ISA=$$isa"; \
	  CAFFE_SCNN_ISA=$$isa $(BIN)/python -m pytest -q tests/test_kernels.py tests/test_engine.py || exit 1; \
	done

bench: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/limits.py
	$(BIN)/python benchmarks/layers.py

peers: $(VENV)/bench.stamp $(PEERS)/peers.stamp
	$(BIN)/python benchmarks/peers.py --python $(PEERS)/bin/python

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

$(VENV)/demo.stamp: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install -q -e .
	touch $@

# One known build of PyTorch first: the range of the extra would take the newest, whichever it is.
$(VENV)/test.stamp: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@

$(VENV)/bench.stamp: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install -q -e '.[bench]'
	touch $@

$(PEERS)/peers.stamp: benchmarks/peers-requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q -r $<
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build caffe_scnn/_kernels.c caffe_scnn/*.so caffe_scnn/proto/caffe_pb2.py*
