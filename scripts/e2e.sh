#!/usr/bin/env bash
# The tests on a real cluster: e2e.sh [VITEST ARGUMENT...]. Root. What they need is made first, as the cluster's network
# reaches nothing outside.
set -euo pipefail
cd "$(dirname "$0")/.."
test/cluster/install.sh
test/cluster/build.sh >/dev/null
test/cluster/clients.sh >/dev/null
npm run --silent bundle
images=$(test/cluster/images.sh)
CLUSTER_IMAGES=$images exec test/cluster/with-cluster.sh vitest run --project e2e "$@"
