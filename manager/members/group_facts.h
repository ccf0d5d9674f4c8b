#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "muster/v1/objects.pb.h"
#include "raft/node/group.h"

namespace muster::manager::members {

// What managers read out of a view of their group. Pure.

const raft::MemberView* find_member(const raft::GroupView& view, raft::MemberId id);
const raft::MemberView* find_member_of(const raft::GroupView& view, std::string_view node_id);

// Empty when nobody is known to lead.
std::string leader_address(const raft::GroupView& view);
// Of all members, each once: the leader's first, then this node's, then by id.
std::vector<std::string> manager_addresses(const raft::GroupView& view);

// Whether more than half of the voters that are left without `leaving` answer, as this node sees
// it. False when no voter is left.
bool keeps_quorum(const raft::GroupView& view, const std::set<raft::MemberId>& leaving);

// As ManagerStatus.raft_id has it.
std::string raft_id_text(raft::MemberId id);
// What of a manager's status is kept in the store: what only a change of the group changes.
v1::ManagerStatus stored_status(const raft::Member& member);
// Fills in what is not kept: who leads, who answers, who has not caught up yet. Nodes that are no
// members lose what they had.
void describe_manager(v1::Node& node, const raft::GroupView& view);

// UNAVAILABLE, reason "not-leader"; says who leads, if that is known.
Status not_leader(const raft::GroupView& view);
// UNAVAILABLE, reason "no-leader", in Swarm's words and with the count: `reachable` of the group's
// members, this node among them.
Status no_leader(const raft::GroupView& view, size_t reachable);

}  // namespace muster::manager::members
