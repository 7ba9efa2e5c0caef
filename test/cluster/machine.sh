#!/usr/bin/env bash
# One cluster on one machine: control plane, container runtime and kubelet in the mount and network namespaces of the
# caller. with-cluster.sh calls it twice. Variables: see the two calls there. It returns when all of it is started.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/versions.sh"; . "$here/control-plane-parts.sh"
cd "$MACHINE_DIR"; components

# What belongs to one machine only: its runtime state, its logs of pods and its kubelet's folder. The last is where
# Kubernetes expects it, so that deploy/install.yaml works unchanged, and shared, so that a tmpfs mounted in a pod
# (mountPropagation: Bidirectional) reaches the kubelet.
mkdir -p kubelet containerd cni /var/lib/kubelet /var/log/pods /var/log/containers
[ -e /run/netns/target ] || mount -t tmpfs tmpfs /run   # the first machine has it already, with the second one's network
mkdir -p /run/netns /run/lock
for dir in /var/log/pods /var/log/containers; do mount -t tmpfs tmpfs $dir; done
mount --bind kubelet /var/lib/kubelet; mount --make-rshared /var/lib/kubelet
sysctl -qw net.ipv4.ip_forward=1

# A cgroup of its own, or kubelets side by side take each other's pods for orphans and end them.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then hierarchies=/sys/fs/cgroup; else hierarchies=$(echo /sys/fs/cgroup/*/); fi
for hierarchy in $hierarchies; do
  mkdir -p "$hierarchy/$MACHINE_CGROUP"
  for dir in "$hierarchy" "$hierarchy/${MACHINE_CGROUP%/*}" "$hierarchy/$MACHINE_CGROUP"; do
    [ ! -e "$dir/cgroup.subtree_control" ] || sed 's/[a-z_]*/+&/g' "$dir/cgroup.controllers" > "$dir/cgroup.subtree_control" 2>/dev/null || true
  done
done

cat > containerd.toml <<T
version = 2
root = "$MACHINE_DIR/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true   # a root without CAP_SYS_RESOURCE may not lower it, and no sandbox would start
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$MACHINE_DIR/cni"
T
cat > cni/10.conflist <<T
{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
 "ipam":{"type":"host-local","ranges":[[{"subnet":"$MACHINE_PODS"}]],"routes":[{"dst":"0.0.0.0/0"}],"dataDir":"/run/ipam"}}]}
T
echo "nameserver 127.0.0.1" > resolv.conf   # nothing outside is to be asked
cat > kubelet.yaml <<T
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /$MACHINE_CGROUP
failCgroupV1: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [${MACHINE_DNS:-}]
clusterDomain: cluster.local
resolvConf: $MACHINE_DIR/resolv.conf
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $MACHINE_DIR/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $MACHINE_DIR/pki/kubelet.crt
tlsPrivateKeyFile: $MACHINE_DIR/pki/kubelet.key
healthzBindAddress: $MACHINE_ADDRESS
syncFrequency: ${CLUSTER_SYNC_FREQUENCY:-1m}
volumeStatsAggPeriod: 5s
maxPods: 250
failSwapOn: false
enforceNodeAllocatable: []
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
T

# The runtime reads its images while the API server starts: the two longest parts of a start, side by side.
component "${MACHINE_PREFIX}containerd" "ctr version" containerd -c containerd.toml
(
  until_ready "${MACHINE_PREFIX}containerd"
  for archive in $MACHINE_IMAGES; do ctr -n k8s.io images import "$archive" >/dev/null; done
) & images=$!

identities "$MACHINE_ADDRESS" 6443 "IP:${MACHINE_SERVICES%.*}.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local" "$MACHINE_NODE"
export KUBECONFIG=$MACHINE_DIR/admin.conf
api_server "$MACHINE_PREFIX" "$MACHINE_ADDRESS" 6443 "$MACHINE_SERVICES"
until_ready "${MACHINE_PREFIX}apiserver"
controllers "$MACHINE_PREFIX" 10257
component "${MACHINE_PREFIX}scheduler" true kube-scheduler --kubeconfig=scheduler.conf --leader-elect=false --bind-address=127.0.0.1
wait $images
component "${MACHINE_PREFIX}kubelet" "curl --noproxy '*' -fs --max-time 2 http://$MACHINE_ADDRESS:10248/healthz" \
  kubelet --kubeconfig=kubelet.conf --config=kubelet.yaml --root-dir=/var/lib/kubelet --hostname-override="$MACHINE_NODE" --node-ip="$MACHINE_ADDRESS"
if [ -n "${MACHINE_DNS:-}" ]; then   # services and their names; the other cluster's pods need neither
  # conntrack's limits belong to the host's kernel: 0 leaves them alone
  component "${MACHINE_PREFIX}kube-proxy" true kube-proxy --kubeconfig=kube-proxy.conf --cluster-cidr="$MACHINE_PODS" --hostname-override="$MACHINE_NODE" \
    --conntrack-max-per-core=0 --conntrack-min=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
  kubectl apply -f "$here/dns.yaml" >/dev/null
fi
end=$((SECONDS + 90))
until kubectl get node "$MACHINE_NODE" 2>/dev/null | grep -qw Ready && kubectl get serviceaccount default >/dev/null 2>&1; do
  [ $SECONDS -lt $end ] || { echo "test/cluster: node $MACHINE_NODE is not Ready after 90 s" >&2; tail -n 20 "log/${MACHINE_PREFIX}kubelet" | cut -c1-400 >&2; exit 1; }
  sleep 0.2
done
[ -z "${MACHINE_DNS:-}" ] || kubectl -n kube-system rollout status deployment/coredns --timeout=90s >/dev/null
