#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fails where a change adds an image that is not pinned by digest, or that nobody signed,
# and says in which line. Needs tape, git and jq, in a checkout that has the base commit.
#
#	review.sh SOURCE BASE    such as: review.sh ./manifests origin/main
#
# Exit status: 0 nothing to say, 3 the change adds such an image, 1 it could not be told.
# $TAPE_FLAGS are flags for tape, such as --hosts-dir DIR.
set -euo pipefail

if [ $# != 2 ]; then
  echo "usage: review.sh SOURCE BASE" >&2
  exit 2
fi
source=$1 base=$2
read -ra flags <<<"${TAPE_FLAGS:-}"
work=$(mktemp -d)
trap 'git worktree remove --force "$work/base" 2>/dev/null || true; rm -rf "$work"' EXIT

# What was there before is not this change's fault. A source that is new had no images.
git worktree add --quiet --detach "$work/base" "$base"
echo '{"images":[]}' >"$work/before.json"
if [ -e "$work/base/$source" ]; then
  tape images "$work/base/$source" --no-resolve -o json --progress none "${flags[@]}" >"$work/before.json"
fi
tape images "$source" -o json --progress none "${flags[@]}" >"$work/after.json"

# A line for each place: what is wrong, file, line, column, image.
jq -r --slurpfile before "$work/before.json" '
  ($before[0].images | map(.source)) as $known
  | .images[] | select(.source as $s | $known | index($s) | not)
  | [ (if .digestProvided then empty else "is not pinned by digest" end),
      (if any(.related[]?; .kind == "signature") then empty else "is not signed" end) ] as $faults
  | .locations[] as $at | $faults[]
  | [., $at.file, $at.line, $at.column, $at.value] | @tsv' "$work/after.json" >"$work/faults"

while IFS=$'\t' read -r fault file line column image; do
  if [ "${GITHUB_ACTIONS:-}" = true ]; then
    # The values are of the change: they must not end the command or begin another.
    escape() { local s=${1//'%'/%25}; s=${s//':'/%3A}; printf %s "${s//,/%2C}"; }
    printf '::error file=%s,line=%s,col=%s::%s %s\n' "$(escape "${source%/}/$file")" "$line" "$column" "$image" "$fault"
  else
    printf '%s:%s:%s: %s %s\n' "${source%/}/$file" "$line" "$column" "$image" "$fault" >&2
  fi
done <"$work/faults"
[ ! -s "$work/faults" ] || exit 3
