#!/usr/bin/env bash
# Builds what judges our HTTP/2, into the cache: h2spec, taught to send an authority and a credential of its own, and a
# program that encodes and decodes with Go's HPACK. A finished build is known by its stamp and costs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/../cluster/versions.sh"
command -v go >/dev/null || { echo "build.sh: Go is missing; install Go 1.26 or newer and put it on PATH" >&2; exit 1; }
h2spec_version=2.2.1
net_version=0.57.0
home=$cache/http2
stamp=$home/.built-$(cat "$0" "$here"/hpack-peer/main.go | sha256sum | cut -c1-16)
mkdir -p "$home"
exec 9>"$home/build.lock"; flock 9
if [ ! -e "$stamp" ]; then
  export GOFLAGS="-mod=mod -trimpath" CGO_ENABLED=0
  rm -rf "$home/h2spec-source" "$home/hpack-peer-source" "$home"/.built-*
  go mod download "github.com/summerwind/h2spec@v$h2spec_version+incompatible" 2>/dev/null ||
    (cd "$home" && printf 'module download\n' > go.mod && go get "github.com/summerwind/h2spec@v$h2spec_version+incompatible")
  cp -r "$(go env GOMODCACHE)/github.com/summerwind/h2spec@v$h2spec_version+incompatible" "$home/h2spec-source"
  chmod -R u+w "$home/h2spec-source"; cd "$home/h2spec-source"
  printf 'module github.com/summerwind/h2spec\n\ngo 1.26\n' > go.mod
  sed -i 's|HeaderField(":authority", authority),|HeaderField(":authority", cmp.Or(os.Getenv("H2SPEC_AUTHORITY"), authority)), HeaderField("authorization", os.Getenv("H2SPEC_AUTHORIZATION")),|' spec/util.go
  sed -i '0,/^import (/s//import (\n\t"cmp"\n\t"os"/' spec/util.go
  go get "golang.org/x/net@v$net_version"; go mod tidy
  go build -ldflags "-s -w" -o "$home/h2spec" ./cmd/h2spec
  mkdir "$home/hpack-peer-source"; cd "$home/hpack-peer-source"
  cp "$here/hpack-peer/main.go" .
  printf 'module hpackpeer\n\ngo 1.26\n' > go.mod
  go get "golang.org/x/net@v$net_version"
  go build -ldflags "-s -w" -o "$home/hpack-peer" .
  touch "$stamp"
fi
echo "$home"
