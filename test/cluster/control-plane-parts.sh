# Sourced: what every control plane here is made of. The working folder is the cluster's folder.

components() { mkdir -p pki log run; }

# READY is a command that succeeds once the component answers; cluster-ctl asks it again after a restart.
component() { # NAME READY COMMAND [ARG...]
  printf '%s\n' "$2" > "run/$1.ready"
  local name=$1; shift 2
  # shellcheck disable=SC2086 # the leash is a command prefix or nothing
  ${CLUSTER_LEASH:-} "$here/supervise.sh" "$name" "$@" &
}

until_ready() { # NAME [SECONDS]
  local name=$1 end=$((SECONDS + ${2:-60}))
  until bash -c "$(cat "run/$name.ready")" >/dev/null 2>&1; do
    if [ $SECONDS -ge $end ]; then
      echo "test/cluster: $name is not ready after ${2:-60} s; the end of its log:" >&2; tail -n 20 "log/$name" | cut -c1-400 >&2; return 1
    fi
    sleep 0.1
  done
}

authority() { # NAME COMMON-NAME
  openssl ecparam -name prime256v1 -genkey -noout -out "pki/$1.key"
  openssl req -x509 -new -key "pki/$1.key" -subj "/CN=$2" -days 30 -out "pki/$1.crt" 2>/dev/null
}

certificate() { # NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES [AUTHORITY]]
  local ca=${4:-ca}
  openssl ecparam -name prime256v1 -genkey -noout -out "pki/$1.key"
  openssl req -new -key "pki/$1.key" -subj "$2" -out "pki/$1.csr"
  printf '%s\nextendedKeyUsage=serverAuth,clientAuth\n' "${3:+subjectAltName=$3}" > "pki/$1.ext"
  openssl x509 -req -in "pki/$1.csr" -CA "pki/$ca.crt" -CAkey "pki/$ca.key" -set_serial "0x$(openssl rand -hex 8)" \
    -days 30 -extfile "pki/$1.ext" -out "pki/$1.crt" 2>/dev/null
  rm "pki/$1.csr" "pki/$1.ext"
}

kubeconfig() { # NAME SERVER: who pki/NAME.crt says it is
  { printf 'apiVersion: v1\nkind: Config\ncurrent-context: c\n'
    printf 'clusters: [{name: c, cluster: {server: "%s", certificate-authority-data: %s}}]\n' "$2" "$(base64 -w0 pki/ca.crt)"
    printf 'users: [{name: u, user: {client-certificate-data: %s, client-key-data: %s}}]\n' \
      "$(base64 -w0 "pki/$1.crt")" "$(base64 -w0 "pki/$1.key")"
    printf 'contexts: [{name: c, context: {cluster: c, user: u}}]\n'; } > "$1.conf"
}

# Who is who, as kubeadm sets it up: the kubelet is a node (NodeRestriction holds for it), the others are themselves.
identities() { # ADDRESS PORT SUBJECT-ALTERNATIVE-NAMES NODE
  authority ca "$4-ca"
  certificate apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$1,DNS:localhost,$3"
  certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate admin /O=system:masters/CN=admin
  certificate controllers /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate kube-proxy /CN=system:kube-proxy
  certificate kubelet "/O=system:nodes/CN=system:node:$4" "IP:$1,DNS:$4"
  openssl genrsa -out pki/sa.key 2048 2>/dev/null; openssl rsa -in pki/sa.key -pubout -out pki/sa.pub 2>/dev/null
  local user
  for user in admin controllers scheduler kube-proxy kubelet; do kubeconfig "$user" "https://$1:$2"; done
}

# One etcd (on unix sockets: no port to collide) and one API server with an audit log of every request.
api_server() { # PREFIX ADDRESS PORT SERVICE-RANGE [FLAG...]
  local prefix=$1 address=$2 port=$3 services=$4; shift 4
  printf 'apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n' > audit.yaml
  # etcd insists on host:port; with unix:// that is a socket of this name in the working folder.
  component "${prefix}etcd" true etcd --data-dir etcd --unsafe-no-fsync --listen-client-urls unix://etcd.sock:0 \
    --advertise-client-urls unix://etcd.sock:0 --listen-peer-urls unix://peer.sock:0
  component "${prefix}apiserver" "curl --noproxy '*' -fsk --max-time 2 https://$address:$port/readyz" \
    kube-apiserver --etcd-servers=unix://etcd.sock:0 --bind-address="$address" --advertise-address="$address" --secure-port="$port" \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key --service-cluster-ip-range="$services" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-client-certificate=pki/apiserver-kubelet-client.crt --kubelet-client-key=pki/apiserver-kubelet-client.key \
    --kubelet-preferred-address-types=InternalIP --audit-policy-file=audit.yaml --audit-log-path="log/${prefix}audit" "$@"
}

controllers() { # PREFIX HEALTH-PORT; CLUSTER_CONTROLLERS_FLAGS adds flags
  # shellcheck disable=SC2086 # flags are words
  component "$1controllers" "curl --noproxy '*' -fsk --max-time 2 https://127.0.0.1:$2/healthz" \
    kube-controller-manager --kubeconfig=controllers.conf --leader-elect=false --use-service-account-credentials \
    --bind-address=127.0.0.1 --secure-port="$2" --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt \
    --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key ${CLUSTER_CONTROLLERS_FLAGS:-}
}
