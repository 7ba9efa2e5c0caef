#!/usr/bin/env bash
# Runs a command beside two real one-node Kubernetes clusters that live only as long as the command:
#   with-cluster.sh COMMAND [ARG...]
# The hosting cluster is where the product is installed; the target is another one, with a CA of its own, behind nginx
# under a path prefix. The variables that the command gets stand in README.md.
# Everything (control planes, kubelets, runtimes, pods and the command) runs in mount, network, PID and IPC namespaces
# of its own: nothing leaves them, and when the command ends the kernel takes the rest down.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/versions.sh"; . "$here/control-plane-parts.sh"
address=172.30.0.2 target=172.30.0.3   # these exist in the namespace only

if [ "${1:-}" != --inside ]; then
  [ $# -gt 0 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
  [ "$(id -u)" = 0 ] || { echo "with-cluster.sh: needs root for namespaces and mounts; control-plane.sh needs none" >&2; exit 1; }
  export CLUSTER CLUSTER_BASE_IMAGES CLUSTER_IMAGES=${CLUSTER_IMAGES:-}
  CLUSTER_BASE_IMAGES=$("$here/base-images.sh"); CLUSTER=$(mktemp -d "${TMPDIR:-/tmp}/kc.XXXXXX"); chmod 755 "$CLUSTER"
  status=0
  { : <&0; } 2>/dev/null || exec </dev/null   # some runners close it
  unshare --mount --net --pid --ipc --fork --kill-child -- "$here/with-cluster.sh" --inside "$@" <&0 &
  inside=$!
  trap 'kill -KILL $inside 2>/dev/null' TERM INT HUP   # with unshare its PID namespace ends, and so everything in it
  wait $inside || status=$?
  wait $inside 2>/dev/null || true                     # after a signal the first wait returns at once
  [ -z "${CLUSTER_LOGS:-}" ] || { mkdir -p "$CLUSTER_LOGS" && cp -rL "$CLUSTER/log/." "$CLUSTER_LOGS"; } || true
  for _ in $(seq 50); do   # a cgroup can go only when the last killed process has
    find /sys/fs/cgroup -depth -type d -path "*/$(basename "$CLUSTER")*" -exec rmdir {} + 2>/dev/null || true
    [ -n "$(find /sys/fs/cgroup -maxdepth 2 -name "$(basename "$CLUSTER")" -print -quit)" ] || break
    sleep 0.1
  done
  rm -rf --one-file-system "$CLUSTER"
  exit $status
fi
shift
export PATH=$CLUSTER_BIN:$here:/usr/sbin:/sbin:$PATH
work=$PWD; cd "$CLUSTER"; components
mount --make-rprivate /; mount -t proc proc /proc

# A wire (a bridge: some kernels have no dummy link) with this machine and the target's machine on it.
mount -t tmpfs tmpfs /run; mkdir -p /run/netns
ip link set lo up
ip link add node type bridge; ip addr add $address/24 dev node; ip link set node up; ip route add default dev node
ip netns add target
ip link add target type veth peer name eth0 netns target; ip link set target master node up
in_target() { nsenter --net=/run/netns/target "$@"; }
in_target ip link set lo up; in_target ip addr add $target/24 dev eth0; in_target ip link set eth0 up
in_target ip route add default via $address
printf '127.0.0.1 localhost\n%s target.test\n' $target > hosts; mount --bind hosts /etc/hosts

mkdir -p target; ln -s ../log target/log; ln -s ../run target/run   # one folder of logs and of process ids for all
id=$(basename "$CLUSTER")
MACHINE_DIR=$CLUSTER/target MACHINE_PREFIX=target- MACHINE_NODE=target1 MACHINE_ADDRESS=$target MACHINE_CGROUP=$id/target \
  MACHINE_PODS=10.245.0.0/22 MACHINE_SERVICES=10.97.0.0/16 MACHINE_IMAGES=$CLUSTER_BASE_IMAGES \
  in_target unshare --mount -- sh -c 'umount -l /run; exec "$0"' "$here/machine.sh" & target_started=$!
MACHINE_DIR=$CLUSTER MACHINE_PREFIX='' MACHINE_NODE=node1 MACHINE_ADDRESS=$address MACHINE_CGROUP=$id/host \
  MACHINE_PODS=10.244.0.0/22 MACHINE_SERVICES=10.96.0.0/16 MACHINE_DNS=10.96.0.10 MACHINE_IMAGES="$CLUSTER_BASE_IMAGES $CLUSTER_IMAGES" \
  "$here/machine.sh"
wait $target_started

# The front door of the target: TLS with a third CA, a path prefix that is stripped, HTTP/2 towards clients as many have
# it; upgrades pass, nothing is buffered, and a quiet watch lives for hours.
authority front-ca front-ca
certificate front /CN=front "IP:$target,DNS:target.test" front-ca
cat > nginx.conf <<T
worker_processes 1; daemon off; pid $CLUSTER/run/nginx.own; error_log $CLUSTER/log/nginx info;
events { worker_connections 16384; }
worker_rlimit_nofile 32768;
http {
  access_log $CLUSTER/log/nginx-access;
  client_body_temp_path $CLUSTER/nginx; proxy_temp_path $CLUSTER/nginx; fastcgi_temp_path $CLUSTER/nginx; uwsgi_temp_path $CLUSTER/nginx; scgi_temp_path $CLUSTER/nginx;
  map \$http_upgrade \$connection_upgrade { default upgrade; '' ''; }
  upstream apiserver { server $target:6443; keepalive 16; }
  server {
    listen $target:8443 ssl http2;
    ssl_certificate $CLUSTER/pki/front.crt; ssl_certificate_key $CLUSTER/pki/front.key;
    client_max_body_size 0; keepalive_requests 1000000; http2_max_concurrent_streams 1000;
    location /kubernetes/global/ {
      proxy_pass https://apiserver/;
      proxy_ssl_trusted_certificate $CLUSTER/target/pki/ca.crt; proxy_ssl_verify on; proxy_ssl_name kubernetes.default.svc;
      proxy_http_version 1.1; proxy_set_header Host \$http_host;
      proxy_set_header Upgrade \$http_upgrade; proxy_set_header Connection \$connection_upgrade;
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 6h; proxy_send_timeout 6h;
    }
    location / { return 404 "no cluster here\n"; }
  }
}
T
mkdir -p nginx
component nginx "curl --noproxy '*' -fsk --max-time 2 https://$target:8443/kubernetes/global/readyz" \
  nsenter --net=/run/netns/target nginx -c "$CLUSTER/nginx.conf"
until_ready nginx

export KUBECONFIG=$CLUSTER/admin.conf HOST_ADDRESS=https://$address:6443 HOST_CA=$CLUSTER/pki/ca.crt
export TARGET_KUBECONFIG=$CLUSTER/target/admin.conf TARGET_CA=$CLUSTER/pki/front-ca.crt
export TARGET_ADDRESS=https://$target:8443/kubernetes/global TARGET_NAMED_ADDRESS=https://target.test:8443/kubernetes/global
export TARGET_DIRECT_ADDRESS=https://$target:6443 TARGET_DIRECT_CA=$CLUSTER/target/pki/ca.crt
export CLUSTER_SA_KEY=$CLUSTER/pki/sa.key TARGET_SA_KEY=$CLUSTER/target/pki/sa.key
export CLUSTER_AUDIT_LOG=$CLUSTER/log/audit TARGET_AUDIT_LOG=$CLUSTER/log/target-audit
export CLUSTER_KUBECTL_1_29=$cache/kubernetes-$old_kubectl_version/bin/kubectl CLUSTER_CLIENTS=$cache/clients
cd "$work"
status=0; "$@" || status=$?
[ -z "${CLUSTER_LOGS:-}" ] || cp -r /var/log/pods "$CLUSTER/log/pods" || true   # they are in a tmpfs of this namespace
exit $status
