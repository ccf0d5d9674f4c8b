#pragma once

#include <string>
#include <vector>

#include "manager/store/store.h"

namespace muster::manager::control {

inline constexpr Duration kHeartbeatPeriod = 1s;   // of nodes, where nobody says another
inline constexpr Duration kKeyRotation = 12h;      // of encrypted networks
inline constexpr uint32_t kEncryptionPort = 4500;  // of UDP, where they travel in it
inline constexpr uint32_t kDataPathPort = 4789;    // of UDP, IANA's for VXLAN
inline constexpr Duration kDrainAckTimeout = 2s;   // for nodes that route to a task that stops

// What `swarm init` decides about the new cluster.
struct NewCluster {
  std::string id;
  v1::ClusterSpec spec;  // unset fields get the defaults
  v1::RootCa root_ca;
  std::vector<std::string> default_address_pools;  // empty: 10.0.0.0/8
  uint32_t subnet_mask_bits = 0;                   // 0: 24
  uint32_t data_path_port = 0;                     // 0: 4789
  std::string unlock_key;                          // with autolock
};

// INVALID_ARGUMENT when ESP in UDP is to have the port of overlay networks (either 0: its default):
// whoever binds it first, the other has none. A default that is not used does not count.
Status check_encryption_port(const v1::EncryptionConfig& encryption, uint32_t data_path_port);

// Creates the cluster object. ALREADY_EXISTS when there is one.
Status create_cluster(store::Transaction& tx, NewCluster cluster);

// Creates the node's object or brings role, description and manager address up to date; its spec is
// set only at creation.
Status upsert_node(store::Transaction& tx, const v1::Node& node);

// The spec with Swarm's defaults where it says nothing.
v1::ClusterSpec with_defaults(v1::ClusterSpec spec);

}  // namespace muster::manager::control
