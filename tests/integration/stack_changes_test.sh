#!/usr/bin/env bash
# A stack over time: the same file again, changed files, prune, what is external, what goes wrong
# half-way, and removal with and without waiting.
source tests/integration/lib.sh "$@"
export MUSTER_MONITOR=0s
start_registry
push_images busybox
start_node
cd "$NODE"
image=$REGISTRY/busybox:1
# The id, and whether there is something to roll back to.
state_of() { muster service inspect "$1" | jq -r '.[0] | "\(.ID) \(has("PreviousSpec"))"'; }
# stack FILE WEB-ENV [MORE]: two services, one network in use and one that is not.
stack() {
  cat >"$1" <<YAML
version: "3.8"
x-run: &run
  image: $image
  stop_grace_period: 1s
  command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 86400 & wait; done"]
services:
  web:
    <<: *run
    environment: ["V=$2"]
    networks: [front]
${3:-}
networks:
  front: {}
  unused: {}
YAML
}
db='  db:
    <<: *run
    networks: [front]
    volumes: ["store:/store"]
volumes:
  store: {labels: {kind: test}}'

note 'networks in use are made, others not'
stack a.yml 1 "$db"
out=$(muster stack deploy --detach=false -c a.yml shop)
has "$out" 'Creating network shop_front' 'deploy'
hasnt "$(muster network ls)" shop_unused 'networks'
hasnt "$(muster network ls)" shop_default 'networks'
is "$(muster stack ls --format '{{.Name}} {{.Services}}')" 'shop 2' 'stack ls'
is "$(muster stack services --format '{{.Name}} {{.Replicas}}' shop)" $'shop_db 1/1\nshop_web 1/1' 'stack services'
is "$(muster stack ps --format '{{.Name}} {{.DesiredState}}' shop)" $'shop_db.1 Running\nshop_web.1 Running' 'stack ps'
is "$(muster volume inspect -f '{{index .Labels "kind"}}' shop_store)" test 'label of a volume'

note 'the same file again is no new version'
web=$(state_of shop_web)
revision=$(muster service inspect -f '{{.UpdatedAt}}' shop_web)
out=$(muster stack deploy --detach=false -c a.yml shop)
has "$out" 'Updating service shop_web (id: ' 'second deploy'
is "$(state_of shop_web)" "$web" 'the service after a second deploy'
is "$(muster service inspect -f '{{.UpdatedAt}}' shop_web)" "$revision" 'time of the last change'

note 'a changed file updates what it changes'
db_pid=$(pids_of shop_db)
stack a.yml 2 "$db"
muster stack deploy --detach=false -c a.yml shop >/dev/null
has "$(tr '\0' '\n' <"/proc/$(pids_of shop_web)/environ")" V=2 'environment after the change'
is "$(pids_of shop_db)" "$db_pid" 'the other service'

note 'a forced update stays forced'
muster service update --force shop_web >/dev/null
pid=$(pids_of shop_web)
muster stack deploy --detach=false -c a.yml shop >/dev/null
is "$(pids_of shop_web)" "$pid" 'containers after the deploy'

note 'several files, and standard input'
printf 'version: "3.8"\nservices:\n  web:\n    labels: {extra: "yes"}\n' >b.yml
muster stack deploy --detach=false -c a.yml -c - shop <b.yml >/dev/null
is "$(muster service inspect -f '{{index .Spec.TaskTemplate.ContainerSpec.Labels "extra"}}' shop_web)" yes 'label of the second file'

note 'what is left out stays until it is pruned; its volume stays even then'
stack a.yml 3
muster stack deploy --detach=false -c a.yml shop >/dev/null
is "$(pids_of shop_db)" "$db_pid" 'a service that is left out'
out=$(muster stack deploy --detach=false --prune -c a.yml shop)
has "$out" 'Removing service shop_db' 'prune'
is "$(muster stack services --format '{{.Name}}' shop)" shop_web 'services after the prune'
has "$(muster volume ls -q)" shop_store 'volumes after the prune'

note 'an external network that is not there changes nothing'
cat >c.yml <<YAML
version: "3.8"
services:
  web: {image: $image, networks: [out]}
networks:
  out: {external: true, name: outside}
YAML
fails 'network "outside" is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed' \
  muster stack deploy --prune -c c.yml other
is "$(muster stack ls --format '{{.Name}}')" shop 'stacks'
muster network create outside >/dev/null
muster stack deploy --detach -c c.yml other >/dev/null
muster stack rm other >/dev/null
has "$(muster network ls)" outside 'an external network stays'
muster network rm outside >/dev/null

note 'a deploy that ends half-way says what is there and what is not'
cat >d.yml <<YAML
version: "3.8"
services:
  a: {image: $image, networks: [host], command: ["true"]}
  b: {image: $image, networks: [host], hostname: "{{.Nope}}"}
  c: {image: $image, networks: [host]}
networks:
  host: {external: true}
YAML
fails 'stack half is deployed in part (done: service half_a; not done: service half_b, service half_c)' \
  muster stack deploy --detach -c d.yml half
is "$(muster stack services --format '{{.Name}}' half)" half_a 'services of the half'
muster stack rm half >/dev/null

note 'nothing there'
is "$(muster stack services nosuch 2>&1)" 'Nothing found in stack: nosuch' 'stack services'
fails 'nothing found in stack: nosuch' muster stack ps nosuch
is "$(muster stack rm nosuch 2>&1)" 'Nothing found in stack: nosuch' 'stack rm'

note 'removal without waiting: the networks go at once, the containers in their own time'
cat >slow.yml <<YAML
version: "3.8"
services:
  slow:
    image: $image
    stop_grace_period: 15s
    command: ["sh", "-c", "trap : TERM; while :; do sleep 86400 & wait; done"]
YAML
muster stack deploy --detach=false -c slow.yml slow >/dev/null
pid=$(pids_of slow_slow)
muster stack rm --detach slow >/dev/null
kill -0 "$pid" || die 'stack rm --detach waited for the container'
hasnt "$(muster network ls)" slow_default 'networks'
# A new network may come up meanwhile, and work.
muster stack deploy --detach=false -c a.yml again >/dev/null
await 40 'the slow container is gone' bash -c "! kill -0 $pid"
muster stack rm again shop >/dev/null
is "$(muster ps -q)" '' 'containers after rm, which waited'
hasnt "$(muster network ls)" shop_front 'networks after rm'
cd - >/dev/null
finish
