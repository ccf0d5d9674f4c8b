#include "manager/control/node_changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "manager/members/group_facts.h"
#include "manager/store/orphaned_tasks.h"

namespace muster::manager::control {

Status check_demotion(const store::Snapshot& view, const raft::GroupView* group,
                      const v1::Node& node) {
  std::set<std::string> staying;
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& other) {
    if (other->id() != node.id() && other->spec().desired_role() == v1::NodeSpec::MANAGER) {
      staying.insert(other->id());
    }
    return true;
  });
  if (staying.empty()) {
    return failed_precondition("attempting to demote the last manager of the swarm");
  }
  if (group == nullptr) return ok_status();
  const raft::MemberView* member = group->find_node(node.id());
  if (member == nullptr || !member->member.voter) return ok_status();  // nobody counts on it
  // Those that are on their way out already are as good as gone.
  std::set<raft::MemberId> leaving;
  bool voters_stay = false;
  for (const raft::MemberView& m : group->members) {
    if (staying.contains(m.member.node_id)) {
      voters_stay = voters_stay || m.member.voter;
    } else {
      leaving.insert(m.member.id);
    }
  }
  if (!voters_stay) {
    return failed_precondition(
        "attempting to demote the last manager of the swarm: the other managers have not caught up "
        "yet");
  }
  if (!members::keeps_quorum(*group, leaving)) {
    return failed_precondition(
        "can't remove member from the raft: this would result in a loss of quorum");
  }
  return ok_status();
}

Status check_node_removal(const raft::GroupView* group, const v1::Node& node, bool force) {
  const bool member = group == nullptr ? node.role() == v1::NodeSpec::MANAGER
                                       : group->find_node(node.id()) != nullptr;
  if (member) {
    return failed_precondition(
        "node {} is a cluster manager and is a member of the raft cluster. It must be demoted to "
        "worker before removal",
        node.id());
  }
  // One of which a new leader has not heard yet may live.
  if (!force && node.status().state() != v1::NodeStatus::DOWN) {
    return failed_precondition("node {} is not down and can't be removed", node.id());
  }
  return ok_status();
}

int64_t certificate_end(const v1::Cluster& cluster, const v1::Node& node, WallTime now) {
  const int64_t newest = now.unix_ns + cluster.spec().node_cert_expiry_ns();
  return std::max(newest, node.description().tls().not_after_ns()) + Duration(1h).count();
}

Status remove_node_in(store::Transaction& tx, const v1::Node& node, const std::string& manager_id,
                      size_t tasks_max, bool* more) {
  const auto known = tx.view().cluster();
  if (known == nullptr) return not_found("there is no cluster");
  MUSTER_ASSIGN(const store::GivenUp given_up,
                store::give_up_tasks(tx, node.id(), "its node was removed from the swarm",
                                     manager_id, tasks_max));
  *more = given_up.more;
  if (*more) return ok_status();
  v1::Cluster cluster = *known;
  auto* removed = cluster.mutable_removed_nodes();
  removed->erase(std::remove_if(removed->begin(), removed->end(),
                                [&](const v1::RemovedNode& other) {
                                  return other.certificate_ends_at_ns() < tx.now().unix_ns ||
                                         other.node_id() == node.id();
                                }),
                 removed->end());
  v1::RemovedNode& entry = *removed->Add();
  entry.set_node_id(node.id());
  entry.set_certificate_ends_at_ns(certificate_end(cluster, node, tx.now()));
  MUSTER_TRY(tx.update(std::move(cluster)));
  return tx.remove<v1::Node>(node.id());
}

}  // namespace muster::manager::control
