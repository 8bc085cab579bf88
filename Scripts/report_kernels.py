"""Reads what ptxas said of the GPU family's programs and fails where a product or convolution kernel is not what it should be.

For SOURCE.cl the report SOURCE.ptxas lies one folder up. A tile of T by T elements takes T*T multiply-adds and fetches
2*T floats of global memory for each step of k.
"""
import pathlib
import re
import sys

bad = []
sizes = set()
kernels = 0
print(f"{'kernel':44} {'tile':>9} {'registers':>9} {'shared':>8} {'spills':>7} {'madd/byte':>9}")
for path in map(pathlib.Path, sys.argv[1:]):
    source = path.read_text()
    report = (path.parent.parent / (path.stem + ".ptxas")).read_text()
    tiles = {
        name: int(tile)
        for name, tile in re.findall(r"#define KERNEL ((?:product|convolution)_\d+)\n(?:(?!#undef KERNEL)[\s\S])*?#define TILE (\d+)", source)
    }
    entries = re.findall(
        r"Compiling entry function '(\w+)'[\s\S]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r"[\s\S]*?Used (\d+) registers([^\n]*)", report)
    for name, _, stores, loads, registers, rest in entries:
        kernels += 1
        spills = int(stores) + int(loads)
        if name not in tiles:
            if spills:
                print(f"{path.stem + ' ' + name:44} {'':>9} {registers:>9} {'':>8} {spills:>7}")
            continue
        tile = tiles.pop(name)
        shared = re.search(r"(\d+) bytes smem", rest)
        ratio = tile * tile / (2 * tile * 4)
        print(
            f"{path.stem + ' ' + name:44} {tile:>4}x{tile:<4} {registers:>9} {shared.group(1) if shared else 0:>8} "
            f"{spills:>7} {ratio:>9.1f}")
        if spills:
            bad.append(f"{path.stem} {name} spills {spills} bytes of registers")
        sizes.add(tile)
        # Two groups of 256 work-items share the 65536 registers of a unit.
        if int(registers) > 128:
            bad.append(f"{path.stem} {name} takes {registers} registers, more than 128")
    if tiles:
        bad.append(f"{path.stem}: ptxas says nothing of {', '.join(sorted(tiles))}")
if sizes != {16, 32, 64, 128}:
    bad.append(f"expected tiles of 16, 32, 64 and 128 rows, found {sorted(sizes)}")
print(f"{kernels} kernels assemble for sm_90")
for message in bad:
    print("error:", message, file=sys.stderr)
sys.exit(1 if bad or not kernels else 0)
