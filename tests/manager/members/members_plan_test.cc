#include "manager/members/members_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "manager/members/group_facts.h"
#include "tests/manager/members/fake_group.h"

namespace muster::manager::members {
namespace {

using Kind = GroupAction::Kind;
constexpr auto kWorker = v1::NodeSpec::WORKER;
constexpr auto kManager = v1::NodeSpec::MANAGER;

store::Ptr<v1::Node> node(const std::string& id, v1::NodeSpec::Role desired,
                          v1::NodeSpec::Role role, const raft::MemberView* stored = nullptr) {
  auto out = std::make_shared<v1::Node>();
  out->set_id(id);
  out->mutable_spec()->set_desired_role(desired);
  out->set_role(role);
  if (stored != nullptr) *out->mutable_manager_status() = stored_status(stored->member);
  return out;
}

raft::GroupView led_by_1(std::vector<raft::MemberView> members) {
  raft::GroupView view;
  view.self = view.leader = {1};
  view.leads = true;
  view.members = std::move(members);
  return view;
}

IsManager to_be(std::vector<std::string> managers) {
  return [managers = std::move(managers)](const std::string& id) {
    return std::find(managers.begin(), managers.end(), id) != managers.end();
  };
}

raft::MemberView learner(uint64_t id, const std::string& node, bool caught_up) {
  raft::MemberView out = member(id, node, false);
  out.caught_up = caught_up;
  return out;
}

TEST(MembersPlan, WhatTheGroupIsToDo) {
  struct Case {
    const char* what;
    std::vector<raft::MemberView> members;
    std::vector<std::string> managers;  // nodes that are to be managers; n1..n5 exist
    GroupAction action;
    bool held_up = false;
  };
  const Case cases[] = {
      {"nothing to do", {member(1, "n1"), member(2, "n2")}, {"n1", "n2"}, {}},
      {"a learner that has not caught up waits",
       {member(1, "n1"), learner(2, "n2", false)},
       {"n1", "n2"},
       {}},
      {"a learner that has caught up votes",
       {member(1, "n1"), learner(2, "n2", true)},
       {"n1", "n2"},
       {Kind::kPromote, {2}}},
      {"one that is to be a worker does not",
       {member(1, "n1"), learner(2, "n2", true)},
       {"n1"},
       {Kind::kRemove, {2}}},
      {"a demoted voter leaves",
       {member(1, "n1"), member(2, "n2"), member(3, "n3")},
       {"n1", "n2"},
       {Kind::kRemove, {3}}},
      {"the voter of a node that is gone leaves",
       {member(1, "n1"), member(2, "n2"), member(3, "n9")},
       {"n1", "n2"},
       {Kind::kRemove, {3}}},
      {"one that does not answer leaves before one that does",
       {member(1, "n1"), member(2, "n2"), member(3, "n3"), member(4, "n4", true, false),
        member(5, "n5")},
       {"n1", "n2", "n5"},
       {Kind::kRemove, {4}}},
      {"never below a majority that answers: of 3, one is away, another may not go",
       {member(1, "n1"), member(2, "n2"), member(3, "n3", true, false)},
       {"n1", "n3"},
       {},
       true},
      {"but the one that is away may",
       {member(1, "n1"), member(2, "n2"), member(3, "n3", true, false)},
       {"n1", "n2"},
       {Kind::kRemove, {3}}},
      {"a leader that is to go hands over to the one that is furthest",
       [] {
         std::vector<raft::MemberView> out = {member(1, "n1"), member(2, "n2"), member(3, "n3")};
         out[1].match = 5;
         out[2].match = 9;
         return out;
       }(),
       {"n2", "n3"},
       {Kind::kTransfer, {3}}},
      {"the leader goes last",
       {member(1, "n1"), member(2, "n2"), member(3, "n3")},
       {"n2"},
       {Kind::kRemove, {3}}},
      {"the last voter stays", {member(1, "n1")}, {}, {}, true},
      {"nobody can take over from a leader that is to go",
       {member(1, "n1"), learner(2, "n2", false)},
       {"n2"},
       {},
       true},
      {"of two members of one node the one that answers stays",
       {member(1, "n1"), member(2, "n2", true, false), member(3, "n2"), member(4, "n4")},
       {"n1", "n2", "n4"},
       {Kind::kRemove, {2}}},
  };
  for (const Case& c : cases) {
    std::vector<store::Ptr<v1::Node>> nodes;
    for (const char* id : {"n1", "n2", "n3", "n4", "n5"}) {
      const bool wanted = std::find(c.managers.begin(), c.managers.end(), id) != c.managers.end();
      nodes.push_back(node(id, wanted ? kManager : kWorker, kManager));
    }
    raft::GroupView view = led_by_1(c.members);
    const MembersPlan plan = plan_members(view, nodes);
    EXPECT_EQ(plan.action, c.action) << c.what;
    EXPECT_EQ(!plan.held_up.empty(), c.held_up) << c.what << ": " << plan.held_up;
    // What is held up is what the nodes say.
    std::vector<std::string> said;
    for (const auto& of : nodes) {
      v1::Node described = *of;
      describe_manager(described, view, to_be(c.managers));
      if (!described.status().message().empty()) said.push_back(described.status().message());
    }
    EXPECT_EQ(said, c.held_up ? std::vector<std::string>{plan.held_up} : std::vector<std::string>{})
        << c.what;
    view.leads = false;
    const MembersPlan none = plan_members(view, nodes);
    EXPECT_EQ(none.action, GroupAction()) << c.what;
    EXPECT_TRUE(none.nodes.empty()) << c.what;
  }
}

TEST(MembersPlan, WhatNodeObjectsAreToSay) {
  const raft::MemberView one = member(1, "n1");
  const raft::MemberView two = member(2, "n2");
  raft::MemberView moved = two;
  moved.member.address = "10.0.0.99:2377";
  struct Case {
    const char* what;
    store::Ptr<v1::Node> node;
    bool is_member;
    bool change;
    v1::NodeSpec::Role role = kWorker;
    bool status = false;
  };
  const Case cases[] = {
      {"a worker", node("n2", kWorker, kWorker), false, false},
      {"a manager that is in", node("n2", kManager, kManager, &two), true, false},
      {"promoted: the role first", node("n2", kManager, kWorker), false, true, kManager, false},
      {"joined: its address", node("n2", kManager, kManager), true, true, kManager, true},
      {"moved", node("n2", kManager, kManager, &moved), true, true, kManager, true},
      {"demoted and still in: nothing yet", node("n2", kWorker, kManager, &two), true, false},
      {"demoted and out: the role last", node("n2", kWorker, kManager, &two), false, true, kWorker,
       false},
      {"demoted before it was in", node("n2", kWorker, kManager), false, true, kWorker, false},
  };
  for (const Case& c : cases) {
    std::vector<raft::MemberView> members = {one};
    if (c.is_member) members.push_back(two);
    const MembersPlan plan =
        plan_members(led_by_1(members), {node("n1", kManager, kManager, &one), c.node});
    ASSERT_EQ(plan.nodes.size(), c.change ? 1u : 0u) << c.what;
    if (!c.change) continue;
    EXPECT_EQ(plan.nodes[0].node_id, "n2") << c.what;
    EXPECT_EQ(plan.nodes[0].role, c.role) << c.what;
    EXPECT_EQ(plan.nodes[0].status.has_value(), c.status) << c.what;
    if (c.status) {
      EXPECT_EQ(plan.nodes[0].status->address(), "10.0.0.2:2377") << c.what;
    }
  }
}

TEST(GroupFacts, AddressesBeginWithTheLeaderThenThisNode) {
  raft::GroupView view = led_by_1({member(1, "n1"), member(2, "n2"), member(3, "n3")});
  view.self = {2};
  view.leader = {3};
  EXPECT_EQ(manager_addresses(view),
            (std::vector<std::string>{"10.0.0.3:2377", "10.0.0.2:2377", "10.0.0.1:2377"}));
  view.leader = {};
  EXPECT_EQ(manager_addresses(view)[0], "10.0.0.2:2377");
  EXPECT_EQ(leader_address(view), "");
}

TEST(GroupFacts, ANodeIsDescribedFromTheView) {
  raft::GroupView view =
      led_by_1({member(1, "n1"), member(2, "n2", true, false), member(171, "n3", false)});
  v1::Node described;
  described.set_id("n2");
  describe_manager(described, view, to_be({}));
  EXPECT_FALSE(described.manager_status().leader());
  EXPECT_FALSE(described.manager_status().reachable());
  EXPECT_FALSE(described.manager_status().learner());
  described.set_id("n3");
  describe_manager(described, view, to_be({}));
  EXPECT_TRUE(described.manager_status().learner());
  EXPECT_EQ(described.manager_status().raft_id(), "ab");
  described.set_id("n1");
  describe_manager(described, view, to_be({}));
  EXPECT_TRUE(described.manager_status().leader());
  EXPECT_TRUE(described.manager_status().reachable());
  described.set_id("n4");
  describe_manager(described, view, to_be({}));
  EXPECT_FALSE(described.has_manager_status());
}

TEST(GroupFacts, ANodeSaysWhatHoldsItsDemotionUp) {
  raft::GroupView view = led_by_1({member(1, "n1"), member(2, "n2"), member(3, "n3", true, false)});
  v1::Node node;
  node.set_id("n2");
  node.mutable_spec()->set_desired_role(v1::NodeSpec::WORKER);
  std::vector<std::string> managers = {"n1", "n3"};
  const auto message = [&](v1::Node described) {
    describe_manager(described, view, to_be(managers));
    return described.status().message();
  };
  const std::string why =
      "node n2 stays in the group of managers for now: without it fewer than a majority would "
      "answer";
  EXPECT_EQ(message(node), why);
  node.mutable_status()->set_message("heartbeat failure");
  EXPECT_EQ(message(node), "heartbeat failure; " + why);
  node.mutable_status()->clear_message();
  view.leads = false;
  EXPECT_EQ(message(node), "") << "who does not lead does not know";
  view.leads = true;
  view.members[2].reachable = true;
  EXPECT_EQ(message(node), "");
  view.members[2].reachable = false;
  node.mutable_spec()->set_desired_role(v1::NodeSpec::MANAGER);
  EXPECT_EQ(message(node), "");
  // The leader, whose only heir has not caught up.
  node.set_id("n1");
  node.mutable_spec()->set_desired_role(v1::NodeSpec::WORKER);
  view = led_by_1({member(1, "n1"), member(2, "n2", false)});
  EXPECT_NE(message(node), "");
  // Or is to go, too.
  view = led_by_1({member(1, "n1"), member(2, "n2"), member(3, "n3", false)});
  managers = {"n3"};
  EXPECT_EQ(message(node), "node n1 leads, and nobody could take over");
  managers = {"n2"};
  EXPECT_EQ(message(node), "");
}

TEST(GroupFacts, TheErrorWithoutALeaderCountsManagers) {
  const Status status = no_leader(led_by_1({member(1, "n1"), member(2, "n2"), member(3, "n3")}), 1);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(status.reason(), "no-leader");
  EXPECT_EQ(status.message().rfind("The swarm does not have a leader. It's possible that too few "
                                   "managers are online. Make sure more than half of the managers "
                                   "are online.",
                                   0),
            0u);
  EXPECT_NE(status.message().find("1 of 3 managers"), std::string::npos);
  EXPECT_NE(status.message().find("2 are missing. A manager that is locked counts as missing"),
            std::string::npos);
}

}  // namespace
}  // namespace muster::manager::members
