#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/security/tls_identity.h"
#include "base/status.h"
#include "base/time.h"
#include "base/unique_function.h"
#include "deploy/daemon/work_pool.h"
#include "manager/ca/enrolment.h"
#include "muster/v1/raft.pb.h"

// What a node asks of the managers. Every call blocks, within its limit; any thread.
namespace muster::daemon {

// Of several managers the first that answers; who knows of a better one is followed. The last
// failure when nobody can.
struct Managers {
  std::shared_ptr<security::TlsIdentity> identity;
  std::vector<std::string> addresses;
  Duration limit = Duration(10s);
};
Result<v1::JoinMemberResponse> join_group(const Managers& managers,
                                          const v1::JoinMemberRequest& request);
// Takes the caller's own node out of the swarm's list: a joiner that did not get in after all.
Status withdraw_node(const Managers& managers, const std::string& node_id);
Status leave_group(const Managers& managers, const v1::LeaveMemberRequest& request);

// A new certificate for a new key, asked for on a thread of the pool; `done` comes on the strand.
// RESOURCE_EXHAUSTED when the pool is full.
void renew_certificate(WorkPool& pool, Executor& strand, Managers managers, WallTime now,
                       UniqueFunction<void(Result<manager::ca::Issued>)> done);

}  // namespace muster::daemon
