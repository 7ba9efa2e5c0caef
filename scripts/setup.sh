#!/usr/bin/env bash
# npm packages, once for each lockfile; Node 24 itself comes with them where the machine's is older.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v npm >/dev/null; then
  echo "npm is needed to install the packages; install Node.js (any version with npm 10 or newer), for example: apt-get install nodejs npm" >&2
  exit 1
fi
want=$(sha256sum package-lock.json | cut -d' ' -f1)
stamp=node_modules/.installed
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ]; then
  echo "Installing npm packages (once)..." >&2
  npm ci --no-audit --no-fund --loglevel=error >&2
  echo "$want" > "$stamp"
fi
major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
if [ "$major" -lt 24 ]; then
  echo "Node 24 or newer is needed; this is $(node --version), and no build of Node 24 for this platform came with the packages" >&2
  exit 1
fi
