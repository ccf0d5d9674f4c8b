#!/usr/bin/env bash
# Small container images made of this host's Debian packages, for the demo, the tests and the
# benchmarks. Needs neither root nor the internet; README.md beside this file says what is in them.
#   build.sh --out DIR [--push HOST:PORT] [busybox|hello|redis|nginx|postgres|vote|worker|result]...
# Each becomes an OCI layout DIR/<name> that holds one image named <name>:1; `vote` has the versions
# vote:2 and vote:3 too, in DIR/<name>-<version>. The same packages give the same bytes, hence the
# same digests.
set -euo pipefail
export LC_ALL=C
umask 022

readonly USAGE="usage: $0 --out DIR [--push HOST:PORT] [IMAGE]...
images: busybox hello redis nginx postgres vote vote:2 vote:3 worker result"
VOTING=$(realpath "$(dirname "$0")/../../examples/voting/images")
readonly VOTING
readonly POSTGRES=/usr/lib/postgresql/15  # Debian 12's; its programs are not in /usr/bin
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

# folder_of NAME[:TAG]: where under OUT the image's layout lies.
folder_of() { local folder=${1%:1}; echo "${folder/:/-}"; }

# write_layout NAME[:TAG] SETTINGS LAYER...: the image of these layers, bottom first; SETTINGS is the
# inside of the configuration's "config" object. The tag is 1 unless it is said.
write_layout() {
  local name=$1 settings=$2 layout=$WORK/layout layer digest
  local diff_ids='' layers='' config manifest
  [[ $name == *:* ]] || name+=:1
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
    printf '"size":%d,"annotations":{"org.opencontainers.image.ref.name":"%s",' ${#manifest} "$name"
    printf '"io.containerd.image.name":"docker.io/library/%s"},' "$name"
    printf '"platform":{"architecture":"%s","os":"linux"}}]}' "$ARCHITECTURE"
  } >"$layout/index.json"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"

  local target
  target=$OUT/$(folder_of "$name")
  if [[ -e $target && ! -e $target/oci-layout ]]; then
    die "$target exists and is not an OCI layout; it is left alone"
  fi
  rm -rf "$target"
  cp -r "$layout" "$target"
  echo "$target $name sha256:$digest"
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

build_postgres() {
  local root=$WORK/postgres programs=$POSTGRES/bin
  mkdir -p "$root"/{bin,etc,var/lib/postgresql,usr/share/zoneinfo}
  ln -s ../run "$root/var/run"
  copy_programs "$root" "$programs"/{postgres,initdb,pg_isready,psql} \
    "$POSTGRES"/lib/{plpgsql,dict_snowball}.so
  cp -r --parents "/usr/share/postgresql/${POSTGRES##*/}" "$root"
  ln -s "$programs"/{postgres,initdb,pg_isready,psql} "$root/bin/"
  { cat "$WORK/base/etc/passwd"; echo 'postgres:x:999:999::/var/lib/postgresql:/bin/sh'; } \
    >"$root/etc/passwd"
  { cat "$WORK/base/etc/group"; echo 'postgres:x:999:'; } >"$root/etc/group"
  install -m 0755 "$VOTING/postgres/start-postgres" "$root/bin/"
  make_layer "$root" postgres
  write_layout postgres '"Cmd":["/bin/start-postgres"],"ExposedPorts":{"5432/tcp":{}},
"Volumes":{"/var/lib/postgresql":{}},"StopSignal":"SIGINT"' base postgres
}

# The voting application (deploy/examples/voting): one layer with the clients that its parts share.
make_clients() {
  local root=$WORK/clients
  [[ ! -e $WORK/clients.gz ]] || return 0
  mkdir -p "$root"/{bin,lib/voting}
  copy_programs "$root" /usr/bin/redis-cli "$POSTGRES/bin/psql"
  ln -s "$POSTGRES/bin/psql" "$root/bin/"
  install -m 0755 "$VOTING/serve" "$root/bin/"
  install -m 0644 "$VOTING/database.sh" "$root/lib/voting/"
  make_layer "$root" clients
}

# voting_page NAME PART THEME: an image that serves the page of PART.
voting_page() {
  local layer=${1/:/-} version=${1#*:}
  local root=$WORK/$layer
  make_clients
  mkdir -p "$root"/{bin,etc/vote,www/cgi-bin}
  install -m 0755 "$VOTING/$2/index.cgi" "$root/www/cgi-bin/"
  [[ ! -e $VOTING/$2/healthy ]] || install -m 0755 "$VOTING/$2/healthy" "$root/bin/"
  echo "$version" >"$root/etc/vote/version"
  [[ -z $3 ]] || echo "$3" >"$root/etc/vote/theme"
  make_layer "$root" "$layer"
  write_layout "$1" '"Cmd":["/bin/serve"],"ExposedPorts":{"80/tcp":{}},
"Labels":{"org.opencontainers.image.version":"'"$version"'"}' base clients "$layer"
}
build_vote() { voting_page vote:1 vote light; }
build_vote:2() { voting_page vote:2 vote ''; }  # somebody forgot the theme: never healthy
build_vote:3() { voting_page vote:3 vote dark; }
build_result() { voting_page result:1 result light; }

build_worker() {
  local root=$WORK/worker
  make_clients
  mkdir -p "$root/bin"
  install -m 0755 "$VOTING/worker/worker" "$root/bin/"
  make_layer "$root" worker
  write_layout worker '"Cmd":["/bin/worker"]' base clients worker
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
      postgres) [[ -x $POSTGRES/bin/postgres ]] || missing+=(postgresql-15) ;;
      vote* | worker | result)
        [[ -x $POSTGRES/bin/psql ]] || missing+=(postgresql-client-15)
        [[ -x /usr/bin/redis-cli ]] || missing+=(redis-tools)
        ;;
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
    busybox | hello | redis | nginx | postgres | vote | vote:[23] | worker | result) names+=("$1") ;;
    vote:1) names+=(vote) ;;
    -h | --help) echo "$USAGE"; exit 0 ;;
    *) echo "build.sh: unknown argument '$1'" >&2; usage ;;
  esac
  shift
done
[[ -n $OUT ]] || usage
((${#names[@]})) || names=(busybox hello redis nginx postgres vote vote:2 vote:3 worker result)
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
    tagged=$name
    [[ $name == *:* ]] || tagged+=:1
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false \
      "oci:$OUT/$(folder_of "$name")" "docker://$registry/$tagged" ||
      die "cannot push $tagged to $registry"
  fi
done
