#!/usr/bin/env bash
# Run from the repository's root on a machine with a GPU, beside bundle/ (`make bundle` on a machine with Swift; the machine with the GPU
# needs neither Swift nor a network). It writes one file, OUT/gpu-check.txt: what OpenCL the driver brings, whether each model's kernels
# give the CPU's numbers, times of training steps and draws beside the model's predictions, PyTorch's times on the same GPU if PYTHON has
# it, and three profiles. Every part has its own limit; together they take at most eight minutes.
#
#     OUT=results PYTHON=python3 Scripts/gpu-check.sh
set -u
cd "$(dirname "$0")/.."
out=${OUT:-.}/gpu-check.txt
python=${PYTHON:-python3}
run=bundle/martlet.sh
[ -x "$run" ] || { echo "gpu-check: there is no bundle/; make bundle makes it on a machine with Swift" >&2; exit 1; }
mkdir -p "${OUT:-.}"
: >"$out"

# Drivers in containers often bring their library without the .icd file that tells the loader of it.
if ! ls "${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}"/*.icd >/dev/null 2>&1 && [ -z "${OCL_ICD_FILENAMES:-}" ]; then
    for library in libnvidia-opencl.so.1 libamdocl64.so libigdrcl.so; do
        path=$(ldconfig -p | awk -v name="$library" '$1 == name {print $NF; exit}')
        [ -n "$path" ] || path=$(find /usr/lib /usr/local /opt -name "$library" 2>/dev/null | head -n 1)
        [ -n "$path" ] && { export OCL_ICD_FILENAMES=$path; break; }
    done
fi

# part NAME SECONDS COMMAND..: its output under a heading, and a line that says how it ended.
part() {
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    echo "== $name: $*" >>"$out"
    timeout "$limit" "$@" >>"$out" 2>&1
    echo "== $name: status $?, $((SECONDS - start)) s" | tee -a "$out"
}

{
    echo "OCL_ICD_FILENAMES=${OCL_ICD_FILENAMES:-}"
    ls /etc/OpenCL/vendors 2>&1
    ldconfig -p | grep -i opencl
    command -v nvidia-smi >/dev/null && nvidia-smi -L
    command -v rocm-smi >/dev/null && rocm-smi --showproductname
} >>"$out" 2>&1
part devices 30 "$run" devices --measure --json
grep '"name"' "$out"
if ! grep -q '"name":"opencl' "$out"; then
    echo "gpu-check: the driver brings no OpenCL that works; $out says what is there" >&2
    exit 1
fi

# Experiments on images from a generator, which need no files.
for family in made nade maf realnvp glow pixelcnn wavenet lstm image-transformer; do
    part "compare-$family" 15 "$run" compare "$family-glyphs" --devices cpu,opencl
done
part train 70 "$run" bench --device opencl --what train --floor --json --seconds 1
part sample 70 env MARTLET_DEBUG=1 "$run" bench --device opencl --what sample --json --seconds 1
for name in glow wavenet realnvp; do part "profile-$name" 10 "$run" profile "$name" --device opencl --rows 30; done
if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    common=(benchmarks/torch_workloads.py --device cuda --tf32 --seconds 1 --what train)
    part torch 30 "$python" "${common[@]}"
    part torch-compile 80 "$python" "${common[@]}" --compile
else
    echo "== torch: $python has no PyTorch that sees this GPU" | tee -a "$out"
fi
echo "results in $out"
