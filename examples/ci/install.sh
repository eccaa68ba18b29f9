#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs a release of tape into a folder, after verifying its checksum.
# Needs curl and tar.
#
#	install.sh VERSION SHA256 DIR    SHA256 is that of the release's checksums.txt
#
# $TAPE_RELEASES is the URL to download releases from, such as a mirror.
set -euo pipefail

if [ $# != 3 ]; then
  echo "usage: install.sh VERSION SHA256 DIR" >&2
  exit 2
fi
version=${1#v} sha256=$2 dir=$3
from=${TAPE_RELEASES:-https://github.com/taped-dev/tape/releases/download}/v$version
os=$(uname -s | tr '[:upper:]' '[:lower:]')
case $(uname -m) in
  x86_64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) echo "install.sh: there is no release for $(uname -m)" >&2; exit 1 ;;
esac
archive=tape_${version}_${os}_$arch.tar.gz

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# sum FILE: macOS has no sha256sum.
sum() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }
# fetch FILE SHA256
fetch() {
  curl -fsSL --retry 3 -o "$work/$1" "$from/$1"
  if [ "$(sum "$work/$1")" != "$2" ]; then
    echo "install.sh: $from/$1 has the checksum $(sum "$work/$1"), not $2" >&2
    exit 1
  fi
}
fetch checksums.txt "$sha256"
want=$(awk -v file="$archive" '$2 == file { print $1 }' "$work/checksums.txt")
if [ -z "$want" ]; then
  echo "install.sh: $from/checksums.txt does not list $archive" >&2
  exit 1
fi
fetch "$archive" "$want"
mkdir -p "$dir"
tar xzf "$work/$archive" -C "$dir" --strip-components=1
