#include "manager/members/group_facts.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::manager::members {

std::string leader_address(const raft::GroupView& view) {
  const raft::MemberView* leader = view.leader ? view.find(view.leader) : nullptr;
  return leader == nullptr ? std::string() : leader->member.address;
}

std::vector<std::string> manager_addresses(const raft::GroupView& view) {
  std::vector<std::string> out;
  const auto add = [&](const raft::MemberView* m) {
    if (m == nullptr || m->member.address.empty()) return;
    if (std::find(out.begin(), out.end(), m->member.address) != out.end()) return;
    out.push_back(m->member.address);
  };
  if (view.leader) add(view.find(view.leader));
  add(view.find(view.self));
  for (const raft::MemberView& m : view.members) add(&m);
  return out;
}

bool keeps_quorum(const raft::GroupView& view, const std::set<raft::MemberId>& leaving) {
  size_t voters = 0;
  size_t reachable = 0;
  for (const raft::MemberView& m : view.members) {
    if (!m.member.voter || leaving.contains(m.member.id)) continue;
    ++voters;
    if (m.reachable || m.member.id == view.self) ++reachable;
  }
  return voters > 0 && reachable > voters / 2;
}

std::string raft_id_text(raft::MemberId id) {
  return fmt::format("{:x}", id.value);
}

v1::ManagerStatus stored_status(const raft::Member& member) {
  v1::ManagerStatus status;
  status.set_address(member.address);
  status.set_raft_id(raft_id_text(member.id));
  return status;
}

const raft::MemberView* member_of(const raft::GroupView& view, std::string_view node_id) {
  const raft::MemberView* found = nullptr;
  for (const raft::MemberView& m : view.members) {
    if (m.member.node_id != node_id) continue;
    if (m.member.id == view.self) return &m;
    if (found == nullptr || (m.reachable && !found->reachable)) found = &m;
  }
  return found;
}

IsManager managers_of(const store::Snapshot& state) {
  return [state](const std::string& node_id) {
    const auto node = state.get<v1::Node>(node_id);
    return node != nullptr && node->spec().desired_role() == v1::NodeSpec::MANAGER;
  };
}

Parting parting_of(const raft::GroupView& view, const raft::MemberView& leaving,
                   const IsManager& is_manager) {
  Parting out;
  if (leaving.member.voter && !keeps_quorum(view, {leaving.member.id})) {
    out.held_up = fmt::format(
        "node {} stays in the group of managers for now: without it fewer than a majority would "
        "answer",
        leaving.member.node_id);
    return out;
  }
  if (leaving.member.id != view.self) return out;
  // Whoever is furthest, of those that stay.
  const raft::MemberView* heir = nullptr;
  for (const raft::MemberView& m : view.members) {
    if (m.member.id == view.self || !m.member.voter || !m.reachable) continue;
    if (!is_manager(m.member.node_id) || member_of(view, m.member.node_id) != &m) continue;
    if (heir == nullptr || m.match > heir->match) heir = &m;
  }
  if (heir != nullptr) {
    out.heir = heir->member.id;
  } else {
    out.held_up = fmt::format("node {} leads, and nobody could take over", leaving.member.node_id);
  }
  return out;
}

void describe_manager(v1::Node& node, const raft::GroupView& view, const IsManager& is_manager) {
  const raft::MemberView* m = member_of(view, node.id());
  if (m == nullptr) {
    // Promoted and not there yet, or removed and not yet written down.
    node.clear_manager_status();
    return;
  }
  v1::ManagerStatus& status = *node.mutable_manager_status();
  status.set_address(m->member.address);
  status.set_raft_id(raft_id_text(m->member.id));
  status.set_leader(view.leader == m->member.id);
  status.set_reachable(m->reachable || m->member.id == view.self);
  status.set_learner(!m->member.voter);
  if (!view.leads || node.spec().desired_role() == v1::NodeSpec::MANAGER) return;
  const std::string held_up = parting_of(view, *m, is_manager).held_up;
  if (held_up.empty()) return;
  std::string& message = *node.mutable_status()->mutable_message();
  message += (message.empty() ? "" : "; ") + held_up;
}

Status not_leader(const raft::GroupView& view) {
  const std::string leader = view.leader == view.self ? std::string() : leader_address(view);
  return Status(StatusCode::kUnavailable,
                leader.empty()
                    ? "this manager is not the leader, and it does not know who is"
                    : fmt::format("this manager is not the leader; the leader is at {}", leader),
                "not-leader");
}

Status no_leader(const raft::GroupView& view, size_t reachable) {
  if (view.members.empty()) {
    return Status(
        StatusCode::kUnavailable,
        "This manager does not know the others yet: it has not been let into their group, "
        "or none of them can be reached.",
        "no-leader");
  }
  const size_t missing = view.members.size() - std::min(reachable, view.members.size());
  return Status(StatusCode::kUnavailable,
                fmt::format("The swarm does not have a leader. It's possible that too few managers "
                            "are online. Make sure more than half of the managers are online. "
                            "From this manager {} of {} managers can be reached, itself included; "
                            "{} missing.{}",
                            reachable, view.members.size(),
                            missing == 1 ? "1 is" : fmt::format("{} are", missing),
                            missing == 0 ? ""
                                         : " A manager that is locked counts as missing until "
                                           "\"muster swarm unlock\" is run on it."),
                "no-leader");
}

}  // namespace muster::manager::members
