#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "raft/core/core.h"
#include "tests/sim/raft/raft_world.h"

namespace muster::raft {

// A group of cores that does nothing by itself: a case says which message arrives, whose disk is
// done and whose time has come, and everything that happens is written down. Cases are the text
// files in cases/; README.md lists the commands.
class TextGroup {
 public:
  // What happened, a line each, or the error of a command that cannot be.
  std::string run(const std::string& command_line);

 private:
  struct One {
    sim::RaftImage disk;
    std::unique_ptr<SeededRng> rng;
    std::unique_ptr<Core> core;  // null while down
    std::deque<Write> writing;
    std::vector<MemberId> heard;
  };
  using Words = std::vector<std::string>;

  std::string call(const Words& words);
  void found(uint64_t voters);
  void boot(MemberId id);
  void drain(MemberId id);
  void finish_disk(MemberId id, size_t steps);
  void arrive(const Message& message);
  void stabilize(const Words& words);
  // Messages of "A>B" or "A>B KIND"; moves or loses them.
  void move_messages(const Words& words, bool lose);
  void change(MemberId leader, const Words& words);
  void compact(MemberId id, Index keep_from);
  void show_log(MemberId id);
  void show_status();

  One& one(MemberId id);
  Core& core(MemberId id);
  void say(std::string line);
  void say(const Status& status);

  Tuning tuning_{.commit_news = Duration(0)};
  TimePoint now_;
  Members founders_;
  std::map<MemberId, One> members_;
  std::deque<Message> network_;
  std::string said_;
  bool quiet_ = false;
};

}  // namespace muster::raft
