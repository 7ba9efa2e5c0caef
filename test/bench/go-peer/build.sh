#!/usr/bin/env bash
# Builds the Go clients and the target of the benches of HTTP/2 into the cache, and prints the program's path. A finished
# build is known by its stamp and costs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/../../cluster/versions.sh"
command -v go >/dev/null || { echo "build.sh: Go is missing; install Go 1.26 or newer and put it on PATH" >&2; exit 1; }
home=$cache/bench; program=$home/go-peer
stamp=$home/.built-$(cat "$0" "$here/main.go" | sha256sum | cut -c1-16)
mkdir -p "$home"
exec 9>"$home/build.lock"; flock 9
if [ ! -e "$stamp" ]; then
  rm -f "$home"/.built-*
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$program" "$here/main.go"
  touch "$stamp"
fi
echo "$program"
