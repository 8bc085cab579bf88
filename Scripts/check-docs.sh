#!/usr/bin/env bash
# Every file and verb that the README and docs/ name exists.
set -eu
cd "$(dirname "$0")/.."
bin=$(swift build -c release --show-bin-path)/martlet
bad=0
for verb in $(grep -ohE '^    martlet [a-z]+' README.md docs/*.md | awk '{print $2}' | sort -u); do
    "$bin" "$verb" --help >/dev/null 2>&1 || { echo "docs: there is no verb $verb" >&2; bad=1; }
done
for path in $(grep -ohE '`(docs|Sources|Tests|Kernels|experiments|Scripts)/[A-Za-z0-9_./-]*`' README.md docs/*.md | tr -d '`' | sort -u); do
    [ -e "$path" ] || { echo "docs: there is no $path" >&2; bad=1; }
done
exit $bad
