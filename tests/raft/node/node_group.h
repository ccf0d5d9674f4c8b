#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "raft/node/node.h"
#include "tests/sim/log/sim_log_disk.h"
#include "tests/sim/log/sim_log_network.h"

namespace muster::raft {

using sim::DiskWeather;
using sim::LogImage;
using sim::SimLogDisk;
using sim::SimLogNetwork;

// A state machine that keeps what it was told: a list of texts, as the real store does it (what was
// proposed here is added when it is answered kCommitted).
class ListMachine final : public StateMachine {
 public:
  Status apply(Index index, std::string_view payload) override {
    if (payload == "poison") return data_loss("this entry cannot be applied");
    EXPECT_GT(index, last);
    last = index;
    list.emplace_back(payload);
    trace.push_back(fmt::format("apply {}", payload));
    if (auto once = std::exchange(on_apply, nullptr)) once();
    return ok_status();
  }
  Status restore_begin() override {
    loading.clear();
    return ok_status();
  }
  Status restore_chunk(std::string_view chunk) override {
    loading.emplace_back(chunk);
    if (auto once = std::exchange(on_chunk, nullptr)) once();
    return ok_status();
  }
  Status restore_end() override {
    list = loading;
    if (on_restored) on_restored();
    trace.push_back(fmt::format("restored {}", list.size()));
    return ok_status();
  }
  SnapshotProducer capture() override {
    return [copy = list](const ChunkSink& sink) -> Status {
      for (const std::string& text : copy) MUSTER_TRY(sink(text));
      return ok_status();
    };
  }
  void lead(Term term) override {
    EXPECT_EQ(leading, 0U) << "twice without an end between";
    leading = term;
    trace.push_back("lead");
  }
  void end_leading() override {
    EXPECT_NE(leading, 0U);
    leading = 0;
    trace.push_back("end");
  }
  void group_changed() override { ++group_changes; }
  void removed() override { ++removals; }

  std::vector<std::string> list;
  std::vector<std::string> loading;
  std::vector<std::string> trace;
  Index last = 0;
  Term leading = 0;
  int group_changes = 0;
  int removals = 0;
  std::function<void()> on_apply;  // at the next one, as on_chunk
  std::function<void()> on_chunk;
  std::function<void()> on_restored;
};

// One member over its disk; `life` is what a kill takes away.
struct TestMember {
  struct Life {
    Life(SimWorld& world, Rng& rng, SimLogNetwork& network, TestMember& member,
         Node::Options options);
    SimExecutor raft_strand;
    SimExecutor user_strand;
    SimLogDisk disk;
    ListMachine machine;
    std::unique_ptr<Transport> transport;
    Node node;
  };
  Member self;
  LogImage image;
  DiskWeather weather;
  std::unique_ptr<Life> life;
  std::optional<Status> fatal;
};

// How a proposal ended, once it has.
struct Answer {
  std::optional<ProposeResult> result;
};

// Members of one log in virtual time.
class NodeGroup : public testing::Test {
 protected:
  ~NodeGroup() override { members.clear(); }

  // A running group of `count` voters, founded and joined one after the other.
  void found(size_t count);
  MemberId id_of(uint64_t number) const { return MemberId{number}; }
  TestMember& member(uint64_t number) { return *members.at(MemberId{number}); }
  Node& node(uint64_t number) { return member(number).life->node; }
  ListMachine& machine(uint64_t number) { return member(number).life->machine; }

  void start(uint64_t number, StartMode mode, Members known = {});
  void restart(uint64_t number) { start(number, StartMode::kRestore, known_members()); }
  void kill(uint64_t number);
  // Orderly; waits for its end.
  void stop(uint64_t number);
  Members known_members() const;

  // The number of whom its user thinks that it leads; 0: nobody, or more than one.
  uint64_t leader() const;
  uint64_t await_leader(Duration limit = 10s);
  uint64_t follower();  // any that is not the leader
  bool await(const std::function<bool()>& condition, Duration limit = 10s);

  std::shared_ptr<Answer> propose(uint64_t at, const std::string& text);
  Outcome outcome(const std::shared_ptr<Answer>& answer, Duration limit = 20s);
  // Proposes at the leader until it is committed there.
  void write(const std::string& text);
  Status done(const std::function<void(Group::Done)>& call, Duration limit = 20s);
  bool all_equal();

  SimWorld world;
  SeededRng rng{7};
  SimLogNetwork network{world, rng};
  Node::Options options;
  std::optional<Node::Settings> in_snapshots;  // what every snapshot says of the group's settings
  std::map<MemberId, std::unique_ptr<TestMember>> members;
};

}  // namespace muster::raft
