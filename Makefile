# The short way to everything; the build itself is CMake's (CMakePresets.json).
.DEFAULT_GOAL := release

PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
MINUTES ?= 10
PRESETS = release debug clang asan tsan aarch64
# Those that `make kernels` boots; all if there are none.
KERNELS ?=
# Further options of bench/run.py, and other allocators: PEERS="name=path,name=path".
BENCH ?=
PEERS ?=
# A program of some seconds that lives on malloc.
CMD ?= env PYTHONMALLOC=malloc /usr/bin/python3 demo/workload.py

help: ## this text
	@echo 'Usage: make [TARGET] [JOBS=N]'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1#\2/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "%-12s %s\n", $$1, $$2 }'

release: ## liblucid.so, liblucid.a, liblucid.o and the command lucid, in build/release (default)
	@scripts/deps.sh build
	@$(MAKE) --no-print-directory build-release TARGET=product

run: ## run CMD="..." (default: a python workload) on glibc and on lucid, and compare
	@scripts/deps.sh build run
	@$(MAKE) --no-print-directory build-release TARGET=product
	build/release/lucid run --versus glibc -- $(CMD)

test: ## everything: all presets are built with warnings as errors, and tested in one run
	@scripts/deps.sh build run test cross
	@$(MAKE) --no-print-directory $(PRESETS:%=build-%) WERROR=ON
	@mkdir -p build/test && cp cmake/CTestAll.cmake build/test/CTestTestfile.cmake
	ctest --test-dir build/test --output-on-failure --no-tests=error --no-label-summary \
	    --timeout 900 -j $(JOBS) -LE '^slow$$'

slow: ## what takes minutes: 10^8 live blocks, forks at every instruction with options
	@scripts/deps.sh build run test
	@$(MAKE) --no-print-directory build-release
	ctest --test-dir build/release --output-on-failure --no-tests=error --no-label-summary \
	    --timeout 1800 -L '^slow$$'

check: ## the quick part, under a minute: debug build, unit tests, format, layers
	@scripts/deps.sh build test
	scripts/check-layers
	scripts/check-format
	@$(MAKE) --no-print-directory build-debug WERROR=ON
	ctest --test-dir build/debug --output-on-failure --no-tests=error --no-label-summary \
	    --timeout 60 -j $(JOBS) -L '^unit$$'

fuzz: ## fuzz for MINUTES=n (default 10) on two processes; findings in build/fuzz/findings
	@scripts/deps.sh build test
	scripts/fuzz --minutes $(MINUTES)

coverage: ## which lines of the library the tests reach; fails below 95 %
	@scripts/deps.sh build run test
	scripts/coverage --jobs $(JOBS)

mutate: ## break every check that is always on, one by one: a test must notice (half an hour)
	@scripts/deps.sh build run test
	scripts/mutate --jobs $(JOBS)

bench: ## benchmarks and real programs on lucid, glibc, Debian's peers and PEERS="name=path,..."
	@scripts/deps.sh build run bench
	@$(MAKE) --no-print-directory build-release
	PEERS='$(PEERS)' bench/run.py --lib build/release/liblucid.so \
	    --plots build/release/bench/plots $(BENCH)

portability: ## the library by both compilers with all sets of flags, on musl, on aarch64
	@scripts/deps.sh build test cross
	cmake --preset release -DLUCID_TEST_MATRIX=ON -DLU_WERROR=ON --log-level=WARNING >/dev/null
	@$(MAKE) --no-print-directory build-release build-aarch64
	ctest --test-dir build/release --output-on-failure --no-tests=error --timeout 600 -L portability
	cmake --preset release -DLUCID_TEST_MATRIX=OFF --log-level=WARNING >/dev/null
	ctest --test-dir build/aarch64 --output-on-failure --no-tests=error --timeout 600 -j $(JOBS)

kernels: ## Debian's kernels in QEMU run the tests; KERNELS="name..." of tests/kernels/kernels.txt
	@scripts/deps.sh build test cross kernels
	@$(MAKE) --no-print-directory build-release build-aarch64
	scripts/kernels $(KERNELS)

deb: ## Debian packages in build/deb: built in a copy, looked at by lintian, unpacked and used
	@scripts/deps.sh build deb
	scripts/deb

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

.PHONY: help release run test slow check bench portability kernels deb install format clean FORCE
FORCE:
