#!/usr/bin/env bash
# Installs the Debian packages that the benches compare and load with, where they are missing; what the tests need
# (nginx among it) is test/cluster/install.sh's. Without root, or elsewhere than on Debian, it only names what is missing.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in nginx-light:nginx haproxy:haproxy wrk:wrk nghttp2-client:h2load util-linux:taskset; do
  command -v "${pair#*:}" >/dev/null || missing+=("${pair%:*}")
done
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install.sh: missing: ${missing[*]}; install them (as root: apt-get install ${missing[*]})" >&2; exit 1
fi
# Debian starts a daemon when it installs it; the benches start their own.
policy=/usr/sbin/policy-rc.d
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; trap 'rm -f $policy' EXIT; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
