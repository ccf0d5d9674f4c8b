#!/usr/bin/env bash
# A Compose file becomes running containers, heals, changes and goes.
source tests/integration/lib.sh "$@"
start_registry
push_images busybox hello redis
start_node
export REGISTRY WEB_PORT
WEB_PORT=$(free_port)
file=deploy/examples/hello/compose.yml

note 'deploy waits until all of it runs'
muster stack deploy --detach=false -c $file hello >/dev/null
runs hello_web 3 || die 'deploy returned before the web service ran'
has "$(muster stack ls)" hello 'stack ls'
is "$(muster stack services hello -q | wc -l)" 3 'services'
is "$(for _ in $(seq 12); do curl -fsS -m 3 "http://127.0.0.1:$WEB_PORT/"; done | sort -u | wc -l)" 3 \
  'replicas that answer'
has "$(muster volume ls -q)" hello_data 'volumes'

note 'a second deploy changes nothing'
before=$(muster ps -q | sort)
muster stack deploy --detach=false -c $file hello >/dev/null
is "$(muster ps -q | sort)" "$before" 'containers after a second deploy'

note 'a killed replica is replaced'
pid=$(pids_of hello_web | head -1)
kill -9 "$pid"
await 10 'its end' bash -c "! kill -0 $pid"
await 30 'its replacement' replaced hello_web 3 "$pid"

note 'logs and exec reach a replica'
muster exec hello_redis.1 true
has "$(muster exec hello_web.1 sh -c 'echo $REPLICA')" 1 'the slot in the environment'

note 'a changed file is an update'
sed 's/replicas: 3/replicas: 2/' $file >"$NODE/two.yml"
muster stack deploy --detach=false -c "$NODE/two.yml" hello >/dev/null
await 15 'two replicas' runs hello_web 2

note 'mistakes are named by file, line and key'
printf 'version: "3.8"\nservices:\n  web:\n    image: x\n    nosuchkey: 1\n' >"$NODE/bad.yml"
fails nosuchkey muster stack deploy -c "$NODE/bad.yml" bad
fails bad.yml muster stack deploy -c "$NODE/bad.yml" bad

note 'rm takes all of it'
muster stack rm hello >/dev/null
await 20 'all gone' bash -c '[[ -z $(muster ps -q) && -z $(muster service ls -q) ]]'
hasnt "$(muster network ls)" hello_ 'networks after rm'
finish
