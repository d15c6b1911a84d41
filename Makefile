# The short way to everything; the build itself is CMake's (CMakePresets.json).
.DEFAULT_GOAL := release

PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
PRESETS = release debug clang asan tsan
# Further options of bench/run.py, and other allocators: PEERS="name=path,name=path".
BENCH ?=
PEERS ?=
# A program of some seconds that lives on malloc.
CMD ?= env PYTHONMALLOC=malloc /usr/bin/python3 demo/workload.py

help: ## this text
	@echo 'Usage: make [TARGET] [JOBS=N]'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1#\2/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "%-10s %s\n", $$1, $$2 }'

release: ## liblucid.so, liblucid.a, liblucid.o and the command lucid, in build/release (default)
	@scripts/deps.sh build
	@$(MAKE) --no-print-directory build-release TARGET=product

run: ## run CMD="..." (default: a python workload) on glibc and on lucid, and compare
	@scripts/deps.sh build run
	@$(MAKE) --no-print-directory build-release TARGET=product
	build/release/lucid run --versus glibc -- $(CMD)

test: ## everything: all presets are built with warnings as errors, and tested in one run
	@scripts/deps.sh build run test
	@$(MAKE) --no-print-directory $(PRESETS:%=build-%) WERROR=ON
	@mkdir -p build/test && cp cmake/CTestAll.cmake build/test/CTestTestfile.cmake
	ctest --test-dir build/test --output-on-failure --no-tests=error --no-label-summary \
	    --timeout 900 -j $(JOBS)

check: ## the quick part, under a minute: debug build, unit tests, format, layers
	@scripts/deps.sh build test
	scripts/check-layers
	scripts/check-format
	@$(MAKE) --no-print-directory build-debug WERROR=ON
	ctest --test-dir build/debug --output-on-failure --no-tests=error --no-label-summary \
	    --timeout 60 -j $(JOBS) -L '^unit$$'

bench: ## benchmarks and real programs on lucid, glibc, Debian's peers and PEERS="name=path,..."
	@scripts/deps.sh build run bench
	@$(MAKE) --no-print-directory build-release
	PEERS='$(PEERS)' bench/run.py --lib build/release/liblucid.so \
	    --plots build/release/bench/plots $(BENCH)

install: ## into PREFIX (default /usr/local); DESTDIR is honoured
	@$(MAKE) --no-print-directory release
	cmake --install build/release --prefix '$(PREFIX)'

format: ## rewrite the C files as .clang-format says
	@scripts/deps.sh test
	scripts/check-format --fix

clean: ## remove build/
	rm -rf build

# A preset's build tree is configured once, and again when the presets or the flags change.
build-%: FORCE
	@test build/$*/build.ninja -nt CMakePresets.json && test -z '$(WERROR)' || \
	    cmake --preset $* $(if $(WERROR),-DLU_WERROR=$(WERROR)) --log-level=WARNING >/dev/null
	cmake --build --preset $* -j $(JOBS) $(if $(TARGET),--target $(TARGET))

.PHONY: help release run test check bench install format clean FORCE
FORCE:
