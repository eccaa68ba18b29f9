#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Comments on a pull request on GitHub with Markdown from stdin, or updates its earlier comment
# of the same name. Needs curl and jq.
#
#	comment.sh NAME PULL-REQUEST <diff.md
#
# $GITHUB_TOKEN must be allowed to write to the pull request. If it is not, as in a fork, that is a warning.
set -euo pipefail

if [ $# != 2 ]; then
  echo "usage: comment.sh NAME PULL-REQUEST" >&2
  exit 2
fi
mark="<!-- tape: ${1//-->/} -->"
comments=$GITHUB_API_URL/repos/$GITHUB_REPOSITORY/issues
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jq -Rs --arg mark "$mark" '{body: ($mark + "\n" + .)}' >"$work/comment.json"

# call METHOD URL [CURL-FLAG…] writes GitHub's answer to answer.json. (The token is not among
# the arguments, which other users of the machine can see.)
call() {
  local status
  status=$(curl -sS --retry 3 -X "$1" "${@:3}" -H "Accept: application/vnd.github+json" \
    -H @<(echo "Authorization: Bearer $GITHUB_TOKEN") -o "$work/answer.json" -w '%{http_code}' "$2")
  case $status in
    2??) ;;
    403)
      echo "::warning::the token may not comment on this pull request: $(jq -r .message "$work/answer.json" | tr '\r\n' '  ')"
      exit 0
      ;;
    *)
      echo "comment.sh: $1 $2: status $status: $(head -c 1000 "$work/answer.json")" >&2
      exit 1
      ;;
  esac
}

made=
for page in 1 2 3 4 5 6 7 8 9 10; do
  call GET "$comments/$2/comments?per_page=100&page=$page"
  made=$(jq -r --arg mark "$mark" 'first(.[] | select(.body | startswith($mark)) | .id) // empty' "$work/answer.json")
  if [ -n "$made" ] || [ "$(jq length "$work/answer.json")" -lt 100 ]; then break; fi
done
if [ -n "$made" ]; then
  call PATCH "$comments/comments/$made" --data-binary "@$work/comment.json"
else
  call POST "$comments/$2/comments" --data-binary "@$work/comment.json"
fi
