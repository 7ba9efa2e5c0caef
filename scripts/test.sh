#!/usr/bin/env bash
# Everything, in one go; ends with the line `N passed, N failed`. What cannot run here is named with its reason; under
# CI=true that is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
export KUBE_CONNECTOR_TALLY=$(mktemp)
problems=0
missing=()

finish() {
  local passed failed skipped
  read -r passed failed skipped < <(awk '/^[0-9]/ {p+=$1; f+=$2; s+=$3} END {print p+0, f+0, s+0}' "$KUBE_CONNECTOR_TALLY")
  echo; grep '^failed: ' "$KUBE_CONNECTOR_TALLY"
  rm -f "$KUBE_CONNECTOR_TALLY"
  failed=$((failed + problems))
  [ "$skipped" -eq 0 ] || missing+=("$skipped tests that say so in their names: they mount file systems, which needs root, or need PostgreSQL (test/cluster/install.sh)")
  for what in "${missing[@]:-}"; do [ -n "$what" ] && echo "not run: $what"; done
  if [ "${CI:-}" = true ]; then failed=$((failed + ${#missing[@]})); fi
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
  exit
}

fail() { echo "failed: $1" >> "$KUBE_CONNECTOR_TALLY"; problems=$((problems + 1)); }

step() { # NAME COMMAND...: a step that is no vitest run counts as one failure when it fails
  local name=$1
  echo; echo "== $1"; shift
  "$@" || fail "$name"
}

vitests() { # NAME COMMAND...: vitest counts for itself; one that died without counting is a failure
  local status=0 tally name=$1
  echo; echo "== $1"; shift
  tally=$(mktemp)
  KUBE_CONNECTOR_TALLY=$tally "$@" || status=$?
  if [ ! -s "$tally" ]; then printf 'failed: %s ended without a result (status %s)\n0 1 0\n' "$name" "$status" > "$tally"; fi
  cat "$tally" >> "$KUBE_CONNECTOR_TALLY"; rm -f "$tally"
}

step "lint, format and types" npm run --silent lint

built=yes
if [ "$(id -u)" = 0 ]; then step "Debian packages" test/cluster/install.sh || true; fi
if command -v go >/dev/null; then
  echo; echo "== Kubernetes from Go modules (about 8 minutes the first time)"
  test/cluster/build.sh >/dev/null || { fail "Kubernetes could not be built"; built=no; }
else
  missing+=("integration and cluster tests: go (1.26 or newer) is not installed, and Kubernetes is built with it"); built=no
fi

vitests "unit and room tests" vitest run --project unit

# Both wait more than they work, so they run side by side; the output of the first is shown when it has ended.
beside=
if [ "$built" = yes ]; then
  output=$(mktemp)
  vitests "integration tests" vitest run --project integration >"$output" 2>&1 </dev/null & beside=$!
fi
if [ "$built" = no ]; then :
elif [ "$(id -u)" != 0 ]; then missing+=("cluster tests: they need root, for namespaces, mounts and containerd")
else vitests "cluster tests" scripts/e2e.sh
fi
if [ -n "$beside" ]; then wait "$beside"; cat "$output"; rm -f "$output"; fi
finish
