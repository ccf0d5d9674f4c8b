#!/usr/bin/env bash
# Installs the Debian packages of the given kinds (run, build, demo, test) that are not there yet.
#   deploy/packaging/install.sh run build
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

kinds=" $* "
missing=()
while read -r kind package; do
  [[ $kind == '#'* || -z $kind ]] && continue
  [[ $kinds == *" $kind "* ]] || continue
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
    missing+=("$package")
done <"$here/packages.txt"
((${#missing[@]})) || exit 0

if ((EUID != 0)); then
  echo "missing packages: ${missing[*]} (run as root to have them installed)" >&2
  exit 1
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A package may start a service of its own when it is installed (redis, nginx, docker-registry):
# here they are only wanted as binaries.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
log=$(mktemp)
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "apt-get failed; the whole output is in $log" >&2
  exit 1
fi
# Nor shall such a service start with the next boot.
mapfile -t units < <(dpkg -L "${missing[@]}" |
  sed -n 's|^\(/usr\)\?/lib/systemd/system/\([^/@]*\.service\)$|\2|p')
if ((${#units[@]})) && command -v systemctl >/dev/null; then
  systemctl --quiet disable "${units[@]}" >>"$log" 2>&1 || true
fi
rm -f "$log"
