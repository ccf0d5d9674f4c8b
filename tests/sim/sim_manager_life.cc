#include "tests/sim/sim_manager_life.h"

#include <utility>

#include "manager/control/cluster_objects.h"
#include "tests/sim/sim_certificates.h"

namespace muster::sim {

using manager::dispatcher::ProbeResult;
namespace store_ns = manager::store;

namespace {

constexpr Duration kLookAfterGroup = 50ms;
constexpr Duration kKeyRotation = 30s;

}  // namespace

ManagerLife::Parts::Parts(ManagerLife& life, raft::Node::Options options,
                          store_ns::ReplicationEvents events)
    : replicated({life.raft_strand, life.strand, life.disk, life.world_.rng, null_log()},
                 std::move(options), life.place_.image.restored(), std::move(events)),
      store(replicated.store()),
      api(life.strand, life.world_.rng, node, null_log()),
      allocator(life.strand, store, life.strand.clock(), null_log()),
      orchestrator(life.strand, store, life.world_.rng, null_log()),
      scheduling(life.strand, life.worker, store, null_log()),
      probe(life.strand,
            [&rng = life.world_.rng] {
              return rng.below(2) == 0 ? ProbeResult::kRefused : ProbeResult::kUnreachable;
            }),
      dispatcher({life.strand, store, life.world_.rng, probe, null_log()},
                 {"m", {"192.0.2.1:2377"}}),
      drainer(life.strand, store, dispatcher, null_log()),
      secrets(life.place_.self.id.value),
      network_keys({life.strand, store, secrets,
                    [this](const std::string& node_id) {
                      v1::FeedId feed;
                      feed.set_kind(v1::FeedId::CLUSTER);
                      return dispatcher.applied_version(node_id, feed);
                    },
                    null_log()}),
      reachability(life.strand),
      keeper(life.strand, store, replicated.group(), null_log()),
      membership(life.strand, store, replicated.group(), reachability, null_log()),
      ca(life.strand, store, replicated.group(), null_log()) {
  transport = life.world_.lanes.open(life.place_.self.id, replicated.transport_events());
}

ManagerLife::ManagerLife(World world, ManagerPlace& place, Options options, Events events)
    : raft_strand(world.world, place.clock),
      strand(world.world, place.clock),
      worker(world.world, place.clock),
      disk(world.world, world.rng, place.image, place.disk),
      world_(world),
      place_(place),
      options_(std::move(options)),
      events_(std::move(events)) {}

Status ManagerLife::start() {
  raft::Node::Options options;
  options.self = place_.self;
  options.mode = options_.mode;
  options.members = options_.group;
  options.snapshot_entries = options_.snapshot_entries;
  options.trailing_entries = options_.trailing_entries;
  options.on_fatal = events_.on_fatal;
  if (options_.mutant == SimMutant::kHardStateForgotten) place_.image.log.hard_state = {};
  disk.mutant = options_.mutant;
  store_ns::ReplicationEvents events;
  events.on_lead = [this](uint64_t term) { lead(term); };
  events.on_follow = [this] { follow(); };
  events.on_removed = events_.on_removed;
  events.on_group_changed = [this] { parts->keeper.group_changed(); };
  if (place_.image.log.snapshot.index > 0) world_.probes.hit("manager read its snapshot at start");
  parts = std::make_unique<Parts>(*this, std::move(options), std::move(events));
  parts->checks = parts->store.watch(events_.on_commit);
  parts->api.activate(parts->store, &parts->replicated.group());
  return parts->replicated.start(*parts->transport);
}

void ManagerLife::kill() {
  world_.lanes.kill(place_.self.id);
  disk.kill();
}

void ManagerLife::stop(UniqueFunction<void()> done) {
  if (parts == nullptr) return done();
  parts->replicated.stop(std::move(done));
}

// ---------------------------------------------------------------- leading

void ManagerLife::lead(uint64_t term) {
  term_ = term;
  if (parts->store.snapshot().cluster() == nullptr) {
    bootstrap(term);
  } else {
    start_parts(term);
  }
  if (!options_.keeper()) look_after_group();
}

void ManagerLife::follow() {
  term_ = 0;
  check_fence();
  if (std::exchange(working_term_, 0) == 0) return;
  parts->network_keys.stop();
  parts->drainer.stop();
  parts->dispatcher.stop_leading();
  parts->ca.stop();
  parts->keeper.stop();
  parts->scheduling.stop();
  parts->orchestrator.stop();
  parts->allocator.stop();
  events_.on_follow();
}

// Who leads no more writes no more (M1).
void ManagerLife::check_fence() {
  parts->store.update(
      [this](store_ns::Transaction&) {
        events_.broken("a manager that leads no more ran a transaction (M1)");
        return ok_status();
      },
      [this](const store_ns::Commit& commit) {
        if (commit.status.code() != StatusCode::kUnavailable) {
          events_.broken("a manager that leads no more was not refused (M1)");
        }
      });
}

void ManagerLife::start_parts(uint64_t term) {
  const store_ns::Snapshot state = parts->store.snapshot();
  working_term_ = term;
  parts->allocator.start();
  parts->orchestrator.start(state);
  parts->scheduling.start(state);
  parts->api.collect_blobs();
  if (options_.keeper()) parts->keeper.start();
  parts->ca.start();
  parts->dispatcher.start_leading();
  parts->drainer.start();
  parts->network_keys.start();
  events_.on_lead(term);
}

// Closures that are left when the life ends are dropped with its strand.
void ManagerLife::bootstrap(uint64_t term) {
  if (term != term_) return;
  parts->store.update(
      [this](store_ns::Transaction& tx) -> Status {
        MUSTER_TRY(create_swarm(tx));
        return manager::allocator::bootstrap_networks(tx, world_.rng);
      },
      [this, term](const store_ns::Commit& commit) {
        if (term != term_) return;
        if (commit.status.ok()) return start_parts(term);
        if (commit.status.code() != StatusCode::kUnavailable) {
          events_.broken("the swarm cannot be founded: " + commit.status.message());
        }
        strand.after(Duration(10ms), [this, term] { bootstrap(term); });
      });
}

Status ManagerLife::create_swarm(store_ns::Transaction& tx) const {
  v1::ClusterSpec spec;
  spec.set_task_history_limit(2);
  spec.mutable_encryption()->set_key_rotation_ns(kKeyRotation.count());
  spec.mutable_raft()->set_snapshot_interval(options_.snapshot_entries);
  spec.mutable_raft()->set_entries_for_slow_followers(options_.trailing_entries + 1);
  if (const SimSwarm* swarm = options_.swarm) {
    MUSTER_TRY(manager::control::create_cluster(tx, {"c", spec, swarm->root_ca, {}, 0, 0, {}}));
    // Sooner than a user may ask for.
    v1::Cluster cluster = *tx.view().cluster();
    cluster.mutable_spec()->set_node_cert_expiry_ns(swarm->certificate_life.count());
    MUSTER_TRY(tx.update(std::move(cluster)));
    return manager::control::upsert_node(tx, swarm->founder);
  }
  MUSTER_TRY(manager::control::create_cluster(tx, {"c", spec, {}, {}, 0, 0, {}}));
  for (const std::string& id : world_.node_ids) {
    v1::Node node;
    node.set_id(id);
    MUSTER_TRY(manager::control::upsert_node(tx, node));
  }
  for (const std::string& id : options_.manager_nodes) {
    v1::Node node;
    node.set_id(id);
    node.set_role(v1::NodeSpec::MANAGER);
    node.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
    node.mutable_spec()->set_availability(v1::NodeSpec::DRAIN);
    MUSTER_TRY(manager::control::upsert_node(tx, node));
  }
  return ok_status();
}

// Takes in whoever is to be a manager: as a learner, then with a vote.
void ManagerLife::look_after_group() {
  if (term_ == 0) return;
  strand.after(kLookAfterGroup, [this, term = term_] {
    if (term == term_) look_after_group();
  });
  if (changing_group_) return;
  raft::Group& group = parts->replicated.group();
  const raft::GroupView view = group.view();
  for (const raft::Member& wanted : options_.group.list) {
    const raft::MemberView* known = view.find(wanted.id);
    const auto done = [this](const Status&) { changing_group_ = false; };
    if (known == nullptr) {
      changing_group_ = true;
      return group.add_learner(wanted, done);
    }
    if (!known->member.voter && known->caught_up) {
      changing_group_ = true;
      return group.promote(wanted.id, done);
    }
  }
}

}  // namespace muster::sim
