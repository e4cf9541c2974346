# make setup   install the programs that tests use (Chromium, proxies, valgrind, Clang): Debian, as root
# make run     a chat to open in the browser (HOST, PORT)
# make test    the whole suite: C++, Python, wss, in PYTEST_WORKERS (4) processes; PYTEST_ARGS="-n 0 tests/python/tls"
# make lint    every static check                    make format  let the formatters write
# make docs    the documentation, into build/docs    make clean   remove everything that was made
#
# make asan, make tsan   the suites under sanitizers (SANITIZED_WORKERS: 2)
# make fuzz    each fuzz target for FUZZ_SECONDS (60); FUZZ_TARGETS="ws_frame server" chooses targets
# make soak    mixed traffic for SOAK_SECONDS (3600): memory and descriptors must end where they began
# make chaos   random calls in each run mode, for CHAOS_SECONDS (600) in all; CHAOS_SEED=7 chooses the first seed;
#              CHAOS_SANITIZER=asan runs the extension that make asan has built
# make autobahn   the public protocol suite; AUTOBAHN_ARGS="9 12.1" chooses sections
#
# make bench, make bench-growth   measure against other servers, and how cost grows; BENCH_ARGS="--rounds 10"
# make charts, make bench-table   the README's charts and table from the newest results
# make bench-guard   count the instructions of the hot path and compare with what make bench-guard-record recorded
# make wheel   the sdist and a wheel of it, checked and tried
# make pgo     build with a profile of typical traffic and install into .venv (GCC)
# make compilers   build the sdist with GCC and Clang, with and without libdeflate
# make screenshot   docs/images/dashboard.png; SCREENSHOT_ARGS="--dark --seconds 300"
#
# Everything is made in .venv and build; stamp files there keep repeated runs fast. Recipes with logic are in tools.

PYTHON ?= python3
PORT ?= 3000
HOST ?= 127.0.0.1
PYTEST_WORKERS ?= 4
SANITIZED_WORKERS ?= 2
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 3600
CHAOS_SECONDS ?= 600
CHAOS_SEED ?= $(shell date +%s)

VENV := .venv
BIN := $(VENV)/bin
GUARD := build/guard
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PATH := $(CURDIR)/$(BIN):$(PATH)
# The suite must not import the working tree instead of what was installed.
unexport PYTHONPATH

SOURCES := pyproject.toml CMakeLists.txt LICENSE NOTICE README.md \
    $(shell find src vendor -type f -not -name '*.py[co]' -not -name '*~')
CXX_FILES = $(shell find src/cpp tests/cpp tests/fuzz benchmarks -type f \( -name '*.h' -o -name '*.cpp' \))
PY_FILES := src/python tests examples benchmarks tools docs/tools

.PHONY: setup run test test-cpp test-python test-wss lint format docs clean asan tsan fuzz soak chaos autobahn bench \
    bench-growth charts bench-table bench-guard bench-guard-record wheel pgo compilers screenshot

setup:
	@sh tools/setup.sh

run: $(VENV)/.installed
	exec $(BIN)/uwserve chat --host $(HOST) --port $(PORT)

test: test-cpp test-python test-wss

test-cpp: $(VENV)/.test build/headers/.done
	sh tools/build_preset.sh dev
	$(BIN)/ctest --preset dev

test-python: $(VENV)/.installed $(VENV)/.test $(VENV)/.docs
	$(call pytest,$(BIN)/python,$(PYTEST_WORKERS),)

# Over TLS again: the tests with the marker `wss`.
test-wss: $(VENV)/.installed $(VENV)/.test
	$(call pytest,$(BIN)/python,$(PYTEST_WORKERS),--wss,wss and )

# $(call pytest,PYTHON,WORKERS,OPTIONS,MARKERS): the tests with these markers in so many processes, as most of them wait, a
# module in one; then, alone, those marked `alone`. PYTEST_ARGS may choose of one kind only (status 5: no tests); -n 0 in it:
# one process.
define pytest
	run() { $(1) -m pytest -n "$$2" --dist loadfile $(3) $(PYTEST_ARGS) -m "$(4)$$1"; }; \
	run "not alone" $(2); first=$$?; case $$first in 0 | 1 | 5) ;; *) exit $$first ;; esac; \
	run alone 0; case $$first-$$? in 0-0 | 0-5 | 5-0) ;; *) exit 1 ;; esac
endef

lint: $(VENV)/.lint $(VENV)/.test $(VENV)/.installed
	$(BIN)/ruff check $(PY_FILES)
	$(BIN)/ruff format --check $(PY_FILES)
	$(BIN)/mypy src/python
	$(BIN)/mypy examples
	$(BIN)/mypy tests/typing/good
	$(BIN)/basedpyright
	$(BIN)/python tests/typing/check.py
	$(BIN)/stubtest uwserve._core --mypy-config-file mypy.ini --allowlist tests/typing/stubtest.txt
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/python -m pytest -q --noconftest tests/python/meta/test_layers.py

format: $(VENV)/.lint
	$(BIN)/ruff check --fix $(PY_FILES)
	$(BIN)/ruff format $(PY_FILES)
	$(BIN)/clang-format -i $(CXX_FILES)

docs: $(VENV)/.installed $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict
	@echo "build/docs/index.html"

clean:
	rm -rf $(VENV) $(VENV)-asan $(VENV)-tsan build dist

# --- longer tests --------------------------------------------------------------------------------------------------

# The C++ tests, then the Python suite in an environment of its own. Sanitizers slow a test down tenfold and more.
asan tsan: $(VENV)/.test build/headers/.done
	sh tools/build_preset.sh $@
	$(BIN)/ctest --preset $@
	sh tools/sanitized_install.sh $@
	$(call pytest,sh tools/sanitized_python.sh $@,$(SANITIZED_WORKERS),-o timeout=900)

# libFuzzer with the address and undefined sanitizers. Findings are kept in build/fuzz/findings; those that are fixed belong
# into tests/fuzz/corpus/<target>, from where `make test` runs them.
fuzz: $(VENV)/.test build/headers/.done
	@command -v clang++ >/dev/null || { echo "error: make fuzz needs clang++ (make setup)"; exit 1; }
	sh tools/build_preset.sh fuzz
	$(BIN)/python tests/fuzz/run.py build/fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

soak: $(VENV)/.installed $(VENV)/.test
	$(BIN)/python tests/soak/soak.py --seconds $(SOAK_SECONDS)

chaos: $(VENV)/.installed $(VENV)/.test
	sh tools/chaos.sh $(CHAOS_SEED) $(CHAOS_SECONDS) \
	    $(if $(CHAOS_SANITIZER),sh tools/sanitized_python.sh $(CHAOS_SANITIZER),$(BIN)/python)

autobahn: $(VENV)/.installed $(VENV)/.autobahn
	$(BIN)/python tests/autobahn/run.py $(AUTOBAHN_ARGS)

# --- measuring -----------------------------------------------------------------------------------------------------

bench: $(VENV)/.installed $(VENV)/.test
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-growth: $(VENV)/.installed $(VENV)/.test
	$(BIN)/python benchmarks/growth.py $(BENCH_ARGS)

charts: $(VENV)/.bench
	$(BIN)/python benchmarks/charts.py

bench-table: $(VENV)/.made
	@$(BIN)/python benchmarks/table.py

bench-guard bench-guard-record: $(GUARD)/.done
	$(BIN)/python benchmarks/guard/guard.py $(if $(filter %-record,$@),record,check) $(GUARD)/package $(GUARD_ARGS)

# As it is shipped, but with the names of its functions.
$(GUARD)/.done: $(VENV)/.made $(SOURCES)
	rm -rf $(GUARD)/package
	$(PIP) install . --no-deps --target $(GUARD)/package -C install.strip=false -C build-dir=$(GUARD)/build
	touch $@

# --- shipping ------------------------------------------------------------------------------------------------------

wheel: $(VENV)/.wheel
	sh tools/wheel.sh $(BIN)/python

pgo: $(VENV)/.made
	sh tools/profile_guided.sh $(BIN)/python . $(CURDIR)/build/pgo
	$(PIP) install . --force-reinstall -C build-dir=$(CURDIR)/build/pgo -C cmake.define.UWSERVE_PGO=USE
	touch $(VENV)/.installed

compilers: $(VENV)/.wheel
	rm -rf build/compilers
	$(BIN)/python -m build --sdist --outdir build/compilers .
	sh tools/compilers.sh $(BIN)/python build/compilers/uwserve-*.tar.gz $(CURDIR)/build/compilers

screenshot: $(VENV)/.installed $(VENV)/.test
	$(BIN)/python tests/python/support/dashboard_traffic.py docs/images/dashboard.png $(SCREENSHOT_ARGS)

# --- the environment -----------------------------------------------------------------------------------------------

$(VENV)/.made:
	sh tools/make_environment.sh $(PYTHON) $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.made $(SOURCES)
	$(PIP) install . -C cmake.define.UWSERVE_WERROR=ON
	touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.autobahn $(VENV)/.wheel $(VENV)/.bench $(VENV)/.docs: $(VENV)/.made pyproject.toml
	$(BIN)/python tools/requirements.py $(@F:.%=%) > $@.txt
	$(PIP) install -r $@.txt
	touch $@

# uWebSockets' headers for the C++ tests, as pip's build isolation has them for the extension. Not installed into .venv.
build/headers/.done: $(VENV)/.made pyproject.toml
	rm -rf build/headers && mkdir -p build/headers
	$(BIN)/python tools/requirements.py --build socketify > build/headers/requires.txt
	$(PIP) install --no-deps --no-compile --target build/headers -r build/headers/requires.txt
	touch $@
