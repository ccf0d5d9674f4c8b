#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manager/store/tables.h"
#include "raft/node/group.h"

namespace muster::manager::members {

// The next change of the group; it makes one at a time.
struct GroupAction {
  enum class Kind {
    kNone,
    kPromote,   // a learner has caught up
    kRemove,    // its node is no manager any more, or is gone
    kTransfer,  // this node is to be removed: somebody else has to do that
  };
  Kind kind = Kind::kNone;
  raft::MemberId member;  // kTransfer: to whom

  friend bool operator==(const GroupAction&, const GroupAction&) = default;
};

// What a node's object is to say. Holds for the desired role it was worked out from.
struct NodeChange {
  std::string node_id;
  v1::NodeSpec::Role desired_role = v1::NodeSpec::WORKER;
  v1::NodeSpec::Role role = v1::NodeSpec::WORKER;
  std::optional<v1::ManagerStatus> status;
};

struct MembersPlan {
  GroupAction action;
  std::vector<NodeChange> nodes;
  // Why something that is to happen does not, in words; empty when nothing is held up.
  std::string held_up;
};

// What brings the Raft group and the node objects in step, as the leader sees both:
// - a learner whose node is to be a manager votes once it has caught up and answers;
// - a member whose node is to be a worker, or is gone, leaves the group, unless fewer than a
//   majority of the voters left would answer. Of several those go first that are missed least.
//   A leader never removes itself: it hands leadership over, and the next one goes on;
// - a node that is to be a manager has the manager's role at once: its certificate is renewed, and
//   then it joins the group by itself. One that is to be a worker has the worker's role only when
//   it is out of the group: whoever has a manager's certificate may be a member.
// - of two members with one node the one that answers stays.
// Nothing while this node does not lead. Pure.
MembersPlan plan_members(const raft::GroupView& view,
                         const std::vector<store::Ptr<v1::Node>>& nodes);

}  // namespace muster::manager::members
