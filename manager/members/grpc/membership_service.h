#pragma once

#include <grpcpp/impl/codegen/service_type.h>

#include <functional>
#include <memory>

#include "base/executor.h"
#include "manager/members/membership.h"

namespace muster::manager::members {

// v1::Membership: for nodes with a manager's certificate of this cluster. `current` is asked on
// `strand` and may answer null (no manager now): UNAVAILABLE, reason "not-a-manager". An answer
// with reason "not-leader" has the leader's address in the trailing metadata "muster-leader".
std::unique_ptr<grpc::Service> make_membership_service(Executor& strand,
                                                       std::function<Membership*()> current);

}  // namespace muster::manager::members
