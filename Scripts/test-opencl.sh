#!/usr/bin/env bash
# Trains and draws small models (PortabilityTests) on an implementation of OpenCL other than PoCL, as the processor does. After `make test`,
# whose build it takes.
#
#     Scripts/test-opencl.sh rusticl    # Mesa: computes on the processor, calls itself a GPU of 32 KiB of local memory, without doubles
#     Scripts/test-opencl.sh intel      # Intel's runtime for processors, from PyPI
set -eu
cd "$(dirname "$0")/.."
binaries=$(swift build -c release --show-bin-path)
skip() { echo "test-$which: skipped, as $1"; exit 0; }
which=${1:-}
case $which in
rusticl)
    icd=/etc/OpenCL/vendors/rusticl.icd
    [ -f "$icd" ] || skip "there is no $icd; Debian's mesa-opencl-icd brings it"
    export OCL_ICD_VENDORS=$icd RUSTICL_ENABLE=llvmpipe RUSTICL_DEVICE_TYPE=gpu
    ;;
intel)
    venv=$PWD/.build/intel-opencl
    library=$venv/lib/libintelocl.so
    if [ ! -f "$library" ]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --no-deps intel-opencl-rt intel-cmplr-lib-rt || skip "PyPI's packages could not be installed"
    fi
    mkdir -p "$venv/icd"
    echo "$library" >"$venv/icd/intel.icd"
    export OCL_ICD_VENDORS=$venv/icd LD_LIBRARY_PATH=$venv/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} MARTLET_KERNELS=gpu
    ;;
*) echo "test-opencl: expected rusticl or intel, found “$which”" >&2; exit 1 ;;
esac
export MARTLET_CACHE=/dev/null
found=$("$binaries/martlet" devices 2>&1) || true
grep -q '^opencl' <<<"$found" || skip "it brings no device here: $found"
grep '^opencl' <<<"$found"
tests=$(find "$binaries" -maxdepth 1 -name '*PackageTests.xctest' | head -n 1)
timeout 600 "$tests" --testing-library swift-testing --no-parallel --filter PortabilityTests
