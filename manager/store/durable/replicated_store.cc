#include "manager/store/durable/replicated_store.h"

#include <utility>

namespace muster::manager::store {
namespace {

constexpr size_t kSnapshotChunkBytes = 512 << 10;

}  // namespace

ReplicatedStore::ReplicatedStore(const Ports& ports, raft::Node::Options options,
                                 raft::Restored restored, ReplicationEvents events)
    : events_(std::move(events)),
      node_(std::move(options),
            {ports.raft_strand, ports.strand, ports.disk, ports.rng, ports.log, *this},
            std::move(restored)),
      proposer_(node_),
      store_(ports.strand, &proposer_, ports.log),
      subscription_(store_.watch([this](const CommitEvent& event) {
        for (const AnyChange& change : *event.changes) {
          const auto* cluster = std::get_if<Change<v1::Cluster>>(&change);
          if (cluster != nullptr) configure(cluster->after.get());
        }
      })) {}

ReplicatedStore::~ReplicatedStore() = default;

Status ReplicatedStore::apply(raft::Index index, std::string_view payload) {
  return store_.apply(index, payload);
}

Status ReplicatedStore::restore_end() {
  MUSTER_TRY(store_.load_end());
  configure(store_.snapshot().cluster().get());
  return ok_status();
}

void ReplicatedStore::configure(const v1::Cluster* cluster) {
  if (cluster == nullptr) return;
  const v1::RaftConfig& wanted = cluster->spec().raft();
  raft::Node::Settings settings;
  if (wanted.heartbeat_period_ns() > 0) settings.heartbeat = Duration(wanted.heartbeat_period_ns());
  if (wanted.election_timeout_ns() > 0) {
    settings.election_min = Duration(wanted.election_timeout_ns());
  }
  if (wanted.snapshot_interval() > 0) settings.snapshot_entries = wanted.snapshot_interval();
  if (wanted.entries_for_slow_followers() > 0) {
    settings.trailing_entries = wanted.entries_for_slow_followers();
  }
  node_.configure(settings);
  if (events_.on_cluster_changed) events_.on_cluster_changed();
}

raft::SnapshotProducer ReplicatedStore::capture() {
  return [snapshot = store_.snapshot()](const raft::ChunkSink& sink) {
    return Store::save(snapshot, kSnapshotChunkBytes,
                       [&sink](const std::string& chunk) { return sink(chunk); });
  };
}

void ReplicatedStore::lead(raft::Term term) {
  store_.lead(term);
  if (events_.on_lead) events_.on_lead(term);
}

void ReplicatedStore::end_leading() {
  store_.end_leading();
  if (events_.on_follow) events_.on_follow();
}

void ReplicatedStore::group_changed() {
  if (events_.on_group_changed) events_.on_group_changed();
}

void ReplicatedStore::removed() {
  if (events_.on_removed) events_.on_removed();
}

}  // namespace muster::manager::store
