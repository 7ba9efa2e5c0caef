#!/usr/bin/env bash
# Builds the Kubernetes programs, etcd, CoreDNS, csi-sanity and an old kubectl from their Go modules into the cache.
# About 10 minutes on two cores the first time; a finished build is known by its stamps and costs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/versions.sh"
command -v go >/dev/null || { echo "build.sh: Go is missing; install Go 1.26 or newer and put it on PATH" >&2; exit 1; }
export GOFLAGS="-mod=mod -trimpath" CGO_ENABLED=0
mkdir -p "$cache"
exec 9>"$cache/build.lock"; flock 9   # runs side by side build once

stamped() { [ -x "$1" ] && [ -e "$(dirname "$1")/.$(basename "$1")-$2" ]; }
stamp() { touch "$(dirname "$1")/.$(basename "$1")-$2"; }

# k8s.io/kubernetes points its staging modules at folders of its own tree; here each is pinned to its published version.
kubernetes() { # VERSION PROGRAM...
  local version=$1 home=$cache/kubernetes-$1 minor program flags missing=(); shift
  for program in "$@"; do stamped "$home/bin/$program" "$version" || missing+=("$program"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  mkdir -p "$home/bin" "$home/kubernetes"; cd "$home/kubernetes"
  if [ ! -e .tidy ]; then
    rm -f go.mod go.sum; printf 'module cluster\n\ngo 1.25\n' > go.mod
    go mod download "k8s.io/kubernetes@v$version"
    { printf 'module cluster\n\ngo 1.25\n\ngodebug default=go1.24\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$version"
      grep -oE 'k8s.io/[a-z-]+ v0\.0\.0( |$)' "$(go env GOMODCACHE)/k8s.io/kubernetes@v$version/go.mod" | awk '{print $1}' | sort -u |
        while read -r module; do echo "  $module => $module v0.${version#1.}"; done
      printf ')\n\ntool (\n'; printf '  k8s.io/kubernetes/cmd/%s\n' "$@"; printf ')\n'; } > go.mod
    go mod tidy; touch .tidy
  fi
  minor=${version#1.}; minor=${minor%%.*}; flags="-s -w"
  for package in component-base/version client-go/pkg/version; do   # else the programs call themselves v0.0.0
    flags="$flags -X k8s.io/$package.gitVersion=v$version -X k8s.io/$package.gitMajor=1 -X k8s.io/$package.gitMinor=$minor"
  done
  for program in "${missing[@]}"; do
    go build -ldflags "$flags" -o "$home/bin/" "k8s.io/kubernetes/cmd/$program"; stamp "$home/bin/$program" "$version"
  done
}

program() { # NAME VERSION MODULE [PACKAGE]
  local out=$CLUSTER_BIN/$1
  ! stamped "$out" "$2" || return 0
  mkdir -p "$CLUSTER_BIN" "$cache/modules/$1"; cd "$cache/modules/$1"
  printf 'module build\n\ngo 1.26\n' > go.mod
  go get -tool "${4:-$3}@v$2"
  go build -ldflags "-s -w" -o "$out" "${4:-$3}"; stamp "$out" "$2"
}

kubernetes "$kubernetes_version" kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl kube-proxy
kubernetes "$old_kubectl_version" kubectl
program etcd "$etcd_version" go.etcd.io/etcd/server/v3
program coredns "$coredns_version" github.com/coredns/coredns
program csi-sanity "$csi_test_version" github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity
echo "$CLUSTER_BIN"
