#pragma once

#include <memory>
#include <string>

#include "base/backoff.h"
#include "base/executor.h"
#include "base/log.h"
#include "manager/members/members_plan.h"
#include "manager/store/store.h"

namespace muster::manager::members {

// The leader's part that keeps the Raft group and the node objects in step. It looks at both when a
// node's role changes, when it is told that the group has, when a change of its own has ended, and
// every now and then; what is to be done is plan_members()'s to say.
//
// One change of the group and one write under way at most. Lives on the store's strand; `group`
// outlives it.
class MemberKeeper {
 public:
  static constexpr Duration kLook = 1s;
  static constexpr Duration kLookSoon = 100ms;  // while a member is to be promoted or removed
  // Between attempts at what the group would not do: handing leadership over stops all writes.
  static constexpr Duration kAgainMin = 1s;
  static constexpr Duration kAgainMax = 30s;

  MemberKeeper(Executor& strand, store::Store& store, raft::Group& group, Log log);
  ~MemberKeeper();

  // With leadership, and without it. After stop() nothing is asked of the group or the store.
  void start();
  void stop();
  // The group's view is another; else it is looked at within kLook.
  void group_changed();

 private:
  void look();
  void arm(Duration delay);
  void act(const GroupAction& action);
  void write(std::vector<NodeChange> changes);
  void on_commit(const store::CommitEvent& event);

  Executor& strand_;
  store::Store& store_;
  raft::Group& group_;
  Log log_;
  bool running_ = false;
  uint64_t term_ = 0;  // counts start() and stop(): whose answers still count
  bool acting_ = false;
  bool writing_ = false;
  Backoff backoff_{kAgainMin, kAgainMax};
  TimePoint act_after_;
  std::string said_;  // what is held up, to say it once
  Executor::TimerId timer_ = 0;
  store::Store::Subscription subscription_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace muster::manager::members
