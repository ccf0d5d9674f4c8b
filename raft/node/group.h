#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/unique_function.h"
#include "raft/core/types.h"

namespace muster::raft {

// One member as this node sees it.
struct MemberView {
  Member member;
  bool leader = false;
  // Of a leader: it answered within an election time-out; so did the leader to a follower. A
  // follower knows nothing of the others and says true.
  bool reachable = true;
  // Of a leader: a learner that has what a voter needs.
  bool caught_up = false;
  Index match = 0;  // of a leader: what the member certainly has
};

struct GroupView {
  MemberId self;
  Term term = 0;
  MemberId leader;     // 0: none is known
  bool leads = false;  // this node does, and its state has every commit of before
  // This process has not yet applied all that its log had when it began: the state may lack what an
  // earlier process of this member has shown. Over once a leader has told what is committed.
  bool behind = false;
  Index commit = 0;
  Index applied = 0;
  std::vector<MemberView>
      members;  // sorted by id; empty while this node has not heard of its group

  const MemberView* find(MemberId id) const {
    return find_if([&](const Member& member) { return member.id == id; });
  }
  const MemberView* find_node(std::string_view node_id) const {
    return find_if([&](const Member& member) { return member.node_id == node_id; });
  }

 private:
  template <class F>
  const MemberView* find_if(F which) const {
    for (const MemberView& view : members) {
      if (which(view.member)) return &view;
    }
    return nullptr;
  }
};

// The membership of a replicated log's group, as its managers deal with it. Everything but view()
// is called on the user's strand and answers there, exactly once, never from inside the call, and
// within a deadline of 10 s (DEADLINE_EXCEEDED: it may still come true).
//
// Only the leader changes the group: UNAVAILABLE, reason "not-leader", from others. One change at a
// time: FAILED_PRECONDITION, reason "change-pending".
class Group {
 public:
  using Done = UniqueFunction<void(Status)>;
  virtual ~Group() = default;

  // Any thread; a copy of what was true a moment ago.
  virtual GroupView view() const = 0;

  // A new member starts as a learner. Repeating it with the same id and a new address changes the
  // address.
  virtual void add_learner(Member member, Done done) = 0;
  // FAILED_PRECONDITION, reason "not-caught-up".
  virtual void promote(MemberId id, Done done) = 0;
  // A removed id is never used again. A leader that removes itself steps down when it is committed.
  virtual void remove(MemberId id, Done done) = 0;
  // To `target`, or with 0 to the voter that is furthest; OK when it leads.
  virtual void transfer_leadership(MemberId target, Done done) = 0;
  // OK with the index that a linearizable read must have applied, when this node has applied it.
  // A leader's alone: a follower asks its leader for the index through the control API, and waits
  // until its own store has it.
  virtual void read_barrier(UniqueFunction<void(Result<Index>)> done) = 0;
};

}  // namespace muster::raft
