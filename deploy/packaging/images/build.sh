#!/usr/bin/env bash
# Small container images made of this host's Debian packages, for the demo, the tests and the
# benchmarks. Needs neither root nor the internet; README.md beside this file says what is in them.
#   build.sh --out DIR [--push HOST:PORT] [busybox|hello|redis|nginx]...
# Each becomes an OCI layout DIR/<name> that holds one image named <name>:1. The same packages give
# the same bytes, hence the same digests.
set -euo pipefail
export LC_ALL=C
umask 022

readonly USAGE="usage: $0 --out DIR [--push HOST:PORT] [busybox|hello|redis|nginx]..."
readonly CREATED=2024-01-01T00:00:00Z  # one date for all, or no digest would ever repeat
readonly SEARCH_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

die() { echo "build.sh: $*" >&2; exit 1; }
usage() { echo "$USAGE" >&2; exit 2; }

# ---------------------------------------------------------------- OCI layouts

# Stores standard input as a blob of layout $1 and prints its digest without "sha256:".
put_blob() {
  local blobs=$1/blobs/sha256 digest
  cat >"$blobs/.new"
  digest=$(sha256sum <"$blobs/.new")
  digest=${digest%% *}
  mv "$blobs/.new" "$blobs/$digest"
  echo "$digest"
}
size_of() { stat -c %s "$1"; }

# make_layer ROOT NAME: packs the tree ROOT as $WORK/NAME.gz, with its two digests beside it.
make_layer() {
  tar -C "$1" --sort=name --mtime="$CREATED" --owner=0 --group=0 --numeric-owner \
    --format=gnu -cf "$WORK/$2.tar" .
  gzip -n -1 <"$WORK/$2.tar" >"$WORK/$2.gz"
  sha256sum <"$WORK/$2.tar" | cut -d' ' -f1 >"$WORK/$2.diff-id"
  sha256sum <"$WORK/$2.gz" | cut -d' ' -f1 >"$WORK/$2.digest"
  rm "$WORK/$2.tar"
}

# write_layout NAME SETTINGS LAYER...: the image of these layers, bottom first; SETTINGS is the
# inside of the configuration's "config" object.
write_layout() {
  local name=$1 settings=$2 layout=$WORK/layout layer digest
  local diff_ids='' layers='' config manifest
  shift 2
  rm -rf "$layout"
  mkdir -p "$layout/blobs/sha256"
  for layer; do
    digest=$(<"$WORK/$layer.digest")
    ln "$WORK/$layer.gz" "$layout/blobs/sha256/$digest"
    diff_ids+="${diff_ids:+,}\"sha256:$(<"$WORK/$layer.diff-id")\""
    layers+="${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\","
    layers+="\"digest\":\"sha256:$digest\",\"size\":$(size_of "$WORK/$layer.gz")}"
  done
  config=$(printf '{"created":"%s","architecture":"%s","os":"linux","config":{"Env":["PATH=%s"],%s},' \
    "$CREATED" "$ARCHITECTURE" $SEARCH_PATH "$settings"
    printf '"rootfs":{"type":"layers","diff_ids":[%s]}}' "$diff_ids")
  digest=$(printf %s "$config" | put_blob "$layout")
  manifest=$(printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
    printf '"config":{"mediaType":"application/vnd.oci.image.config.v1+json",'
    printf '"digest":"sha256:%s","size":%d},"layers":[%s]}' "$digest" ${#config} "$layers")
  digest=$(printf %s "$manifest" | put_blob "$layout")
  {
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
    printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s",' "$digest"
    printf '"size":%d,"annotations":{"org.opencontainers.image.ref.name":"%s:1",' ${#manifest} "$name"
    printf '"io.containerd.image.name":"docker.io/library/%s:1"},' "$name"
    printf '"platform":{"architecture":"%s","os":"linux"}}]}' "$ARCHITECTURE"
  } >"$layout/index.json"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"

  local target=$OUT/$name
  if [[ -e $target && ! -e $target/oci-layout ]]; then
    die "$target exists and is not an OCI layout; it is left alone"
  fi
  rm -rf "$target"
  cp -r "$layout" "$target"
  echo "$target $name:1 sha256:$digest"
}

# ---------------------------------------------------------------- contents

# Copies programs and every shared library they load into ROOT, at the paths they have here.
copy_programs() {
  local root=$1
  shift
  cp -L --parents "$@" "$root"
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\// && $1 !~ /:$/ {print $1}' |
    sort -u | xargs cp -L --parents -t "$root"
}

# Every image stands on this layer: a shell and the usual tools, users, and empty folders.
make_base() {
  local root=$WORK/base
  mkdir -p "$root"/{bin,dev,etc,proc,root,run,sys,tmp,usr/bin,usr/sbin,var/log}
  chmod 0700 "$root/root"
  chmod 1777 "$root/tmp"
  cp -L "$BUSYBOX" "$root/bin/busybox"
  # busybox's own shell runs its own ln without an exec: 300 links in a moment.
  (cd "$root/bin" && ./busybox sh -c \
    'for name in $(./busybox --list); do [ $name = busybox ] || ln -s busybox $name; done')
  cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
PASSWD
  cat >"$root/etc/group" <<'GROUP'
root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
nogroup:x:65534:
GROUP
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
  make_layer "$root" base
}

build_busybox() { write_layout busybox '"Cmd":["sh"]' base; }

build_hello() {
  local root=$WORK/hello
  mkdir -p "$root"/{bin,www/cgi-bin}
  # The kernel drops TERM for a first process that has no handler, and httpd has none; the shell
  # has one and passes it on. The page lies in /dev/shm since the root may be read-only.
  cat >"$root/bin/hello" <<'SCRIPT'
#!/bin/sh
mkdir -p /dev/shm
echo "Hello from $(hostname)${REPLICA:+ (replica $REPLICA)}" >/dev/shm/hello.html
trap 'kill $server 2>/dev/null; exit 0' TERM INT QUIT
httpd -f -p "${PORT:-80}" -h /www &
server=$!
wait $server
SCRIPT
  ln -s /dev/shm/hello.html "$root/www/index.html"
  cat >"$root/www/cgi-bin/client" <<'SCRIPT'
#!/bin/sh
client=${REMOTE_ADDR#"[::ffff:"}
printf 'Content-Type: text/plain\r\n\r\n'
echo "$(hostname) sees ${client%"]"}"
SCRIPT
  chmod 0755 "$root/bin/hello" "$root/www/cgi-bin/client"
  make_layer "$root" hello
  write_layout hello '"Cmd":["/bin/hello"],"ExposedPorts":{"80/tcp":{}}' base hello
}

build_redis() {
  local root=$WORK/redis
  mkdir -p "$root/data"
  copy_programs "$root" /usr/bin/redis-server /usr/bin/redis-cli
  make_layer "$root" redis
  write_layout redis '"Cmd":["redis-server","--bind","0.0.0.0","--protected-mode","no"],
"ExposedPorts":{"6379/tcp":{}},"Volumes":{"/data":{}},"WorkingDir":"/data"' base redis
}

build_nginx() {
  local root=$WORK/nginx
  mkdir -p "$root"/{etc/nginx/conf.d,usr/share/nginx/html,var/log/nginx,var/lib/nginx}
  copy_programs "$root" /usr/sbin/nginx
  cp /etc/nginx/mime.types "$root/etc/nginx/"
  ln -s /dev/stdout "$root/var/log/nginx/access.log"
  ln -s /dev/stderr "$root/var/log/nginx/error.log"
  cat >"$root/etc/nginx/nginx.conf" <<'CONF'
user www-data;
worker_processes auto;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log notice;
events { worker_connections 1024; }
http {
  include mime.types;
  default_type application/octet-stream;
  access_log /var/log/nginx/access.log;
  sendfile on;
  include conf.d/*.conf;
}
CONF
  cat >"$root/etc/nginx/conf.d/default.conf" <<'CONF'
server {
  listen 80 default_server;
  location / { root /usr/share/nginx/html; index index.html; }
}
CONF
  echo '<!doctype html><title>nginx</title><h1>nginx answers</h1>' \
    >"$root/usr/share/nginx/html/index.html"
  make_layer "$root" nginx
  write_layout nginx '"Cmd":["nginx","-g","daemon off;"],"ExposedPorts":{"80/tcp":{}},
"StopSignal":"SIGQUIT"' base nginx
}

# ---------------------------------------------------------------- the command

# The Debian packages that the asked-for images and options need and this host lacks.
check_packages() {
  local missing=() name
  # The package "busybox" has a busybox too, but one that needs shared libraries.
  BUSYBOX=$(command -v busybox || true)
  if [[ -z $BUSYBOX ]] || ldd "$BUSYBOX" >/dev/null 2>&1; then missing+=(busybox-static); fi
  for name in "${names[@]}"; do
    case $name in
      redis) [[ -x /usr/bin/redis-server && -x /usr/bin/redis-cli ]] || missing+=(redis-server) ;;
      nginx) [[ -x /usr/sbin/nginx && -e /etc/nginx/mime.types ]] || missing+=(nginx-light) ;;
    esac
  done
  [[ -z $registry ]] || command -v skopeo >/dev/null || missing+=(skopeo)
  ((${#missing[@]} == 0)) || die "missing Debian packages: ${missing[*]}"
}

OUT='' registry='' names=()
while (($#)); do
  case $1 in
    --out | --push)
      (($# >= 2)) || usage
      if [[ $1 == --out ]]; then OUT=$2; else registry=$2; fi
      shift
      ;;
    busybox | hello | redis | nginx) names+=("$1") ;;
    -h | --help) echo "$USAGE"; exit 0 ;;
    *) echo "build.sh: unknown argument '$1'" >&2; usage ;;
  esac
  shift
done
[[ -n $OUT ]] || usage
((${#names[@]})) || names=(busybox hello redis nginx)
check_packages
ARCHITECTURE=$(dpkg --print-architecture)  # amd64 and arm64 are OCI's words too
mkdir -p "$OUT"
OUT=$(realpath "$OUT")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

make_base
for name in "${names[@]}"; do
  "build_$name"
  if [[ -n $registry ]]; then
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false \
      "oci:$OUT/$name" "docker://$registry/$name:1" || die "cannot push $name:1 to $registry"
  fi
done
