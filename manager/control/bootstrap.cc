#include "manager/control/bootstrap.h"

#include <utility>

#include "base/security/join_token.h"
#include "base/time.h"
#include "manager/control/validation.h"
#include "manager/store/store.h"

namespace muster::manager::control {
namespace {

constexpr Duration kHeartbeatPeriod = 1s;
constexpr Duration kCertificateExpiry = 24h * 90;
constexpr Duration kVanishedGrace = 30s;
constexpr int64_t kTaskHistoryLimit = 5;
constexpr uint32_t kSubnetMaskBits = 24;
constexpr uint32_t kSubnetMaskBitsMax = 29;
constexpr uint32_t kDataPathPort = 4789;
constexpr uint32_t kDataPathPortMin = 1024;
constexpr uint32_t kDataPathPortMax = 49151;

}  // namespace

Result<v1::Cluster> make_cluster(const ClusterSeed& seed) {
  v1::Cluster cluster;
  cluster.set_id(seed.cluster_id);
  cluster.set_feature_level(store::Store::kFeatureLevel);
  v1::ClusterSpec& spec = *cluster.mutable_spec();
  spec = seed.request.spec();
  spec.mutable_annotations()->set_name("default");
  if (spec.heartbeat_period_ns() == 0) spec.set_heartbeat_period_ns(kHeartbeatPeriod.count());
  if (spec.node_cert_expiry_ns() == 0) spec.set_node_cert_expiry_ns(kCertificateExpiry.count());
  if (spec.task_history_limit() == 0) spec.set_task_history_limit(kTaskHistoryLimit);
  if (spec.vanished_agent_grace_ns() == 0) {
    spec.set_vanished_agent_grace_ns(kVanishedGrace.count());
  }
  MUSTER_TRY(validate_cluster_spec(spec));

  const uint32_t mask = seed.request.subnet_mask_bits();
  if (mask > kSubnetMaskBitsMax) {
    return fail(
        invalid_argument("subnet mask /{} is too long: /{} at most", mask, kSubnetMaskBitsMax));
  }
  cluster.set_subnet_mask_bits(mask == 0 ? kSubnetMaskBits : mask);
  const uint32_t port = seed.request.data_path_port();
  if (port != 0 && (port < kDataPathPortMin || port > kDataPathPortMax)) {
    return fail(invalid_argument("invalid data path port number ({}): must be {} to {}", port,
                                 kDataPathPortMin, kDataPathPortMax));
  }
  cluster.set_data_path_port(port == 0 ? kDataPathPort : port);
  *cluster.mutable_default_address_pools() = seed.request.default_address_pools();
  if (cluster.default_address_pools().empty()) cluster.add_default_address_pools("10.0.0.0/8");

  v1::RootCa& root = *cluster.mutable_root_ca();
  root.set_certificate_pem(seed.root.certificate_pem);
  root.set_key_pem(seed.root.key_pem);
  MUSTER_ASSIGN(*root.mutable_certificate_digest(),
                security::certificate_digest(seed.root.certificate_pem));
  MUSTER_ASSIGN(const auto worker, security::create_join_token(seed.root.certificate_pem));
  MUSTER_ASSIGN(const auto manager, security::create_join_token(seed.root.certificate_pem));
  root.mutable_join_tokens()->set_worker(worker.str());
  root.mutable_join_tokens()->set_manager(manager.str());
  return cluster;
}

v1::Node make_manager_node(const std::string& node_id, const std::string& advertise_addr,
                           v1::NodeSpec::Availability availability,
                           const v1::NodeDescription& description) {
  v1::Node node;
  node.set_id(node_id);
  node.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
  node.mutable_spec()->set_availability(availability);
  *node.mutable_description() = description;
  node.mutable_status()->set_state(v1::NodeStatus::UNKNOWN);
  node.mutable_status()->set_address(advertise_addr.substr(0, advertise_addr.rfind(':')));
  node.mutable_manager_status()->set_address(advertise_addr);
  node.mutable_manager_status()->set_reachable(true);
  node.set_role(v1::NodeSpec::MANAGER);
  return node;
}

}  // namespace muster::manager::control
