#!/usr/bin/env bash
# Does what README.md and docs/ say, as a new user would: makes a package with `martlet new`, adds the models of docs/extending.md to it,
# runs every verb on them, and compiles and runs every Swift snippet of the pages.
#
# A block of code that begins with ```swift file=NAME is the file NAME of the package; the other blocks of a page are one test together.
set -eu
cd "$(dirname "$0")/.."
clone=$PWD
martlet=$(swift build -c release -Xswiftc -enable-testing --show-bin-path)/martlet
[ -x "$martlet" ] || martlet=$(swift build -c release --show-bin-path)/martlet
# A folder that is named stays, with its build, for those who look for a mistake in it.
work=${WALKTHROUGH:-$(mktemp -d)}
[ -n "${WALKTHROUGH:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
cd "$work"
export MARTLET_DEVICE=cpu

step() { echo "walkthrough: $*"; }
# What must fail: with a status that is not 0, one line on standard error, and no file left at the path given first.
refuse() {
    local path=$1; shift
    if "$@" >/dev/null 2>error.txt; then echo "walkthrough: was not refused: $*" >&2; exit 1; fi
    [ "$(wc -l <error.txt)" = 1 ] || { echo "walkthrough: expected one line of: $*" >&2; cat error.txt >&2; exit 1; }
    [ ! -e "$path" ] || { echo "walkthrough: left $path behind: $*" >&2; exit 1; }
    sed 's/^/    /' error.txt
}

step "a package"
[ ! -d birds/.build ] || { rm -rf kept && mkdir kept && mv birds/.build kept/; }
rm -rf birds tags tagged.git runs
"$martlet" new birds --martlet "$clone"
refuse birds2 "$martlet" new "birds!"
refuse none "$martlet" new birds --martlet "$clone"

[ ! -d kept/.build ] || mv kept/.build birds/

step "a package that finds Martlet by its tag"
git init -q -b main tagged.git
git -C "$clone" archive HEAD | tar x -C tagged.git
git -C tagged.git add -A
git -C tagged.git -c user.name=walkthrough -c user.email=walkthrough@localhost commit -q -m tagged
git -C tagged.git tag 1.0.0
mkdir tags
"$martlet" new tags/geese --martlet "file://$work/tagged.git" --tag 1.0.0
(cd tags/geese && swift package resolve >/dev/null 2>&1 && swift package describe >/dev/null)

step "the files and the snippets of the pages"
rm -rf birds/Tests/birdsTests/Pages.swift
pages="birds/Tests/birdsTests/Pages.swift"
printf 'import Martlet\nimport Testing\n\n@testable import birds\n\n' >"$pages"
printf '/// The snippets of the documentation, a test for each page.\n@Suite(.serialized) struct Pages {\n' >>"$pages"
for source in "$clone"/README.md "$clone"/docs/*.md; do
    grep -q '^```swift' "$source" || continue
    awk -v folder=birds/Sources/birds '
        /^```swift file=/ { split($0, part, "="); file = folder "/" part[2]; printf "" >file; next }
        /^```/ { if (file) close(file); file = ""; next }
        file { print >>file }' "$source"
    name=$(basename "$source" .md | tr -c 'A-Za-z0-9\n' '_')
    printf '    @Test func page_%s() throws {\n' "$name" >>"$pages"
    awk '/^```swift$/ { inside = 1; next } /^```/ { inside = 0; next } inside { print "        " $0 }' "$source" >>"$pages"
    printf '    }\n\n' >>"$pages"
done
echo '}' >>"$pages"
sed -i 's/\[Birds.glyphs\]/[Birds.glyphs, NADE.glyphs, DenoisingAutoencoder.moons]/' birds/Sources/birds/Main.swift
cat >birds/Sources/birds/Moons.swift <<'SWIFT'
import Martlet

extension DenoisingAutoencoder {
    static let moons = Experiment(
        name: "autoencoder-moons", summary: "a denoising autoencoder of points on two moons",
        configuration: RunConfiguration(Settings { $0.code = 2 }) { $0.epochs = 3 },
        load: { _, _ in
            let draw = { (start: Int, count: Int) in PlanarDensity.moons.draw(seed: 1, start: start, count: count) }
            return ExperimentData(
                try Dataset(name: "moons", train: draw(0, 2000), valid: draw(5000, 200), test: draw(6000, 200)))
        })
}
SWIFT
cp "$clone/Package.resolved" birds/ 2>/dev/null || true
cd birds
for file in NADE:60 NADEExperiment:25; do
    lines=$(wc -l <"Sources/birds/${file%:*}.swift")
    [ "$lines" -le "${file#*:}" ] || { echo "walkthrough: ${file%:*}.swift has $lines lines, more than ${file#*:}" >&2; exit 1; }
done

step "build, and the tests: proof, enumeration, CPU against OpenCL, every snippet"
swift build --build-tests -c release -Xswiftc -enable-testing 2>&1 | grep -E 'error|warning: unre|Compiling|Build' || true
swift test --skip-build -c release -Xswiftc -enable-testing --no-parallel
birds=$(swift build -c release -Xswiftc -enable-testing --show-bin-path)/birds

step "every verb, on an autoregressive model"
"$birds" list
"$birds" run nade-glyphs --epochs 3 --name nade --threads 2
"$birds" run birds-glyphs --epochs 1
timeout -s INT 3 "$birds" run nade-glyphs --epochs 2000 --name stopped >/dev/null 2>&1 || true
"$birds" resume runs/nade
"$birds" evaluate runs/nade --per-example nats.npy
"$birds" sample runs/nade --count 20 --out draws.npy --seed 3
"$birds" sample runs/nade --count 20 --out loop.npy --seed 3 --naive
cmp draws.npy loop.npy
"$birds" sample runs/nade --count 20 --out draws.png
"$birds" complete runs/nade --input draws.npy --observed draws.npy --approximate --out completed.npy
"$birds" inspect runs/nade --dependencies jacobian.png | tee inspect.txt
# H D for the running sums and H D for the logits, of 100 hidden units and 80 pixels.
grep -q "in all 16000 of 16000" inspect.txt
"$birds" inspect birds-glyphs
"$birds" compare nade-glyphs --devices cpu,cpu --set hidden=20
"$birds" bench --only nade-glyphs --seconds 0.3 --floor
"$birds" profile nade-glyphs --seconds 0.3 --rows 5
"$birds" devices
refuse latents.npy "$birds" encode runs/nade --input draws.npy --out latents.npy

step "every verb that makes sense, on a model without a likelihood"
"$birds" run autoencoder-moons --name moons
"$birds" evaluate runs/moons
"$birds" evaluate runs/moons --json
"$birds" encode runs/moons --input "$(printf '1,2\n3,4\n' >points.csv; echo points.csv)" --out codes.npy
"$birds" decode runs/moons --input codes.npy --out back.npy
"$birds" interpolate runs/moons 0 1 --count 5 --out line.npy
"$birds" inspect runs/moons
"$birds" compare autoencoder-moons --devices cpu,cpu
"$birds" bench --only autoencoder-moons --seconds 0.1
refuse none.npy "$birds" sample runs/moons --count 3 --out none.npy
refuse none.npy "$birds" complete runs/moons --input back.npy --observed back.npy --out none.npy

step "bad input"
refuse runs/bad "$birds" run nade-glyphs --set hidden=0 --name bad
refuse runs/bad "$birds" run nade-glyphs --set beta2=2 --name bad
refuse runs/bad "$birds" run autoencoder-moons --set corruption=1 --name bad
refuse none.npy "$birds" evaluate runs/nade --weights runs/moons/model.safetensors --per-example none.npy
refuse none.npy "$birds" sample runs/nade --count 3 --class 1 --out none.npy
refuse none.npy "$birds" sample runs/nade --context codes.npy --count 2 --out none.npy
step "done"
