#include "deploy/daemon/cluster_start.h"

#include "manager/ca/root.h"

namespace muster::daemon {

Result<manager::control::NewCluster> new_cluster(const v1::InitSwarmRequest& request,
                                                 const std::string& id,
                                                 const security::CertificateAndKey& root) {
  manager::control::NewCluster cluster;
  cluster.id = id;
  cluster.spec = request.spec();
  cluster.default_address_pools.assign(request.default_address_pools().begin(),
                                       request.default_address_pools().end());
  cluster.subnet_mask_bits = request.subnet_mask_bits();
  cluster.data_path_port = request.data_path_port();
  MUSTER_ASSIGN(cluster.root_ca, manager::ca::make_root_ca(root));
  return cluster;
}

Duration certificate_validity(const v1::ClusterSpec& spec) {
  return Duration(manager::control::with_defaults(spec).node_cert_expiry_ns());
}

Result<security::NodeCredentials> issue_own_credentials(const security::CertificateAndKey& root,
                                                        const Membership& membership,
                                                        Duration validity, WallTime now) {
  security::NodeCredentials credentials;
  credentials.root_pem = root.certificate_pem;
  MUSTER_ASSIGN(credentials.node.key_pem, security::generate_key());
  MUSTER_ASSIGN(const std::string request,
                security::create_signing_request(credentials.node.key_pem));
  MUSTER_ASSIGN(credentials.node.certificate_pem,
                security::sign_request(root, request,
                                       {membership.node_id, security::CertificateRole::kManager,
                                        membership.cluster_id},
                                       now, validity));
  return credentials;
}

v1::Node own_node(const Membership& membership, v1::NodeSpec::Availability availability,
                  const v1::NodeDescription& description) {
  v1::Node node;
  node.set_id(membership.node_id);
  node.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
  node.mutable_spec()->set_availability(availability);
  *node.mutable_description() = description;
  const std::string& address = membership.advertise_addr;
  node.mutable_status()->set_address(address.substr(0, address.rfind(':')));
  node.mutable_manager_status()->set_address(address);
  node.mutable_manager_status()->set_reachable(true);
  node.set_role(v1::NodeSpec::MANAGER);
  return node;
}

}  // namespace muster::daemon
