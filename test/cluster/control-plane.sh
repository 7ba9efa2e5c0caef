#!/usr/bin/env bash
# An API server and its etcd alone, for tests that need an API and no pods. Needs no root; about 4 seconds.
#   control-plane.sh [--controllers] COMMAND [ARG...]   runs the command beside it, with the variables of README.md
#   control-plane.sh [--controllers]                    prints the variables as one line of JSON when it is ready, and
#                                                       lives until its standard input ends or it is told to end
# --controllers adds the controller manager: namespaces that go away, garbage collection, default service accounts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/versions.sh"; . "$here/control-plane-parts.sh"
with_controllers=; [ "${1:-}" != --controllers ] || { with_controllers=1; shift; }
export CLUSTER PATH=$CLUSTER_BIN:$here:$PATH
CLUSTER=$(mktemp -d)
# A supervisor is told to end when this shell is gone, even if it was killed; it takes its component with it.
export CLUSTER_LEASH="setpriv --pdeathsig TERM"

finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true
  [ -z "${CLUSTER_LOGS:-}" ] || { mkdir -p "$CLUSTER_LOGS" && cp -r "$CLUSTER/log/." "$CLUSTER_LOGS"; } || true
  rm -rf "$CLUSTER"; exit $status
}
trap finish EXIT; trap 'exit 130' INT; trap 'exit 143' TERM HUP

free_port() { # outside the range that the kernel hands out for outgoing connections
  local port
  while port=$((20000 + RANDOM % 10000)); (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo $port
}

cd "$CLUSTER"; components
port=$(free_port)
identities 127.0.0.1 "$port" DNS:kubernetes.default.svc node1
api_server "" 127.0.0.1 "$port" 10.96.0.0/16
until_ready apiserver
[ -z "$with_controllers" ] || { controllers "" "$(free_port)"; until_ready controllers; }
export KUBECONFIG=$CLUSTER/admin.conf HOST_ADDRESS=https://127.0.0.1:$port HOST_CA=$CLUSTER/pki/ca.crt
export CLUSTER_SA_KEY=$CLUSTER/pki/sa.key CLUSTER_AUDIT_LOG=$CLUSTER/log/audit

cd "$OLDPWD"
if [ $# -gt 0 ]; then status=0; "$@" || status=$?; exit $status; fi
json=
for name in CLUSTER CLUSTER_BIN KUBECONFIG HOST_ADDRESS HOST_CA CLUSTER_SA_KEY CLUSTER_AUDIT_LOG; do json="$json,\"$name\":\"${!name}\""; done
echo "{${json#,}}"
while read -r _; do :; done
