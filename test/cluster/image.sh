#!/usr/bin/env bash
# Makes an image archive that containerd and buildah read, with no engine and no registry:
#   image.sh NAME[,NAME] ROOTFS CONFIG_JSON OUT.tar      CONFIG_JSON is the image's config, such as {"Entrypoint":["/bin/x"]}
set -euo pipefail
name=$1 rootfs=$2 config=$3 out=$4 work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
tar -C "$rootfs" --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name -cf "$work/layer.tar" .
digest=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
architecture=$(uname -m); case $architecture in x86_64) architecture=amd64 ;; aarch64) architecture=arm64 ;; esac
printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$architecture" "$config" "$digest" > "$work/config.json"
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "${name//,/\",\"}" > "$work/manifest.json"
tar -C "$work" -cf "$out.part" manifest.json config.json layer.tar
mv "$out.part" "$out"
