#!/usr/bin/env bash
# Installs the Debian packages named as arguments, if any is missing, and says so. Checks for Swift first.
set -eu
if ! command -v swift >/dev/null; then
    echo "martlet: Swift is not installed; get 6.3 or later from https://swift.org/install" >&2
    exit 1
fi
version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' | head -n 1)
read -r major minor <<<"${version:-0 0}"
if [ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -lt 3 ]; }; then
    echo "martlet: Swift $major.$minor is too old; install 6.3 or later from https://swift.org/install" >&2
    exit 1
fi
missing=()
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0
refuse() {
    echo "martlet: $1; please install these Debian packages, or what they are called here: ${missing[*]}" >&2
    exit 1
}
command -v apt-get >/dev/null || refuse "there is no apt-get on this system"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || refuse "installing packages needs root or sudo"
    as_root=(sudo)
fi
echo "martlet: installing ${missing[*]}"
said=$(
    { "${as_root[@]}" apt-get update -qq -o APT::Update::Error-Mode=any -o Acquire::Retries=2 &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${missing[@]}"; } 2>&1 >/dev/null
) || refuse "apt-get failed ($(grep -m 1 '^E:' <<<"$said" || echo "without a reason"))"
