#!/usr/bin/env bash
# Builds the program that says how Go reads HTTP/1.1, into the cache, and prints its path. A finished build is known by its
# stamp and costs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/../cluster/versions.sh"
command -v go >/dev/null || { echo "build.sh: Go is missing; install Go 1.26 or newer and put it on PATH" >&2; exit 1; }
home=$cache/fuzz
stamp=$home/.built-$({ cat "$0" "$here/framer-peer/main.go"; go version; } | sha256sum | cut -c1-16)
mkdir -p "$home"
exec 9>"$home/build.lock"; flock 9
if [ ! -e "$stamp" ]; then
  rm -rf "$home/source" "$home"/.built-*
  mkdir "$home/source"; cd "$home/source"
  cp "$here/framer-peer/main.go" .
  printf 'module framerpeer\n\ngo 1.26\n' > go.mod
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$home/framer-peer" .
  touch "$stamp"
fi
echo "$home/framer-peer"
