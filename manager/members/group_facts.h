#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "manager/store/snapshot.h"
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
// The member of a node, of several the one that answers; null when there is none.
const raft::MemberView* member_of(const raft::GroupView& view, std::string_view node_id);
// Whether a node is to be a manager.
using IsManager = std::function<bool(const std::string& node_id)>;
IsManager managers_of(const store::Snapshot& state);

// How a member leaves the group whose node is to be a worker, or is gone. As a leader sees it:
// others know too little of who answers.
struct Parting {
  std::string held_up;  // why it stays for now; empty when nothing holds it up
  raft::MemberId heir;  // who is to lead before it goes; 0 when it does not lead
};
Parting parting_of(const raft::GroupView& view, const raft::MemberView& leaving,
                   const IsManager& is_manager);

// Fills in what is not kept: who leads, who answers, who has not caught up yet, and, in the
// message of the node's status, what holds a demotion up. Nodes that are no members lose what they
// had.
void describe_manager(v1::Node& node, const raft::GroupView& view, const IsManager& is_manager);

// UNAVAILABLE, reason "not-leader"; says who leads, if that is known.
Status not_leader(const raft::GroupView& view);
// UNAVAILABLE, reason "no-leader", in Swarm's words and with the count: `reachable` of the group's
// members, this node among them.
Status no_leader(const raft::GroupView& view, size_t reachable);

}  // namespace muster::manager::members
