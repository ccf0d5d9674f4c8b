#include "manager/control/cluster_objects.h"

#include "manager/control/validation.h"

namespace muster::manager::control {

v1::ClusterSpec with_defaults(v1::ClusterSpec spec) {
  spec.mutable_annotations()->set_name("default");
  if (spec.task_history_limit() == 0) spec.set_task_history_limit(5);
  if (spec.heartbeat_period_ns() == 0) spec.set_heartbeat_period_ns(kHeartbeatPeriod.count());
  if (spec.node_cert_expiry_ns() == 0) spec.set_node_cert_expiry_ns(Duration(2160h).count());
  if (spec.vanished_agent_grace_ns() == 0) spec.set_vanished_agent_grace_ns(Duration(30s).count());
  if (spec.event_retention_ns() == 0) {
    spec.set_event_retention_ns(store::Store::kHistoryKept.count());
  }
  if (spec.drain_ack_timeout_ns() == 0) spec.set_drain_ack_timeout_ns(kDrainAckTimeout.count());
  v1::EncryptionConfig& encryption = *spec.mutable_encryption();
  if (encryption.key_rotation_ns() == 0) encryption.set_key_rotation_ns(kKeyRotation.count());
  if (encryption.udp_port() == 0) encryption.set_udp_port(kEncryptionPort);
  v1::RaftConfig& raft = *spec.mutable_raft();
  if (raft.snapshot_interval() == 0) raft.set_snapshot_interval(10'000);
  if (raft.entries_for_slow_followers() == 0) raft.set_entries_for_slow_followers(2'000);
  if (raft.heartbeat_period_ns() == 0) raft.set_heartbeat_period_ns(Duration(100ms).count());
  if (raft.election_timeout_ns() == 0) raft.set_election_timeout_ns(Duration(1s).count());
  return spec;
}

Status check_encryption_port(const v1::EncryptionConfig& encryption, uint32_t data_path_port) {
  const uint32_t port = encryption.udp_port() == 0 ? kEncryptionPort : encryption.udp_port();
  const uint32_t taken = data_path_port == 0 ? kDataPathPort : data_path_port;
  const bool meant = encryption.udp_encapsulation() || port != kEncryptionPort;
  if (port != taken || !meant) return ok_status();
  return invalid_argument(
      "encrypted networks cannot travel on UDP port {} (--encryption-udp-port), which is that of "
      "overlay networks (--data-path-port of swarm init): choose another one",
      port);
}

Status create_cluster(store::Transaction& tx, NewCluster wanted) {
  if (tx.view().cluster() != nullptr) return already_exists("the cluster exists already");
  v1::Cluster cluster;
  cluster.set_id(wanted.id);
  *cluster.mutable_spec() = with_defaults(std::move(wanted.spec));
  MUSTER_TRY(validate_cluster_spec(cluster.spec()));
  MUSTER_TRY(check_encryption_port(cluster.spec().encryption(), wanted.data_path_port));
  *cluster.mutable_root_ca() = std::move(wanted.root_ca);
  cluster.set_feature_level(store::Store::kFeatureLevel);
  if (wanted.default_address_pools.empty()) wanted.default_address_pools = {"10.0.0.0/8"};
  for (auto& pool : wanted.default_address_pools) {
    cluster.add_default_address_pools(std::move(pool));
  }
  cluster.set_subnet_mask_bits(wanted.subnet_mask_bits == 0 ? 24 : wanted.subnet_mask_bits);
  cluster.set_data_path_port(wanted.data_path_port == 0 ? kDataPathPort : wanted.data_path_port);
  if (cluster.spec().autolock()) {
    if (wanted.unlock_key.empty()) return invalid_argument("autolock needs an unlock key");
    cluster.set_unlock_key(wanted.unlock_key);
  }
  return tx.create(std::move(cluster));
}

Status upsert_node(store::Transaction& tx, const v1::Node& node) {
  const auto known = tx.view().get<v1::Node>(node.id());
  if (known == nullptr) return tx.create(node);
  v1::Node changed = *known;
  changed.set_role(node.role());
  if (node.has_description()) *changed.mutable_description() = node.description();
  if (node.has_manager_status()) *changed.mutable_manager_status() = node.manager_status();
  return tx.update(std::move(changed));
}

}  // namespace muster::manager::control
