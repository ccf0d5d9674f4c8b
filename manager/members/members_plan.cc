#include "manager/members/members_plan.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>

#include "manager/members/group_facts.h"

namespace muster::manager::members {
namespace {

using raft::GroupView;
using raft::MemberView;

class Planner {
 public:
  Planner(const GroupView& view, const std::vector<store::Ptr<v1::Node>>& nodes) : view_(view) {
    for (const auto& node : nodes) nodes_[node->id()] = node.get();
  }

  MembersPlan run() {
    plan_action();
    for (const auto& [id, node] : nodes_) plan_node(*node);
    return std::move(plan_);
  }

 private:
  bool is_manager(const std::string& node_id) const {
    const auto node = nodes_.find(node_id);
    return node != nodes_.end() && node->second->spec().desired_role() == v1::NodeSpec::MANAGER;
  }

  bool wanted(const MemberView& m) const {
    return is_manager(m.member.node_id) && &m == member_of(view_, m.member.node_id);
  }

  void plan_action() {
    std::vector<const MemberView*> leaving;
    for (const MemberView& m : view_.members) {
      if (!wanted(m)) leaving.push_back(&m);
    }
    // Learners cost nothing, and who does not answer costs less than who does; this node goes last.
    std::stable_sort(leaving.begin(), leaving.end(), [&](const auto* a, const auto* b) {
      const auto rank = [&](const MemberView& m) {
        return std::tuple(m.member.id == view_.self, m.member.voter && m.reachable, m.member.voter);
      };
      return rank(*a) < rank(*b);
    });
    for (const MemberView* m : leaving) {
      if (plan_removal(*m)) return;
    }
    for (const MemberView& m : view_.members) {
      if (m.member.voter || !m.caught_up || !m.reachable || !wanted(m)) continue;
      plan_.action = {GroupAction::Kind::kPromote, m.member.id};
      return;
    }
  }

  bool plan_removal(const MemberView& m) {
    Parting parting =
        parting_of(view_, m, [this](const std::string& node_id) { return is_manager(node_id); });
    if (!parting.held_up.empty()) {
      plan_.held_up = std::move(parting.held_up);
      return false;
    }
    plan_.action = m.member.id == view_.self
                       ? GroupAction{GroupAction::Kind::kTransfer, parting.heir}
                       : GroupAction{GroupAction::Kind::kRemove, m.member.id};
    return true;
  }

  void plan_node(const v1::Node& node) {
    const MemberView* m = member_of(view_, node.id());
    NodeChange change{node.id(), node.spec().desired_role(), node.role(), std::nullopt};
    if (node.spec().desired_role() == v1::NodeSpec::MANAGER) {
      change.role = v1::NodeSpec::MANAGER;
    } else if (m == nullptr) {
      // The removal is in the log before this: it cannot be undone without undoing this, too.
      change.role = v1::NodeSpec::WORKER;
    }
    if (m != nullptr) change.status = stored_status(m->member);
    const bool same_status =
        node.has_manager_status() == change.status.has_value() &&
        (!change.status || (node.manager_status().address() == change.status->address() &&
                            node.manager_status().raft_id() == change.status->raft_id()));
    if (node.role() == change.role && same_status) return;
    plan_.nodes.push_back(std::move(change));
  }

  const GroupView& view_;
  std::map<std::string_view, const v1::Node*> nodes_;
  MembersPlan plan_;
};

}  // namespace

MembersPlan plan_members(const GroupView& view, const std::vector<store::Ptr<v1::Node>>& nodes) {
  if (!view.leads) return {};
  return Planner(view, nodes).run();
}

}  // namespace muster::manager::members
