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
// Why a member whose node is to be a worker is in the group still, and stays there for now; empty
// when nothing holds it up. As a leader sees it: others know too little of who answers.
std::string held_up_by(const raft::GroupView& view, const raft::MemberView& leaving);
// Fills in what is not kept: who leads, who answers, who has not caught up yet, and, in the
// message of the node's status, what holds a demotion up. Nodes that are no members lose what they
// had.
void describe_manager(v1::Node& node, const raft::GroupView& view);

// UNAVAILABLE, reason "not-leader"; says who leads, if that is known.
Status not_leader(const raft::GroupView& view);
// UNAVAILABLE, reason "no-leader", in Swarm's words and with the count: `reachable` of the group's
// members, this node among them.
Status no_leader(const raft::GroupView& view, size_t reachable);

}  // namespace muster::manager::members
