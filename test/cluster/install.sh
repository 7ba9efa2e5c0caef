#!/usr/bin/env bash
# Installs the Debian packages that the cluster, the images and the client tests need, where they are missing.
# Without root, or elsewhere than on Debian, it only names what is missing.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=()
need() { # PACKAGE FILE-PATTERN-OR-COMMAND
  case $2 in
    /*) compgen -G "$2" >/dev/null || missing+=("$1") ;;
    *) command -v "$2" >/dev/null || missing+=("$1") ;;
  esac
}
need containerd containerd
need runc runc
need containernetworking-plugins /usr/lib/cni/bridge
need conntrack conntrack
need iptables iptables
need iproute2 ip
need procps sysctl
need strace strace
need util-linux unshare
need busybox-static /bin/busybox
need nginx-light nginx
need postgresql "/usr/lib/postgresql/*/bin/initdb"
need chromium chromium
need openssl openssl
need curl curl
need ca-certificates /etc/ssl/certs/ca-certificates.crt
need buildah buildah
need python3-venv '/usr/lib/python3.*/ensurepip/__init__.py'
need default-jdk-headless /usr/bin/javac
need maven mvn
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "install.sh: missing: ${missing[*]}; install them (as root: apt-get install ${missing[*]})" >&2; exit 1
fi
# Debian starts a daemon when it installs it; nothing of ours wants nginx or containerd running on the host.
policy=/usr/sbin/policy-rc.d
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; trap 'rm -f $policy' EXIT; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
