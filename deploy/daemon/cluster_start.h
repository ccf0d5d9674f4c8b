#pragma once

#include <string>

#include "base/security/key_files.h"
#include "base/security/x509.h"
#include "base/status.h"
#include "base/time.h"
#include "deploy/daemon/node_state.h"
#include "manager/control/cluster_objects.h"
#include "muster/v1/control.pb.h"

// What a swarm begins with.
namespace muster::daemon {

Result<manager::control::NewCluster> new_cluster(const v1::InitSwarmRequest& request,
                                                 const std::string& id,
                                                 const security::CertificateAndKey& root);

Duration certificate_validity(const v1::ClusterSpec& spec);

// A manager's certificate for the node that holds the root's key.
Result<security::NodeCredentials> issue_own_credentials(const security::CertificateAndKey& root,
                                                        const Membership& membership,
                                                        Duration validity, WallTime now);

v1::Node own_node(const Membership& membership, v1::NodeSpec::Availability availability,
                  const v1::NodeDescription& description);

}  // namespace muster::daemon
