#!/usr/bin/env bash
# Makes the Debian package out of a finished build:
#   deploy/packaging/build-deb.sh build/release OUTPUT-FOLDER
# Installing it starts musterd; upgrading it restarts musterd and keeps containers running; removing
# it ends musterd and the containers and keeps /var/lib/muster, which purging deletes.
# MUSTER_DEB_COMPRESSION=none in the environment is quick, for tests.
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
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage

install -D -m 755 -t "$stage/usr/bin" "$build/bin/muster" "$build/bin/musterd"
install -D -m 755 -t "$stage/usr/libexec/muster" "$build/bin/muster-runtime-shim"
strip --strip-debug "$stage"/usr/bin/* "$stage"/usr/libexec/muster/*
install -D -m 644 "$here/musterd.service" "$stage/lib/systemd/system/musterd.service"
install -D -m 644 "$here/musterd.yaml" "$stage/etc/muster/musterd.yaml"
install -D -m 644 -t "$stage/usr/share/doc/muster" "$root/README.md"
install -D -m 644 -t "$stage/usr/share/doc/muster/docs" "$root"/docs/*.md
install -D -m 644 -t "$stage/usr/share/doc/muster/examples/hello" "$root"/deploy/examples/hello/*
install -D -m 644 -t "$stage/usr/share/doc/muster/examples/voting" \
  "$root"/deploy/examples/voting/{compose.yml,options,README.md}
cat >"$stage/usr/share/doc/muster/copyright" <<'COPYRIGHT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: muster

Files: *
Copyright: The muster developers
License: Apache-2.0
 On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.
COPYRIGHT
install -d "$stage/usr/share/bash-completion/completions" "$stage/usr/share/zsh/vendor-completions"
"$build/bin/muster" completion bash >"$stage/usr/share/bash-completion/completions/muster"
"$build/bin/muster" completion zsh >"$stage/usr/share/zsh/vendor-completions/_muster"

# The libraries as the programs were linked, with the versions they need; the programs that muster
# runs from the list.
mkdir -p "$stage/DEBIAN" "$work/debian"
printf 'Source: muster\n\nPackage: muster\nArchitecture: any\n' >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O "$stage"/usr/bin/* |  # the shim is static
  sed 's/^shlibs:Depends=//')
programs=$(awk '$1 == "run" && $2 !~ /^lib/ {printf "%s%s", sep, $2; sep = ", "}' \
  "$here/packages.txt")
cat >"$stage/DEBIAN/control" <<CONTROL
Package: muster
Version: $version
Architecture: $architecture
Maintainer: The muster developers <muster@localhost>
Section: admin
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$stage" | cut -f1)
Depends: $programs, $libraries
Description: cluster orchestrator for containers
 Runs the services of Compose files on a cluster of Linux hosts, the way
 Docker's swarm mode does, without the Docker daemon.
CONTROL
echo /etc/muster/musterd.yaml >"$stage/DEBIAN/conffiles"
install -m 755 -t "$stage/DEBIAN" "$here/debian/postinst" "$here/debian/prerm" "$here/debian/postrm"

(cd "$stage" && find usr lib -type f -exec md5sum {} +) >"$stage/DEBIAN/md5sums"

mkdir -p "$out"
dpkg-deb --root-owner-group "-Z${MUSTER_DEB_COMPRESSION:-xz}" --build "$stage" "$out/muster_${version}_$architecture.deb"
