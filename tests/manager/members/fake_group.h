#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "raft/node/group.h"

namespace muster::manager::members {

inline raft::MemberView member(uint64_t id, const std::string& node, bool voter = true,
                               bool reachable = true) {
  raft::MemberView out;
  out.member.id = {id};
  out.member.node_id = node;
  out.member.address = "10.0.0." + std::to_string(id) + ":2377";
  out.member.voter = voter;
  out.reachable = reachable;
  return out;
}

// A group that does at once what it is told, as its leader sees it.
class FakeGroup final : public raft::Group {
 public:
  explicit FakeGroup(Executor& strand) : strand_(strand) {}

  raft::GroupView view() const override { return state; }
  void add_learner(raft::Member member, Done done) override {
    log.push_back("add " + member.node_id + " " + member.address);
    finish(std::move(done), [this, member] {
      for (raft::MemberView& m : state.members) {
        if (m.member.id == member.id) {
          m.member.address = member.address;
          return;
        }
      }
      raft::MemberView added;
      added.member = member;
      state.members.push_back(added);
      std::sort(state.members.begin(), state.members.end(),
                [](const auto& a, const auto& b) { return a.member.id < b.member.id; });
    });
  }
  void promote(raft::MemberId id, Done done) override {
    log.push_back("promote " + std::to_string(id.value));
    finish(std::move(done), [this, id] {
      for (raft::MemberView& m : state.members) {
        if (m.member.id == id) m.member.voter = true;
      }
    });
  }
  void remove(raft::MemberId id, Done done) override {
    log.push_back("remove " + std::to_string(id.value));
    finish(std::move(done), [this, id] {
      std::erase_if(state.members, [&](const auto& m) { return m.member.id == id; });
    });
  }
  void transfer_leadership(raft::MemberId target, Done done) override {
    log.push_back("transfer " + std::to_string(target.value));
    finish(std::move(done), [this, target] {
      state.leader = target ? target : raft::MemberId{2};
      state.leads = false;
      if (transferred) transferred();
    });
  }
  void read_barrier(UniqueFunction<void(Result<raft::Index>)> done) override {
    strand_.post([done = std::move(done)]() mutable { done(raft::Index{1}); });
  }

  // The next changes fail like this.
  std::deque<Status> failures;
  std::function<void()> transferred;
  raft::GroupView state;
  std::vector<std::string> log;

 private:
  void finish(Done done, std::function<void()> change) {
    strand_.post([this, done = std::move(done), change = std::move(change)]() mutable {
      if (!failures.empty()) {
        const Status status = std::exchange(failures.front(), Status());
        failures.pop_front();
        if (!status.ok()) return done(status);
      }
      change();
      done(ok_status());
    });
  }
  Executor& strand_;
};

}  // namespace muster::manager::members
