#pragma once

#include <grpcpp/impl/codegen/service_type.h>

#include <functional>
#include <memory>
#include <string>

#include "base/executor.h"
#include "manager/ca/authority.h"

namespace muster::manager::ca {

struct CaServiceDeps {
  Executor& strand;
  // Asked on the strand; null: no manager now (UNAVAILABLE, reason "not-a-manager").
  std::function<CertificateAuthority*()> current;
  // Both on any thread. The leader's address is empty when nobody is known to lead.
  std::function<store::Snapshot()> snapshot;
  std::function<std::string()> leader_address;
};

// v1::Ca, open to callers without a certificate. What a follower is asked that only the leader can
// do ends UNAVAILABLE, reason "not-leader", with the leader's address in the trailing metadata
// "muster-leader".
std::unique_ptr<grpc::Service> make_ca_service(CaServiceDeps deps);

}  // namespace muster::manager::ca
