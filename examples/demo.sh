#!/usr/bin/env bash
# Packages the example shop with a local registry, views it and pulls it. Run `make build`
# first. Leaves nothing behind but /tmp/tape-demo.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/bin:$PATH"

work=${TAPE_DEMO_DIR:-${TMPDIR:-/tmp}/tape-demo}
# Remove only a folder that an earlier demo made.
if [ -e "$work" ] && [ ! -e "$work/.tape-demo" ]; then
  echo "demo: $work already exists, and no demo made it: remove it, or set TAPE_DEMO_DIR" >&2
  exit 1
fi
rm -rf "$work" && mkdir -p "$work/hosts/registry.shop.example" && touch "$work/.tape-demo"
GOCACHE=$(go env GOCACHE); export GOCACHE # its default depends on XDG_CACHE_HOME
export XDG_CACHE_HOME="$work/cache" DOCKER_CONFIG="$work/docker"
bold=; plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf "\033[1m"); plain=$(printf "\033[0m"); fi
say() { printf "\n%s%s%s\n" "$bold" "$*" "$plain"; }
run() { say "\$ $*"; "$@"; }

say "# A local registry, and the shop's images in it"
tape registry serve --addr 127.0.0.1:0 --data "$work/registry" >"$work/registry.log" &
registry=$!
trap 'kill $registry 2>/dev/null; wait $registry 2>/dev/null || true' EXIT
until grep -q 'serving' "$work/registry.log"; do
  kill -0 $registry || { cat "$work/registry.log" >&2; exit 1; }
  sleep 0.1
done
host=$(sed -n 's/.* at //p' "$work/registry.log")
go run ./examples/shop/images "$host" examples/shop/manifests

# The manifests name registry.shop.example: redirect it to the local registry.
cat >"$work/hosts/registry.shop.example/hosts.toml" <<TOML
server = "http://$host"
TOML
export TAPE_HOSTS_DIR="$work/hosts"

say "# What does the shop run, and which line says so?"
run tape images ./examples/shop/manifests

say "# Everything into one artifact"
run tape package ./examples/shop/manifests -O "$host/team/shop" --tag v1.4.0
run tape view "$host/team/shop:v1.4.0"

say "# Anyone who may pull it can deploy it"
run tape pull "$host/team/shop:v1.4.0" "$work/shop"
say "\$ diff -r examples/shop/manifests $work/shop"
diff -r examples/shop/manifests "$work/shop" || true

say "# Signed, and verified with the public key"
(cd "$work" && COSIGN_PASSWORD= tape sign --generate-key shop)
run tape sign "$host/team/shop:v1.4.0" --key "$work/shop.key"
run tape verify "$host/team/shop:v1.4.0" --key "$work/shop.pub"
tape view "$host/team/shop:v1.4.0" -o html >"$work/shop.html"

say "# Again: nothing changed, nothing moves"
run tape package ./examples/shop/manifests -O "$host/team/shop" --tag v1.4.0

say "# A Helm chart, a Kustomize overlay and a CUE module, into one artifact: examples/pipeline/tape.yaml"
run tape package --pipeline examples/pipeline/tape.yaml --arg registry="$host/team"
run tape interpreter list

cat <<NEXT

That was it. The registry is gone, what was pulled is in $work/shop:
  kubectl apply -R -f $work/shop          # with images that a cluster can reach

What was packed, as a page for a browser: $work/shop.html

Now with an application and a registry of your own:
  export PATH=$PWD/bin:\$PATH
  tape images  ./your/manifests
  tape package ./your/manifests -O registry.example.com/team/app
  tape view    registry.example.com/team/app:TAG
NEXT
