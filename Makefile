# `make run` and `make test` each work as the first command on a fresh Debian or Ubuntu with Swift 6.3 or later.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: all run test test-rusticl test-intel test-oclgrind crash-test walkthrough random-graphs sanitize fuzz bench docs format lint bundle check-kernels packages clean

PACKAGES := ocl-icd-libopencl1 opencl-headers pocl-opencl-icd libpng-dev libzip-dev zlib1g-dev liblzma-dev pkg-config
BUILD := swift build -c release
BIN = $(shell $(BUILD) --show-bin-path)/martlet
ARGS ?=

all: packages
	$(BUILD) --product martlet

# Trains on images drawn from a generator whose likelihood is known, prints the result beside it, leaves pictures.
run: all
	"$(BIN)" run made-glyphs $(ARGS)

test: packages
	swift build --build-tests -c release -Xswiftc -enable-testing
	swift test --skip-build -c release -Xswiftc -enable-testing --no-parallel

# The kernels of GPUs on other implementations of OpenCL than PoCL; after `make test`, whose build they take.
test-rusticl test-intel: packages
	Scripts/test-opencl.sh $(@:test-%=%)

# Every kernel under the simulator of OpenCL devices; check-kernels does this and assembles them for GPUs too.
test-oclgrind: packages
	Scripts/check-kernels.sh oclgrind

# A run is killed, loses its power and has its disk fail at every call that touches its folder, on the CPU and on OpenCL, which
# takes half an hour; `make test` does so at a few of them.
crash-test: packages
	swift build --build-tests -c release -Xswiftc -enable-testing
	MARTLET_CRASH_TEST=1 swift test --skip-build -c release -Xswiftc -enable-testing --no-parallel --filter CrashTests

# What README.md and docs/ say, done as a new user would; after `make test`, whose program it takes.
walkthrough: packages
	Scripts/walkthrough.sh

# As many random graphs as one likes: the CPU with every width of vectors against the interpreter, every twentieth on OpenCL too.
COUNT ?= 10000
random-graphs: packages
	swift build --build-tests -c release -Xswiftc -enable-testing
	MARTLET_RANDOM_GRAPHS=$(COUNT) swift test --skip-build -c release -Xswiftc -enable-testing --no-parallel \
	    --filter RandomGraphTests

# The tests under the sanitizers of addresses and of threads, each in a build of its own. Optimised, because the double-precision
# oracles of a debug build would take hours.
sanitize: packages
	for s in address thread; do \
	    swift build --build-tests -c release -Xswiftc -enable-testing --sanitize=$$s --scratch-path .build/$$s && \
	    swift test --skip-build -c release -Xswiftc -enable-testing --no-parallel --sanitize=$$s --scratch-path .build/$$s || exit 1; \
	done

# Damaged files for every reader, for SECONDS in all. An input that crashes one, or costs it too much time or memory, is kept.
SECONDS := 60
fuzz: packages
	$(BUILD) --product fuzz-readers
	"$$($(BUILD) --show-bin-path)/fuzz-readers" --seconds $(SECONDS)

bench: all
	"$(BIN)" bench $(ARGS)

packages:
	@Scripts/install-packages.sh $(PACKAGES)

bundle: packages
	Scripts/bundle.sh

check-kernels: packages
	Scripts/check-kernels.sh

docs: all
	Scripts/check-docs.sh

format:
	swift format --in-place --recursive --parallel Sources Tests experiments benchmarks/Workloads.swift Package.swift

lint:
	swift format lint --strict --recursive --parallel Sources Tests experiments benchmarks/Workloads.swift Package.swift

clean:
	rm -rf .build bundle
