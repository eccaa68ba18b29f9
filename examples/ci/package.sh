#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Packages a source, or a folder with a tape.yaml, signs it and verifies it. Needs tape and credentials (docker's config).
#
#	package.sh SOURCE REPOSITORY[:TAG] KEY PUBLIC-KEY    KEY may be env://NAME
#
# The exit status is tape's. $TAPE_FLAGS are flags for tape, such as --store DIR to keep a cache.
set -euo pipefail

if [ $# != 4 ]; then
  echo "usage: package.sh SOURCE REPOSITORY[:TAG] KEY PUBLIC-KEY" >&2
  exit 2
fi
read -ra flags <<<"${TAPE_FLAGS:-}"
if [ "${GITHUB_ACTIONS:-}" = true ]; then
  flags+=(--progress github)
elif [ "${GITLAB_CI:-}" = true ]; then
  flags+=(--progress gitlab)
fi
file=$1
[ ! -d "$1" ] || file=$1/tape.yaml
pipeline=
! grep -qs '^kind: *Pipeline' "$file" || pipeline=$file
result=$(tape package ${pipeline:+-p} "${pipeline:-$1}" -O "$2" --sign --key "$3" -o json "${flags[@]}")
ref=$(jq -r .root.ref <<<"$result")
tape verify "$ref" --key "$4" "${flags[@]}" >&2
echo "$ref"
[ -z "${GITHUB_OUTPUT:-}" ] || echo "ref=$ref" >>"$GITHUB_OUTPUT"
