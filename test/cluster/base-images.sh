#!/usr/bin/env bash
# Makes the images that every cluster here needs, once, into the cache; prints their archives:
# pause (what holds a pod's namespaces), coredns, and tools, the image of test pods: sh, busybox's programs, kubectl
# and the old kubectl. Its root has no /usr and no /lib, so the machine's own can be mounted there (see README.md).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/versions.sh"
images=$cache/images; mkdir -p "$images"
exec 9>"$images/base.lock"; flock 9
key=$(cat "$0" "$here/image.sh" "$here/versions.sh" /bin/busybox | sha256sum | cut -c1-16)
if [ ! -e "$images/base-$key" ]; then
  rm -f "$images"/base-*   # a stamp of other contents must not be taken for these
  rootfs=$(mktemp -d); trap 'rm -rf "$rootfs"' EXIT
  make() { "$here/image.sh" "localhost/$1:1${3:+,$3}" "$rootfs" "$2" "$images/$1.tar"; }
  mkdir "$rootfs/bin"; cp /bin/busybox "$rootfs/bin/"
  make pause '{"Entrypoint":["/bin/busybox","sleep","2147483647"],"User":"65535:65535"}'
  mkdir -m 1777 "$rootfs/tmp"; mkdir -p "$rootfs/etc/ssl/certs"
  cp /etc/ssl/certs/ca-certificates.crt "$rootfs/etc/ssl/certs/"
  cp "$CLUSTER_BIN/coredns" "$rootfs/bin/"
  make coredns '{"Entrypoint":["/bin/coredns"]}'
  rm "$rootfs/bin/coredns"
  for program in $(/bin/busybox --list); do [ -e "$rootfs/bin/$program" ] || ln -s busybox "$rootfs/bin/$program"; done
  cp "$CLUSTER_BIN/kubectl" "$rootfs/bin/kubectl"
  cp "$cache/kubernetes-$old_kubectl_version/bin/kubectl" "$rootfs/bin/kubectl-1.29"
  printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n' > "$rootfs/etc/passwd"
  make tools '{"Cmd":["sleep","2147483647"],"Env":["PATH=/bin:/usr/local/bin:/usr/bin"]}' docker.io/library/kubectl:1.35   # the name of an image with kubectl in deploy/examples
  touch "$images/base-$key"
fi
echo "$images/pause.tar" "$images/coredns.tar" "$images/tools.tar"
