#!/usr/bin/env bash
# Makes the Debian package out of a finished build:
#   deploy/packaging/build-deb.sh build/release OUTPUT-FOLDER
# Installing it starts musterd; upgrading it restarts musterd and keeps containers running; removing
# it stops musterd and keeps /var/lib/muster, which purging deletes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if (($# != 2)); then
  echo "usage: $0 BUILD-FOLDER OUTPUT-FOLDER" >&2
  exit 2
fi
build=$(realpath "$1")
out=$(realpath -m "$2")
for program in muster musterd muster-runtime-shim; do
  [[ -x $build/bin/$program ]] || { echo "$build/bin/$program is missing: build first" >&2; exit 1; }
done

version=$(sed -n 's/^project(muster VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")
architecture=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

install -D -m 755 -t "$stage/usr/bin" "$build/bin/muster" "$build/bin/musterd"
install -D -m 755 -t "$stage/usr/libexec/muster" "$build/bin/muster-runtime-shim"
strip --strip-debug "$stage"/usr/bin/* "$stage"/usr/libexec/muster/*
install -D -m 644 "$here/musterd.service" "$stage/lib/systemd/system/musterd.service"
install -D -m 644 "$here/musterd.yaml" "$stage/etc/muster/musterd.yaml"
install -D -m 644 -t "$stage/usr/share/doc/muster" "$root/README.md"
install -D -m 644 "$root/LICENSE" "$stage/usr/share/doc/muster/copyright"
install -d "$stage/usr/share/bash-completion/completions" "$stage/usr/share/zsh/vendor-completions"
"$build/bin/muster" completion bash >"$stage/usr/share/bash-completion/completions/muster"
"$build/bin/muster" completion zsh >"$stage/usr/share/zsh/vendor-completions/_muster"

depends=$(awk '$1 == "run" {printf "%s%s", sep, $2; sep = ", "}' "$here/packages.txt")
mkdir "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<CONTROL
Package: muster
Version: $version
Architecture: $architecture
Maintainer: The muster developers <muster@localhost>
Section: admin
Priority: optional
Depends: $depends
Description: cluster orchestrator for containers
 Runs the services of Compose files on a cluster of Linux hosts, the way
 Docker's swarm mode does, without the Docker daemon.
CONTROL
echo /etc/muster/musterd.yaml >"$stage/DEBIAN/conffiles"
install -m 755 -t "$stage/DEBIAN" "$here/debian/postinst" "$here/debian/prerm" "$here/debian/postrm"

mkdir -p "$out"
dpkg-deb --root-owner-group -Zxz --build "$stage" "$out/muster_${version}_$architecture.deb"
