# make run    a chat to open in the browser          make lint    every static check
# make test   the whole suite: C++, Python, wss, in PYTEST_WORKERS (4) processes; PYTEST_ARGS="-n 0 tests/python/tls"
# make asan, make tsan   the suites under sanitizers (SANITIZED_WORKERS: 2)
# make format  let the formatters write              make clean   forget everything that was made
# make docs   the documentation, into build/docs
# make bench  measure against other servers; BENCH_ARGS="--rounds 10"
# make bench-growth  measure how cost grows; make charts, make bench-table  the README's charts and table from the newest results
# make bench-guard  the hot path's instructions, counted, against what bench-guard-record has recorded
# make pgo    build for what runs most: counted, trained, built again (GCC); installs that into .venv
# make compilers  the sdist, built by GCC and by Clang, with and without libdeflate
# make autobahn  the public protocol suite against an echo server; AUTOBAHN_ARGS="9 12.1" chooses sections
# make fuzz   each fuzz target for FUZZ_SECONDS (60); FUZZ_TARGETS="ws_frame server" chooses targets
# make wheel  the sdist, and from it a wheel that needs no library of this machine's; checked, and tried where it is installed
# make screenshot  the dashboard with traffic, as docs/images/dashboard.png; SCREENSHOT_ARGS="--dark --seconds 300"
# make soak   mixed traffic with churn for SOAK_SECONDS (3600): memory and descriptors must end where they began
# make chaos  random calls of everything from everywhere, in each run mode, for CHAOS_SECONDS (600) in all; CHAOS_SEED=7 begins
#             with another seed; CHAOS_SANITIZER=asan runs it against the extension that make asan has built
#
# Everything is made in .venv and build; stamp files there keep repeated runs fast.

PYTHON ?= python3
PORT ?= 3000
HOST ?= 127.0.0.1
PYTEST_ARGS ?=
PYTEST_WORKERS ?= 4
SANITIZED_WORKERS ?= 2
BENCH_ARGS ?=
GUARD_ARGS ?=
AUTOBAHN_ARGS ?=
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
SOAK_SECONDS ?= 3600
CHAOS_SECONDS ?= 600
CHAOS_SEED ?= $(shell date +%s)
CHAOS_SANITIZER ?=
SCREENSHOT_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
GUARD := build/guard
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Without their short form, which pip 23.0 of Debian 12 does not know.
SET := --config-settings
export PATH := $(CURDIR)/$(BIN):$(PATH)
# The suite must not import the working tree instead of what was installed.
unexport PYTHONPATH

SOURCES := pyproject.toml CMakeLists.txt LICENSE NOTICE README.md \
    $(shell find src vendor -type f -not -name '*.py[co]' -not -name '*~')
CXX_FILES = $(shell find src/cpp tests/cpp tests/fuzz benchmarks -type f \( -name '*.h' -o -name '*.cpp' \) 2>/dev/null)
PY_FILES := $(wildcard src/python tests/python tests/typing tests/autobahn tests/fuzz tests/packaging tests/soak examples \
    benchmarks tools docs/tools)
COMMA := ,
LAYERING := $(wildcard tests/python/meta/test_layers.py)

# pyproject.toml read by the interpreter of the virtual environment: $(call toml,EXPRESSION) prints items, one a line.
toml = $(BIN)/python -c "import importlib.util as u; \
t = __import__('tomllib') if u.find_spec('tomllib') else __import__('pip._vendor.tomli', fromlist=['load']); \
p = t.load(open('pyproject.toml', 'rb')); print(*$(1), sep='\n')"

.PHONY: run test test-cpp test-python test-wss lint format asan tsan bench autobahn fuzz soak chaos wheel chromium \
    clean bench-growth bench-table charts screenshot bench-guard bench-guard-record valgrind pgo compilers \
    docs proxies

run: $(VENV)/.installed
	exec $(BIN)/uwserve chat --host $(HOST) --port $(PORT)

test: test-cpp test-python test-wss

test-python: $(VENV)/.installed $(VENV)/.test $(VENV)/.docs chromium proxies
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

test-cpp: $(VENV)/.test build/headers/.done
	$(call ctest,dev)

# Debian's Chromium drives the chat page in one test, which skips itself where there is none.
chromium:
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing chromium and chromium-driver"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	        chromium chromium-driver >/dev/null; } || echo "chromium could not be installed: its test will be skipped"; \
	else echo "no chromium and no right to install it: its test will be skipped"; fi

# The reverse proxies whose configurations are in the documentation, as Debian has them; RUNLEVEL=1 starts none of them.
proxies:
	@if PATH="$$PATH:/usr/sbin" && command -v nginx >/dev/null && command -v caddy >/dev/null && command -v haproxy >/dev/null; \
	then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing nginx, caddy and haproxy"; \
	    { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	        nginx-light caddy haproxy >/dev/null; } || echo "a proxy could not be installed: its tests will be skipped"; \
	else echo "not all proxies are here, and no right to install them: their tests will be skipped"; fi

docs: $(VENV)/.installed $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict
	@echo "build/docs/index.html"

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
	$(if $(LAYERING),$(BIN)/python -m pytest -q --noconftest $(LAYERING))

format: $(VENV)/.lint
	$(BIN)/ruff check --fix $(PY_FILES)
	$(BIN)/ruff format $(PY_FILES)
	$(BIN)/clang-format -i $(CXX_FILES)

bench: $(VENV)/.installed $(VENV)/.test
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-growth: $(VENV)/.installed $(VENV)/.test
	$(BIN)/python benchmarks/growth.py $(BENCH_ARGS)

charts: $(VENV)/.bench
	$(BIN)/python benchmarks/charts.py

bench-table: $(VENV)/.made
	@$(BIN)/python benchmarks/table.py

bench-guard bench-guard-record: $(GUARD)/.done valgrind
	$(BIN)/python benchmarks/guard/guard.py $(if $(filter %-record,$@),record,check) $(GUARD)/package $(GUARD_ARGS)

# As it is shipped, but with the names of its functions.
$(GUARD)/.done: $(VENV)/.made $(SOURCES)
	rm -rf $(GUARD)/package
	$(PIP) install . --no-deps --target $(GUARD)/package $(SET) install.strip=false $(SET) build-dir=$(GUARD)/build
	touch $@

pgo: $(VENV)/.made
	sh tools/profile_guided.sh $(BIN)/python . $(CURDIR)/build/pgo
	$(PIP) install . --force-reinstall $(SET) build-dir=$(CURDIR)/build/pgo $(SET) cmake.define.UWSERVE_PGO=USE
	touch $(VENV)/.installed

# The sdist with each compiler that is here, with and without libdeflate; warnings are errors, and each result is tried.
compilers: $(VENV)/.wheel
	rm -rf build/compilers
	$(BIN)/python -m build --sdist --outdir build/compilers .
	sh tools/compilers.sh $(BIN)/python build/compilers/uwserve-*.tar.gz $(CURDIR)/build/compilers

valgrind:
	@if command -v valgrind >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing valgrind"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	        valgrind >/dev/null; } || echo "valgrind could not be installed"; \
	else echo "no valgrind and no right to install it"; fi

autobahn: $(VENV)/.installed $(VENV)/.autobahn
	$(BIN)/python tests/autobahn/run.py $(AUTOBAHN_ARGS)

# Clang's libFuzzer with the address and undefined sanitizers. What it finds is kept in build/fuzz/findings; the fixed ones
# belong into tests/fuzz/corpus/<target>, from where `make test` runs them.
fuzz: $(VENV)/.test build/headers/.done
	@command -v clang++ >/dev/null || { echo "error: make fuzz needs clang++ (Debian: apt-get install clang)"; exit 1; }
	PYTHONPATH=build/headers CC=clang CXX=clang++ $(BIN)/cmake --preset fuzz -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	    -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja > build/fuzz-configure.log || { cat build/fuzz-configure.log; exit 1; }
	$(BIN)/cmake --build --preset fuzz
	$(BIN)/python tests/fuzz/run.py build/fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

soak: $(VENV)/.installed $(VENV)/.test
	$(BIN)/python tests/soak/soak.py --seconds $(SOAK_SECONDS)

# A report of the sanitizer ends the run, as does anything that does not hold; each run names its last seed.
chaos: $(VENV)/.installed $(VENV)/.test
	preload=""; run="$(BIN)/python"; \
	if [ -n "$(CHAOS_SANITIZER)" ]; then \
	    preload="$$($${CXX:-c++} -print-file-name=lib$(CHAOS_SANITIZER).so) $$($${CXX:-c++} -print-file-name=libstdc++.so.6)"; \
	    run="env PYTHONMALLOC=malloc UWSERVE_SANITIZED=$(CHAOS_SANITIZER) \
	        ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:quarantine_size_mb=16 $(VENV)-$(CHAOS_SANITIZER)/bin/python"; \
	fi; \
	for mode in run start asyncio "asyncio uvloop"; do \
	    env PYTHONPATH=tests/python/support $${preload:+LD_PRELOAD="$$preload"} $$run -X faulthandler \
	        tests/python/programs/chaos_calls.py $(CHAOS_SEED) $$(($(CHAOS_SECONDS) / 4)) $$mode || exit 1; \
	done

# The wheel is made from the sdist, so both are known to be whole, and with a profile (GCC). libdeflate is in it where this
# machine has it.
wheel: $(VENV)/.wheel
	rm -rf dist build/dist
	$(BIN)/python -m build --sdist --outdir build/dist .
	mkdir build/dist/source && tar xzf build/dist/uwserve-*.tar.gz -C build/dist/source --strip-components=1
	sh tools/profile_guided.sh $(BIN)/python $(CURDIR)/build/dist/source $(CURDIR)/build/dist/build
	$(BIN)/python -m build --wheel --outdir build/dist -C build-dir=$(CURDIR)/build/dist/build \
	    -C cmake.define.UWSERVE_PGO=USE build/dist/source
	$(BIN)/python tools/repair_wheel.py build/dist/uwserve-*.whl dist
	cp build/dist/uwserve-*.tar.gz dist
	$(BIN)/twine check --strict dist/*
	# W002: two licences with one text; W009, W010: the folder of the libraries that were taken along.
	$(BIN)/check-wheel-contents --ignore W002,W009,W010 dist/*.whl
	sh tests/packaging/clean_install.sh $(BIN)/python dist/*.whl

screenshot: $(VENV)/.installed $(VENV)/.test chromium
	mkdir -p docs/images
	$(BIN)/python tests/python/support/dashboard_traffic.py docs/images/dashboard.png $(SCREENSHOT_ARGS)

clean:
	rm -rf $(VENV) $(VENV)-asan $(VENV)-tsan build dist

# --- the environment -----------------------------------------------------------------------------------------------

# Some systems have Python without ensurepip: then the system's pip puts pip into the new environment.
$(VENV)/.made:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && \
	    $(PYTHON) -m pip --quiet --python $(VENV)/bin/python install pip; }
	@$(BIN)/python -c "import os, sys, sysconfig; h = os.path.join(sysconfig.get_paths()['include'], 'Python.h'); \
	os.path.exists(h) or sys.exit('error: ' + h + ' is missing: install the development files of Python (Debian: python3-dev)')"
	touch $@

$(VENV)/.installed: $(VENV)/.made $(SOURCES)
	$(PIP) install . $(SET) cmake.define.UWSERVE_WERROR=ON
	touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.autobahn $(VENV)/.wheel $(VENV)/.bench $(VENV)/.docs: $(VENV)/.made pyproject.toml
	$(call toml,p['project']['optional-dependencies']['$(@F:.%=%)']) > $@.txt
	$(PIP) install -r $@.txt
	touch $@

# uWebSockets' headers for the C++ tests: what pip's build isolation gives the extension. Not installed into .venv.
build/headers/.done: $(VENV)/.made pyproject.toml
	rm -rf build/headers && mkdir -p build/headers
	$(call toml,[r for r in p['build-system']['requires'] if r.startswith('socketify')]) > build/headers/requires.txt
	$(PIP) install --no-deps --no-compile --target build/headers -r build/headers/requires.txt
	touch $@

# $(call ctest,PRESET): configure, build and run the C++ tests of a CMake preset.
define ctest
	PYTHONPATH=build/headers $(BIN)/cmake --preset $(1) -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	    -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja > build/$(1)-configure.log || { cat build/$(1)-configure.log; exit 1; }
	$(BIN)/cmake --build --preset $(1)
	$(BIN)/ctest --preset $(1)
endef

# --- sanitizers ----------------------------------------------------------------------------------------------------

# $(call sanitized,PRESET,SANITIZERS,RUNTIME,ENVIRONMENT): the C++ tests, then the Python suite against an extension built
# with the sanitizers, in an environment of its own; the interpreter is not instrumented, so the runtime is preloaded.
# Sanitizers slow a test down tenfold and more: all have more time.
define sanitized
	$(call ctest,$(1))
	$(BIN)/python -m venv $(VENV)-$(1)
	$(VENV)-$(1)/bin/python -m pip --quiet install -r $(VENV)/.test.txt
	$(VENV)-$(1)/bin/python -m pip --quiet install . $(SET) build-dir=build/$(1)-python $(SET) cmake.build-type=RelWithDebInfo \
	    $(SET) install.strip=false $(SET) cmake.define.UWSERVE_WERROR=ON $(SET) "cmake.define.UWSERVE_SANITIZE=$(2)"
	preload="$$($${CXX:-c++} -print-file-name=$(3)) $$($${CXX:-c++} -print-file-name=libstdc++.so.6)"; \
	$(call pytest,env LD_PRELOAD="$$preload" PYTHONMALLOC=malloc UWSERVE_SANITIZED=$(1) $(4) $(VENV)-$(1)/bin/python,$(SANITIZED_WORKERS),-o timeout=900)
endef

asan: $(VENV)/.test build/headers/.done
	$(call sanitized,asan,address$(COMMA)undefined,libasan.so,ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:quarantine_size_mb=16)

# The runtime of GCC 12 crashes in its own __tls_get_addr now and then, and by default ends every child of a fork. Reports go
# into build/tsan-report.PID: pytest keeps what a passing test prints to itself.
tsan: $(VENV)/.test build/headers/.done
	$(call sanitized,tsan,thread,libtsan.so,TSAN_OPTIONS=halt_on_error=0:intercept_tls_get_addr=0:die_after_fork=0:log_path=$(CURDIR)/build/tsan-report:suppressions=$(CURDIR)/tests/tsan.supp)
