// Who of the simulated managers is one: roles that change, disks that are lost, joining.
#include <algorithm>
#include <utility>

#include "tests/sim/sim_certificates.h"
#include "tests/sim/sim_group.h"

namespace muster::sim {

namespace {

constexpr Duration kLook = 300ms;
// Longer than manager/members takes for an answer.
constexpr Duration kAnswer = 12s;
constexpr const char* kJoin = "muster.v1.Membership.Join";

}  // namespace

// What the daemon of each node does about its role.
void SimGroup::look_after_members() {
  strand_.after(kLook, [this] { look_after_members(); });
  for (const auto& manager : managers_) {
    const auto node = latest_.get<v1::Node>(manager->place.self.node_id);
    if (node == nullptr || manager->away) continue;
    follow_role(*manager, *node);
  }
}

// With certificates it is the certificate that says the role.
void SimGroup::follow_role(Manager& manager, const v1::Node& node) {
  if (deps_.certificates != nullptr) {
    const SimIdentity* identity = deps_.certificates->find(node.id());
    if (!identity->running()) return;
    if (!identity->manager()) {
      if (manager.member) retire(manager);
    } else if (!manager.member && node.spec().desired_role() == v1::NodeSpec::MANAGER) {
      ask_to_join(manager);
    }
    return;
  }
  if (manager.member) {
    // It learns of its removal from the others, or from its certificate a little later.
    if (node.role() == v1::NodeSpec::WORKER && deps_.extra.below(5) == 0) retire(manager);
  } else if (node.role() == v1::NodeSpec::MANAGER) {
    ask_to_join(manager);
  }
}

// Over and over with the same id, until somebody says that it belongs.
void SimGroup::ask_to_join(Manager& manager) {
  ManagerLife* asked = leader();
  if (asked == nullptr || (manager.asks_until && deps_.world.now() < *manager.asks_until)) return;
  if (deps_.certificates != nullptr &&
      !deps_.certificates->admit_call(manager.place.self.node_id, kJoin).ok()) {
    return;
  }
  manager.asks_until = deps_.world.now() + kAnswer;
  const raft::MemberId id = manager.place.self.id;
  asked->strand.post([this, asked, &manager, id] {
    v1::JoinMemberRequest request;
    request.set_member_id(id.value);
    request.set_address(manager.place.self.address);
    asked->parts->membership.join(
        manager.place.self.node_id, request,
        [this, &manager, id](Result<v1::JoinMemberResponse> response) {
          strand_.post([this, &manager, id, response = std::move(response)] {
            if (manager.member || manager.place.self.id != id) return;
            manager.asks_until.reset();
            if (!response) return say(manager, "may not join: " + response.error().message());
            manager.member = true;
            if (id.value >= kFirstLaterMember) deps_.probes.hit("member with an empty disk joined");
            start(manager);
          });
        });
  });
}

// Its log is of no use any more; should it be a manager again, it is another member.
void SimGroup::retire(Manager& manager) {
  say(manager, "is no member any more");
  kill(manager);
  manager.member = manager.founder = false;
  manager.place.image = {};
  manager.last = manager.last_term = manager.snapshot = 0;
  manager.place.self.id = {next_member_++};
  manager.asks_until.reset();
}

void SimGroup::change_role(Manager& manager) {
  ManagerLife* asked = leader();
  if (asked == nullptr) return;
  asked->strand.post([this, asked, id = manager.place.self.node_id] {
    manager::control::Principal user;
    user.kind = manager::control::Principal::Kind::kLocalUser;
    v1::GetNodeRequest get;
    get.set_node(id);
    const auto known = asked->parts->api.get_node(user, get);
    if (!known) return;
    v1::UpdateNodeRequest request;
    request.set_node_id(id);
    request.set_version(known->node().meta().version());
    *request.mutable_spec() = known->node().spec();
    const bool manages = request.spec().desired_role() == v1::NodeSpec::MANAGER;
    request.mutable_spec()->set_desired_role(manages ? v1::NodeSpec::WORKER
                                                     : v1::NodeSpec::MANAGER);
    asked->parts->api.update_node(
        user, request,
        manager::control::Callback<v1::UpdateNodeResponse>(
            [this, id, manages](Result<v1::UpdateNodeResponse> response) {
              deps_.trace(fmt::format("{} is to be {}: {}", id, manages ? "a worker" : "a manager",
                                      response ? "so be it" : response.error().message()));
            }));
  });
}

// Everybody that is to be a manager votes, as the leader sees it: one disk less is no loss then.
bool SimGroup::whole() const {
  for (const auto& manager : managers_) {
    if (!manager->member || manager->life == nullptr || manager->life->working_term() == 0)
      continue;
    const raft::GroupView view = manager->life->parts->replicated.group().view();
    if (!view.leads || view.members.size() != managers_.size()) continue;
    return std::all_of(view.members.begin(), view.members.end(), [this](const auto& m) {
      return m.member.voter && std::any_of(managers_.begin(), managers_.end(), [&](const auto& o) {
               return o->member && o->place.self.id == m.member.id;
             });
    });
  }
  return false;
}

void SimGroup::lose_disk(Manager& manager) {
  if (managers_.size() < 3 || !whole()) return;
  say(manager, "loses its disk");
  deps_.probes.hit("manager lost its disk");
  const raft::MemberId before = manager.place.self.id;
  retire(manager);
  process(manager, false);
  if (deps_.mutant == SimMutant::kLostDiskKeepsItsId) {
    manager.place.self.id = before;
    manager.member = true;
  }
  manager.away = true;
  strand_.after(extra_up_to(4'000), [this, &manager] { start(manager); });
}

Status SimGroup::check_members() {
  if (!keeper()) return ok_status();
  ManagerLife* leading = leader();
  if (leading == nullptr) return internal_error("nobody leads at the end");
  const raft::GroupView view = leading->parts->replicated.group().view();
  for (const auto& manager : managers_) {
    const std::string& id = manager->place.self.node_id;
    const auto node = latest_.get<v1::Node>(id);
    if (node == nullptr) return internal_error("{} is not in the swarm{}", id, describe());
    const bool wanted = node->spec().desired_role() == v1::NodeSpec::MANAGER;
    const raft::MemberView* member = view.find_node(id);
    const bool votes =
        member != nullptr && member->member.voter && member->member.id == manager->place.self.id;
    if (wanted != votes || (!wanted && member != nullptr)) {
      return internal_error("{} is to be {} and {}{}", id, wanted ? "a manager" : "a worker",
                            votes ? "votes" : "does not vote", describe());
    }
    if (node->role() != node->spec().desired_role()) {
      return internal_error("the role of {} is not what it is to be", id);
    }
  }
  return ok_status();
}

}  // namespace muster::sim
