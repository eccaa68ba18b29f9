#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fails if a change adds an image that is not pinned by digest or not signed, and prints the
# line. SOURCE is what tape takes, or a folder with a tape.yaml. Needs tape, git and jq, in a checkout that has the base commit.
#
#	review.sh SOURCE BASE [TRUST]    such as: review.sh ./manifests origin/main trust.yaml
#
# With a trust file all images must also comply with it, and warnings fail. If the base has the
# file, its version is used: a change must not decide whom to trust. The difference that the
# change makes is written to $TAPE_DIFF, as Markdown. $TAPE_FLAGS are flags for tape, such as
# --hosts-dir DIR.
#
# Exit status: 0 no finding, 3 the change adds such an image, 1 the check failed.
set -euo pipefail

if [ $# != 2 ] && [ $# != 3 ]; then
  echo "usage: review.sh SOURCE BASE [TRUST]" >&2
  exit 2
fi
source=$1 base=$2 trust=${3:-}
read -ra flags <<<"${TAPE_FLAGS:-}"
progress=none
[ "${GITHUB_ACTIONS:-}" != true ] || progress=github
work=$(mktemp -d)
trap 'git worktree remove --force "$work/base" 2>/dev/null || true; rm -rf "$work"' EXIT

# pipeline PATH prints the pipeline file that is meant by a path: itself, or tape.yaml in it.
pipeline() {
  local file=$1
  [ ! -d "$1" ] || file=$1/tape.yaml
  ! grep -qs '^kind: *Pipeline' "$file" || echo "$file"
}

# Images that the base already has are not reported. A new source had none.
git worktree add --quiet --detach "$work/base" "$base"
was=$(pipeline "$work/base/$source") is=$(pipeline "$source")
echo '{"images":[]}' >"$work/before.json"
if [ -e "$work/base/$source" ]; then
  if ! tape images ${was:+-p} "${was:-$work/base/$source}" --no-resolve -o json --progress none "${flags[@]}" >"$work/before.json"; then
    echo "The base cannot be read: all images count as added." >&2
    echo '{"images":[]}' >"$work/before.json"
  fi
fi
tape images ${is:+-p} "${is:-$source}" -o json --progress none "${flags[@]}" >"$work/after.json"

if [ -n "${TAPE_DIFF:-}" ]; then
  if [ -e "$work/base/$source" ]; then
    status=0
    tape diff "${was:-$work/base/$source}" "${is:-$source}" -o markdown --progress none "${flags[@]}" >"$work/diff" || status=$?
    [ $status -lt 2 ] || echo "This and the base could not be compared." >"$work/diff" # an image may no longer exist
    diff=$(<"$work/diff")
    printf '%s\n' "${diff//"$work/base/"/"$base:"}" >"$TAPE_DIFF"
  else
    echo "\`$source\` is new." >"$TAPE_DIFF"
  fi
fi

# A line for each place: finding, image, file, line, column. Rendered manifests may have lines
# that are in no file: then it is the template.
jq -r --slurpfile before "$work/before.json" --arg source "${source%/}" '
  ($before[0].images | map(.source)) as $known
  | .images[] | select(.source as $s | $known | index($s) | not)
  | [ (if .digestProvided then empty else "is not pinned by digest" end),
      (if any(.related[]?; .kind == "signature") then empty else "is not signed" end) ] as $faults
  | .locations[] as $at | $faults[]
  | [., $at.value, $at.origin // ($source + "/" + $at.file),
     (if $at.origin == null or $at.originLine == $at.line then $at.line, $at.column else empty end)]
  | @tsv' "$work/after.json" >"$work/faults"

while IFS=$'\t' read -r fault image file line column; do
  if [ $progress = github ]; then
    # The change controls the values: they must not end the command or begin another.
    escape() { local s=${1//'%'/%25}; s=${s//':'/%3A}; printf %s "${s//,/%2C}"; }
    printf '::error file=%s%s::%s %s\n' "$(escape "$file")" "${line:+,line=$line,col=$column}" "$image" "$fault"
  else
    printf '%s%s: %s %s\n' "$file" "${line:+:$line:$column}" "$image" "$fault" >&2
  fi
done <"$work/faults"

# A dry run, which names the lines of images that are not trusted.
if [ -n "$trust" ]; then
  [ ! -e "$work/base/$trust" ] || trust=$work/base/$trust
  status=0
  tape package ${is:+-p} "${is:-$source}" -O review.invalid/review --dry-run --trust "$trust" --strict --progress $progress "${flags[@]}" >"$work/rehearsal" || status=$?
  [ $status = 0 ] || exit $status
fi
[ ! -s "$work/faults" ] || exit 3
