#!/usr/bin/env bash
# Fetches Debian 12's cloud kernel (what its EC2 and other cloud images boot) for tests/qemu/guest.sh:
#   tests/qemu/fetch_kernel.sh    prints the folder that holds vmlinuz and lib/modules/<release>
# The package is downloaded and unpacked, never installed: nothing of the host changes. Folders
# already there are used again; whoever wants a fresh one removes build/qemu.
set -euo pipefail
cache=$(cd "$(dirname "$0")/../.." && pwd)/build/qemu
readonly cache META=linux-image-cloud-amd64

die() { echo "fetch_kernel.sh: $*" >&2; exit 1; }
[[ $(dpkg --print-architecture) == amd64 ]] || die 'the test machine is an amd64 one'
command -v busybox >/dev/null || die 'missing Debian package: busybox-static'

# The metapackage depends on the newest kernel of the release: "NAME VERSION", or nothing.
newest() {
  local name version
  name=$(apt-cache depends "$META" 2>/dev/null |
    awk '$1 == "Depends:" && $2 ~ /^linux-image-.*-cloud-amd64$/ {print $2; exit}')
  [[ -n $name ]] || return 0
  version=$(apt-cache policy "$name" | awk '$1 == "Candidate:" && $2 != "(none)" {print $2}')
  [[ -z $version ]] || echo "$name $version"
}

# download NAME VERSION FOLDER: the package as FOLDER/kernel.deb
download() {
  # apt complains that its sandbox user cannot write here; it then downloads as root, as wanted.
  (cd "$3" && apt-get download -q -o Acquire::Retries=5 -o APT::Sandbox::User=root "$1=$2" >apt.log 2>&1) || return 1
  mv "$3"/*.deb "$3/kernel.deb"
}

unpack() {  # FOLDER
  local modules
  dpkg-deb --fsys-tarfile "$1/kernel.deb" | tar -x -C "$1" ./boot ./lib/modules
  mv "$1"/boot/vmlinuz-* "$1/vmlinuz"
  modules=$(echo "$1"/lib/modules/*)
  [[ -d $modules/kernel ]] || die "the package holds no single folder of modules"
  # The package leaves this to its installation.
  busybox depmod -b "$1" "${modules##*/}"
  rm -rf "$1/boot" "$1/kernel.deb" "$1/apt.log"
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
wanted=$(newest)
if [[ -z $wanted ]]; then
  # No package lists (a machine whose lists were cleaned): a kernel fetched before will do.
  for folder in "$cache"/linux-image-*; do
    [[ -e $folder/vmlinuz ]] && { echo "$folder"; exit 0; }
  done
  apt-get update -q >/dev/null 2>&1 || die 'apt-get update failed; is a Debian mirror reachable?'
  wanted=$(newest)
  [[ -n $wanted ]] || die "apt knows no $META; is this Debian 12 with its main archive?"
fi
read -r name version <<<"$wanted"
folder=$cache/${name}_${version//[^A-Za-z0-9.+~-]/_}
if [[ ! -e $folder/vmlinuz ]]; then
  rm -rf "$cache"/new.*  # of a run that was killed
  new=$(mktemp -d "$cache/new.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  if ! download "$name" "$version" "$new"; then
    # Old package lists name files that the mirror no longer has.
    apt-get update -q >/dev/null 2>&1 || true
    wanted=$(newest)
    read -r name version <<<"$wanted"
    download "$name" "$version" "$new" ||
      die "cannot download $name $version: $(tail -1 "$new/apt.log")"
    folder=$cache/${name}_${version//[^A-Za-z0-9.+~-]/_}
  fi
  unpack "$new"
  chmod 755 "$new"
  # Whole or not there at all.
  [[ -e $folder/vmlinuz ]] || mv -T "$new" "$folder"
fi
echo "$folder"
