#!/usr/bin/env bash
# The demo, which is the first thing anybody runs: it comes to its end, what it claims to show did
# happen, what it tells one to do next works, and it leaves nothing behind. Its name is one of this
# test's own, so that it does not meet a demo that is running.
source "$(dirname "$0")/lib.sh"

export MUSTER_DEMO=test-$$ MUSTER_DEMO_BIN=$BIN
readonly STATE=/var/lib/muster-demo-$MUSTER_DEMO LAB=demo-$MUSTER_DEMO OUTPUT=$NODE/output
unset MUSTER_SOCKET MUSTER_LAB MUSTER_LAB_DIR
trap 'status=$?; trap - EXIT; end_demo; rm -rf --one-file-system "$NODE" "$RUN"; exit $status' EXIT
end_demo() { deploy/demo.sh down >/dev/null 2>&1 || true; }
die() {
  echo "FAILED: $*" >&2
  echo '---- what the demo said' >&2
  cat "$OUTPUT" >&2 2>/dev/null || true
  exit 1
}

# What it said below a heading that contains TITLE.
below() { awk -v title="$1" '/^\033\[1m/ {on = index($0, title) > 0} on' "$OUTPUT"; }
# TITLE: its page was asked for meanwhile, and came every time.
nothing_stopped() {
  local line
  line=$(below "$1" | grep 'requests for the page meanwhile') || die "not asked: $1"
  [[ $line =~ ^([0-9]+)\ requests\ for\ the\ page\ meanwhile,\ 0\ of\ them\ failed$ ]] || die "$1: $line"
  ((BASH_REMATCH[1] > 0)) || die "nothing was asked: $1"
  checks=$((checks + 1))
}
# TITLE VERSION: two containers answered, both of this version.
answered_by() {
  is "$(below "$1" | sed -n 's/^ *[0-9]* version \([0-9]*\) .*, from .*/\1/p' | xargs)" "$2 $2" "$1: who answers"
}
# What `node ls` says of every node: STATUS and AVAILABILITY.
ready_nodes() { below "$1" | grep -c -E '^[a-z0-9]{25} .* Ready +Active '; }

note 'wrong usage is told'
fails 'usage: deploy/demo.sh [up|down]' deploy/demo.sh sideways
fails "'a/../b' is no name" env MUSTER_DEMO=a/../b deploy/demo.sh down
fails 'no muster and musterd in' env MUSTER_DEMO_BIN="$NODE" deploy/demo.sh
has "$(deploy/demo.sh --help)" 'MUSTER_DEMO_BIN=DIR' 'help'
[[ ! -e $STATE ]] || die 'a demo that was refused left its folder'

note 'the demo comes to its end'
status=0
timeout $((200 * slow)) deploy/demo.sh >"$OUTPUT" 2>&1 || status=$?
is "$status" 0 'exit status of the demo'
hasnt "$(<"$OUTPUT")" 'Building' 'programs that were given'

note 'five nodes, a stack that counts votes, a database that comes back'
is "$(ready_nodes 'Three managers and two workers')" 5 'nodes'
is "$(below 'A stack of five services' | grep -c -E ' (1/1|2/2) ')" 5 'services that run'
is "$(below 'Votes go from the page' | tail -2 | head -1)" 'Tabs: 8, Spaces: 7' 'the votes'
has "$(below 'The database is killed')" 'Tabs: 8, Spaces: 7' 'the votes after the database was killed'

note 'every node answers on the published port, and the page knows its client'
for node in manager1 manager2 manager3 worker1 worker2; do
  said=$(below 'Every node answers' | sed -n "s/^$node //p")
  [[ $said =~ ^version\ 1\ .*,\ from\ [0-9a-f]{12}\ for\ 10\.[0-9]+\.0\.1$ ]] || die "the page of $node: $said"
  checks=$((checks + 1))
done

note 'the leader was killed and nothing stopped'
leader=$(sed -n 's/.*The leader, \(manager[1-3]\), is killed.*/\1/p' "$OUTPUT")
[[ -n $leader ]] || die 'no leader was killed'
killed=$(below "The leader, $leader, is killed")
has "$killed" "The containers of $leader run on without their daemon." 'containers'
[[ $killed =~ accepted\ ([0-9]+)\ ms\ later\;\ (manager[1-3])\ leads ]] || die 'no change was accepted'
((BASH_REMATCH[1] < 5000 * slow)) || die "a change took ${BASH_REMATCH[1]} ms"
[[ ${BASH_REMATCH[2]} != "$leader" ]] || die 'the dead leader leads'
[[ $killed =~ $LAB\ +$leader\ +manager\ +killed ]] || die "$leader was not killed"
has "$killed" 'Tabs: 8, Spaces: 7' 'the votes after the leader was killed'
nothing_stopped "The leader, $leader, is killed"

note 'deployed again: in vain, and for good'
has "$(below 'An update that is broken')" 'service voting_vote: rollback completed' 'the broken version'
answered_by 'An update that is broken' 1
nothing_stopped 'An update that is broken'
answered_by 'An update that works' 3
nothing_stopped 'An update that works'
is "$(ready_nodes "$leader comes back")" 5 'nodes in the end'

note 'what it tells one to do next works'
(
  eval "$(sed -n 's/^  export /export /p' "$OUTPUT")"
  is "$(muster service ls --filter name=voting_vote --format '{{.Replicas}}')" 2/2 'the service'
  is "$(muster lab ls --format '{{.Node}}' | wc -l)" 6 'nodes of the lab'
)
# The demo said what runs at which address, whatever network was free.
page=$(sed -n 's/^  curl -d vote=b //p' "$OUTPUT")
has "$(curl -fsS -m 3 "$page")" 'version 3' 'the page'

note 'down: nothing is left'
export MUSTER_LAB_DIR=$STATE/labs
note_instances "$LAB"
for part in process link cgroup folder; do has "$(left_of "$LAB")" "$part " 'what a demo that is up has'; done
how=$(grep -E '^  .*deploy/demo.sh down$' "$OUTPUT")
env -u MUSTER_DEMO -u MUSTER_DEMO_BIN -u MUSTER_LAB_DIR bash -c "$how" >"$NODE/down"
has "$(<"$NODE/down")" 'Nothing of it is left but the build.' 'what down says'
is "$(left_of "$LAB")" '' 'left behind'
[[ ! -e $STATE ]] || die "left behind: $(find "$STATE" | head)"
! curl -fsS -m 1 "$page" >/dev/null 2>&1 || die 'the page is still there'
deploy/demo.sh down >/dev/null || die 'a second down fails'
echo "$checks checks passed"
