#!/bin/bash
# Checks every OpenCL kernel, in both families, without a GPU: under the oclgrind simulator (races, memory that was never
# written, accesses out of bounds, divergent barriers), and by assembling the GPU family for NVIDIA sm_90 and AMD gfx90a and gfx1100. For
# each product and convolution kernel of the GPU family it prints registers, shared memory, spills and multiply-adds for each byte of
# global memory. `check-kernels.sh oclgrind` stops behind the simulator.
set -euo pipefail
cd "$(dirname "$0")/.."

work=.build/check-kernels
mkdir -p "$work/sources"

Scripts/install-packages.sh oclgrind clang-16 libclc-16 python3-venv

swift build --build-tests -c release -Xswiftc -enable-testing >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
tests=$(find "$(swift build -c release --show-bin-path)" -maxdepth 1 -name '*PackageTests.xctest' | head -1)

# The simulator's exit code does not say what it found: its log has to be empty. It follows the code as it is written:
# some instructions that optimization leaves are unknown to it.
echo "== oclgrind"
rm -f "$work/oclgrind.log" "$work"/sources/*.cl
touch "$work/oclgrind.log"
MARTLET_CACHE=/dev/null MARTLET_KERNEL_SOURCES="$work/sources" timeout 1800 \
    oclgrind --build-options -cl-opt-disable --data-races --uninitialized --check-api --log "$work/oclgrind.log" \
    "$tests" --testing-library swift-testing --no-parallel --filter KernelCheckTests >"$work/oclgrind.out" 2>&1 || {
        tail -40 "$work/oclgrind.out"
        echo "error: the tests failed under oclgrind" >&2
        exit 1
    }
if [ -s "$work/oclgrind.log" ]; then
    head -60 "$work/oclgrind.log"
    echo "error: oclgrind found faults" >&2
    exit 1
fi
grep -q 'Test run with [1-9]' "$work/oclgrind.out" || { echo "error: no test ran under oclgrind" >&2; exit 1; }
echo "every kernel of both families: nothing found"
if [ "${1:-}" = oclgrind ]; then exit 0; fi

ptxas=$(command -v ptxas || true)
if [ -z "$ptxas" ]; then
    ptxas=$(find "$work/venv" -path '*/bin/ptxas' -type f 2>/dev/null | head -1 || true)
fi
if [ -z "$ptxas" ]; then
    echo "installing ptxas (nvidia-cuda-nvcc-cu12) in $work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet nvidia-cuda-nvcc-cu12
    ptxas=$(find "$work/venv" -path '*/bin/ptxas' -type f | head -1)
fi
library=$(find /usr/lib/clc /usr/share/clc /usr/lib/llvm-16 -name 'nvptx64--nvidiacl.bc' 2>/dev/null | head -1 || true)
[ -n "$library" ] || { echo "error: libclc-16 has no nvptx64--nvidiacl.bc" >&2; exit 1; }

echo "== sm_90"
failed=0
for source in "$work"/sources/gpu-*.cl; do
    name=$(basename "$source" .cl)
    # What a device's own compiler would define, and a bridge to libclc's builtins.
    if ! clang-16 -target nvptx64-nvidia-nvcl -x cl -cl-std=CL1.2 -Xclang -target-cpu -Xclang sm_90 -O3 \
        -Xclang -finclude-default-header -Xclang -mlink-builtin-bitcode -Xclang "$library" -S -o "$work/$name.ptx" "$source" \
        2>"$work/$name.log"; then
        cat "$work/$name.log"
        failed=1
        continue
    fi
    "$ptxas" -arch=sm_90 -v -o /dev/null "$work/$name.ptx" >"$work/$name.ptxas" 2>&1 || {
        cat "$work/$name.ptxas"
        failed=1
    }
done
[ "$failed" = 0 ] || { echo "error: a program does not assemble" >&2; exit 1; }
python3 Scripts/report_kernels.py "$work"/sources/gpu-*.cl

# For AMD: the most registers and local memory of a kernel of each program.
library=$(find /usr/lib/clc /usr/share/clc -name 'amdgcn--amdhsa.bc' 2>/dev/null | head -1 || true)
[ -n "$library" ] || { echo "error: libclc-16 has no amdgcn--amdhsa.bc" >&2; exit 1; }
for target in gfx90a gfx1100; do
    echo "== $target"
    for source in "$work"/sources/gpu-*.cl; do
        name=$(basename "$source" .cl)
        assembly="$work/$name.$target.s"
        if ! clang-16 -target amdgcn-amd-amdhsa -mcpu="$target" -x cl -cl-std=CL1.2 -O3 -nogpulib \
            -Xclang -finclude-default-header -Xclang -mlink-builtin-bitcode -Xclang "$library" -S -o "$assembly" "$source" \
            2>"$work/$name.log"; then
            cat "$work/$name.log"
            echo "error: $name does not assemble for $target" >&2
            exit 1
        fi
        awk -v name="$name" '
            /\.vgpr_count:/ && $2 > registers { registers = $2 }
            /\.vgpr_spill_count:/ { spills += $2 }
            /\.group_segment_fixed_size:/ && $2 > memory { memory = $2 }
            END {
                printf "%-28s %4d registers %6d bytes of local memory %4d spills\n", name, registers, memory, spills
                exit spills > 0
            }
        ' "$assembly" || { echo "error: $name spills registers on $target" >&2; exit 1; }
    done
done
