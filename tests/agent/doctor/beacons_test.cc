#include "agent/doctor/beacons.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <set>

namespace muster::agent {
namespace {

// Nodes in a room whose walls let some frames through.
class Room {
 public:
  using Passes = std::function<bool(const std::string& from, const std::string& to, size_t bytes)>;
  Room(std::vector<std::string> names, Passes passes, size_t full = 1450)
      : passes_(std::move(passes)) {
    for (const auto& name : names) {
      nodes_[name] = std::make_unique<Beacons>("examination", name, names, full);
    }
  }
  void round(const std::string& name) { deliver(name, nodes_[name]->round()); }
  // Rounds of all that are not done; false when they are not within `most`.
  bool finish(int most) {
    for (int i = 0; i < most; ++i) {
      bool all = true;
      for (auto& [name, node] : nodes_) {
        if (node->finished()) continue;
        all = false;
        round(name);
      }
      if (all) return true;
    }
    return false;
  }
  Beacons& operator[](const std::string& name) { return *nodes_.at(name); }
  const Beacons::Heard& heard(const std::string& at, const std::string& of) {
    return nodes_.at(at)->peers().at(of).heard;
  }
  size_t frames = 0;

 private:
  void deliver(const std::string& from, const std::vector<Beacons::Frame>& sent) {
    for (const auto& frame : sent) {
      ++frames;
      if (!passes_(from, frame.peer, frame.content.size())) continue;
      deliver(frame.peer, nodes_.at(frame.peer)->received(frame.content));
    }
  }
  Passes passes_;
  std::map<std::string, std::unique_ptr<Beacons>> nodes_;
};

bool everything(const std::string&, const std::string&, size_t) {
  return true;
}

TEST(Beacons, WhereAllPassesAllIsHeardAndSilenceFollows) {
  Room room({"a", "b", "c", "d"}, everything);
  EXPECT_TRUE(room.finish(3));
  EXPECT_TRUE(room.heard("a", "d").full);
  EXPECT_EQ(room.heard("a", "d").largest, 1450u);
  const size_t before = room.frames;
  for (const char* name : {"a", "b", "c", "d"}) room.round(name);
  EXPECT_EQ(room.frames, before);
}

TEST(Beacons, WhoComesLateIsAnsweredByThoseThatAreDone) {
  bool there = false;
  Room room({"a", "b", "c"}, [&](const std::string& from, const std::string& to, size_t) {
    return there || (from != "c" && to != "c");
  });
  EXPECT_FALSE(room.finish(5));
  there = true;
  // Only c goes on: the others have given up and answer alone.
  for (int i = 0; i < 3; ++i) room.round("c");
  EXPECT_TRUE(room["c"].finished());
  EXPECT_TRUE(room.heard("a", "c").full);
}

TEST(Beacons, OneDirectionIsHeardByTheOneThatItReaches) {
  Room room({"a", "b"},
            [](const std::string& from, const std::string&, size_t) { return from == "a"; });
  EXPECT_FALSE(room.finish(20));
  EXPECT_TRUE(room.heard("b", "a").small);
  EXPECT_TRUE(room.heard("b", "a").full);
  EXPECT_EQ(room.heard("a", "b"), Beacons::Heard());
}

TEST(Beacons, WhereLargeFramesAreLostTheLargestThatPassesIsKnown) {
  Room room({"a", "b"},
            [](const std::string&, const std::string&, size_t bytes) { return bytes <= 1250; });
  EXPECT_FALSE(room.finish(2 * (Beacons::kLadderAfter + Beacons::kLadderEvery)));
  EXPECT_TRUE(room.heard("a", "b").small);
  EXPECT_FALSE(room.heard("a", "b").full);
  EXPECT_EQ(room.heard("a", "b").largest, 1250u);
}

TEST(Beacons, ALostFrameIsSentAgain) {
  uint32_t n = 1;
  Room room({"a", "b"}, [&](const std::string&, const std::string&, size_t) {
    n = n * 1'664'525 + 1'013'904'223;
    return (n >> 24) % 3 == 0;
  });
  EXPECT_TRUE(room.finish(30));
}

TEST(Beacons, FramesOfOthersAreNone) {
  const std::vector<std::string> both = {"a", "b"};
  Beacons a("one", "a", both, 1450), b("one", "b", both, 1450), other("two", "b", both, 1450);
  EXPECT_TRUE(a.received(other.round().front().content).empty()) << "another examination";
  EXPECT_TRUE(a.received("").empty());
  EXPECT_TRUE(a.received("mdoc1").empty());
  EXPECT_TRUE(a.received(std::string(2000, 'x')).empty());
  EXPECT_EQ(a.peers().at("b").heard, Beacons::Heard());
  const std::string good = b.round().front().content;
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_TRUE(a.received(good.substr(0, size)).empty()) << size;
  }
  EXPECT_EQ(a.peers().at("b").heard, Beacons::Heard()) << "what was cut off did not arrive";
  EXPECT_FALSE(a.received(good).empty());
  EXPECT_FALSE(a.received(good + std::string(20, '\0')).empty()) << "padding";
}

TEST(Beacons, AnAnswerIsNotAnswered) {
  const std::vector<std::string> both = {"a", "b"};
  Beacons a("one", "a", both, 1450), b("one", "b", both, 1450);
  const auto answers = a.received(b.round().front().content);
  ASSERT_EQ(answers.size(), 2u);
  for (const auto& frame : answers) EXPECT_TRUE(b.received(frame.content).empty());
}

TEST(Beacons, AloneThereIsNothingToDo) {
  Beacons alone("one", "a", {"a"}, 1450);
  EXPECT_TRUE(alone.finished());
  EXPECT_TRUE(alone.round().empty());
}

}  // namespace
}  // namespace muster::agent
