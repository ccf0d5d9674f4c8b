#include "tests/raft/node/node_group.h"

#include <algorithm>

namespace muster::raft {

TestMember::Life::Life(SimWorld& world, Rng& rng, SimLogNetwork& network, TestMember& member,
                       Node::Options options)
    : raft_strand(world),
      user_strand(world),
      disk(world, rng, member.image, member.weather),
      node(std::move(options), {raft_strand, user_strand, disk, rng, null_log(), machine},
           member.image.restored()) {
  transport = network.open(member.self.id, node.transport_events());
}

void NodeGroup::start(uint64_t number, StartMode mode, Members known) {
  auto& one = members[MemberId{number}];
  if (one == nullptr) one = std::make_unique<TestMember>();
  one->self = {.id = {number},
               .node_id = fmt::format("node{}", number),
               .address = fmt::format("192.0.2.{}:2377", number)};
  Node::Options own = options;
  own.self = one->self;
  own.mode = mode;
  own.members = std::move(known);
  own.on_fatal = [&fatal = one->fatal](const Status& status) { fatal = status; };
  one->life = std::make_unique<TestMember::Life>(world, rng, network, *one, std::move(own));
  one->life->machine.on_restored = [this, life = one->life.get()] {
    if (in_snapshots) life->node.configure(*in_snapshots);
  };
  one->life->user_strand.post([life = one->life.get()] {
    const Status started = life->node.start(*life->transport);
    EXPECT_TRUE(started.ok()) << started.to_string();
  });
  world.settle();
}

void NodeGroup::kill(uint64_t number) {
  network.kill(MemberId{number});
  member(number).life->disk.kill();
  member(number).life.reset();
}

void NodeGroup::stop(uint64_t number) {
  bool ended = false;
  member(number).life->user_strand.post([&] { node(number).stop([&] { ended = true; }); });
  EXPECT_TRUE(await([&] { return ended; }));
  member(number).life.reset();
}

Members NodeGroup::known_members() const {
  Members known;
  for (const auto& [id, one] : members) known.put(one->self);
  return known;
}

void NodeGroup::found(size_t count) {
  start(1, StartMode::kFound);
  ASSERT_EQ(await_leader(), 1U);
  for (uint64_t number = 2; number <= count; ++number) {
    start(number, StartMode::kJoin, known_members());
    const Member self = member(number).self;
    EXPECT_TRUE(done([&](auto answer) { node(1).add_learner(self, std::move(answer)); }).ok());
    EXPECT_TRUE(await([&] {
      const GroupView view = node(1).view();
      return view.find(self.id) != nullptr && view.find(self.id)->caught_up;
    }));
    EXPECT_TRUE(done([&](auto answer) { node(1).promote(self.id, std::move(answer)); }).ok());
  }
  EXPECT_TRUE(await([&] { return all_equal(); }));
}

uint64_t NodeGroup::leader() const {
  uint64_t found = 0;
  for (const auto& [id, one] : members) {
    if (one->life == nullptr || one->life->machine.leading == 0) continue;
    if (found != 0) return 0;
    found = id.value;
  }
  return found;
}

uint64_t NodeGroup::await_leader(Duration limit) {
  await([&] { return leader() != 0; }, limit);
  return leader();
}

uint64_t NodeGroup::follower() {
  for (const auto& [id, one] : members) {
    if (one->life != nullptr && id.value != leader()) return id.value;
  }
  return 0;
}

bool NodeGroup::await(const std::function<bool()>& condition, Duration limit) {
  const TimePoint end = world.now() + limit;
  while (!condition()) {
    if (world.now() >= end) return false;
    world.advance(1ms);
  }
  return true;
}

std::shared_ptr<Answer> NodeGroup::propose(uint64_t at, const std::string& text) {
  auto answer = std::make_shared<Answer>();
  TestMember::Life& life = *member(at).life;
  life.user_strand.post([&life, answer, text] {
    life.node.propose(life.machine.leading, text, [&life, answer, text](ProposeResult result) {
      EXPECT_FALSE(answer->result) << "answered twice";
      if (result.outcome == Outcome::kCommitted) {
        EXPECT_GT(result.index, life.machine.last);
        life.machine.last = result.index;
        life.machine.list.push_back(text);
      }
      life.machine.trace.push_back(
          fmt::format("{} {}",
                      result.outcome == Outcome::kCommitted
                          ? "committed"
                          : (result.outcome == Outcome::kRejected ? "rejected" : "unknown"),
                      text));
      answer->result = std::move(result);
    });
  });
  world.settle();
  return answer;
}

Outcome NodeGroup::outcome(const std::shared_ptr<Answer>& answer, Duration limit) {
  EXPECT_TRUE(await([&] { return answer->result.has_value(); }, limit)) << "no answer";
  return answer->result ? answer->result->outcome : Outcome::kUnknown;
}

void NodeGroup::write(const std::string& text) {
  ASSERT_NE(await_leader(), 0U);
  ASSERT_EQ(outcome(propose(leader(), text)), Outcome::kCommitted);
}

Status NodeGroup::done(const std::function<void(Group::Done)>& call, Duration limit) {
  std::optional<Status> status;
  call([&status](Status result) {
    EXPECT_FALSE(status) << "answered twice";
    status = std::move(result);
  });
  EXPECT_FALSE(status) << "answered from inside the call";
  EXPECT_TRUE(await([&] { return status.has_value(); }, limit)) << "no answer";
  return status.value_or(internal_error("no answer"));
}

bool NodeGroup::all_equal() {
  const std::vector<std::string>* first = nullptr;
  Index applied = 0;
  for (const auto& [id, one] : members) {
    if (one->life == nullptr) continue;
    const Index its = one->life->node.view().applied;
    if (first == nullptr) {
      first = &one->life->machine.list;
      applied = its;
    } else if (*first != one->life->machine.list || applied != its) {
      return false;
    }
  }
  return true;
}

}  // namespace muster::raft
