# Sourced by the others: what is tested against, and where built things are kept between runs.
kubernetes_version=${KUBERNETES_VERSION:-1.35.4}
old_kubectl_version=1.29.15   # the oldest kubectl in wide use that can send its credentials through proxy-url
etcd_version=3.6.5
coredns_version=1.14.7
csi_test_version=5.6.0
node_version=24.21.0
fabric8_version=7.9.0
python_kubernetes_version=37.0.2

cache=${KUBE_CONNECTOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kube-connector}
export CLUSTER_BIN=${CLUSTER_BIN:-$cache/kubernetes-$kubernetes_version/bin}
