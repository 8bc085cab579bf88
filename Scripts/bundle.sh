#!/usr/bin/env bash
# Builds bundle/: the program with its shared libraries (its `compare` tests the backends), for an x86-64 Linux with glibc 2.35 or
# later and no Swift. The OpenCL loader is in it; point it at a driver with OCL_ICD_FILENAMES if the system has no .icd files.
set -eu
cd "$(dirname "$0")/.."
flags=(-c release --static-swift-stdlib)
swift build "${flags[@]}" --product martlet
binary=$(swift build "${flags[@]}" --show-bin-path)/martlet
rm -rf bundle
mkdir -p bundle
cp "$binary" bundle/martlet
strip bundle/martlet
# Everything travels along but glibc and the compiler's own libraries, which any system with that glibc has new enough
# (GLIBCXX 3.4.29), while this machine's may want a newer glibc. RUNPATH is $ORIGIN.
ldd bundle/martlet | awk '$3 ~ /^\// {print $3}' | while read -r library; do
    case $(basename "$library") in
    libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.* | ld-linux* | libstdc++.so.* | libgcc_s.so.*) ;;
    *) cp -L "$library" bundle/ ;;
    esac
done
# The program opens the OpenCL loader itself.
loader=$(ldconfig -p | awk '$1 == "libOpenCL.so.1" && /x86-64/ {print $NF; exit}')
[ -n "$loader" ] || { echo "bundle: no libOpenCL.so.1 on this machine; install ocl-icd-libopencl1" >&2; exit 1; }
cp -L "$loader" bundle/
cat > bundle/martlet.sh <<'EOF'
#!/bin/sh
# Runs the program with the libraries beside it.
here=$(cd "$(dirname "$0")" && pwd)
LD_LIBRARY_PATH="$here${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/martlet" "$@"
EOF
chmod +x bundle/martlet.sh
# The licences of all that is in the bundle: ours, that of each library, and those of what is linked into the program.
mkdir bundle/licences
cp LICENSE bundle/licences/martlet
cp .build/checkouts/swift-argument-parser/LICENSE.txt bundle/licences/swift-argument-parser
swift_root=$(dirname "$(dirname "$(readlink -f "$(command -v swift)")")")
cp "$swift_root/share/swift/LICENSE.txt" bundle/licences/swift
for library in bundle/*.so*; do
    name=$(basename "$library")
    # Where a library lies and where its package says that it lies may differ by a link from /lib to /usr/lib.
    package=$(dpkg -S "*/$name" 2>/dev/null | sed -n 's/^\([^:,]*\).*/\1/p' | head -n 1)
    [ -n "$package" ] || { echo "bundle: no package owns $name, so its licence is not known" >&2; exit 1; }
    cp "/usr/share/doc/$package/copyright" "bundle/licences/$name"
done
needed=$(find bundle -type f -exec objdump -T {} + 2>/dev/null | grep -o 'GLIBC_2\.[0-9]*' | sort -t. -k2 -n | tail -n 1)
size=$(du -sm bundle | cut -f1)
echo "bundle: ${size} MB, needs ${needed:-no glibc}"
case "$needed" in GLIBC_2.*) [ "${needed#GLIBC_2.}" -le 35 ] || { echo "bundle: needs a newer glibc than 2.35" >&2; exit 1; } ;; esac
[ "$size" -lt 60 ] || { echo "bundle: larger than 60 MB" >&2; exit 1; }
