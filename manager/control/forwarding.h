#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/security/principal.h"
#include "base/status.h"
#include "base/time.h"
#include "raft/node/group.h"

namespace muster::manager::control {

// One request's way to the leader, as a function of what this manager knows and of what has
// happened to the request so far. Pure.
//
// The leader answers for itself; a request that came from another manager goes no further. Without
// a leader a request waits for one, up to kPatience in all; then it fails and says so.
// A change that certainly was not carried out may try again; one that may have been, only once and
// only when it has a request id, by which the leader knows it. Else its outcome is UNKNOWN. What
// only reads may always try again.
class Forwarding {
 public:
  enum class Kind {
    kChange,
    kRepeatable,  // a change with a request id
    kRead,        // the leader's to answer
    kOwnRead,     // answered here, when somebody is known to lead and the state is not behind
  };
  // With the time it takes to count who can be reached, an answer comes within 5 s.
  static constexpr Duration kPatience = 3500ms;
  // But a request that has been at work for longer has this much after its failure.
  static constexpr Duration kPatienceAfterFailure = 1500ms;
  // Whoever has just failed in a term is asked again after a moment, each time after twice as long:
  // who was elected a moment ago serves in the next.
  static constexpr Duration kAgainMin = 10ms;
  static constexpr Duration kAgainMax = 160ms;

  enum class Do {
    kServe,     // here
    kForward,   // to `address`
    kWait,      // look again soon
    kGiveUp,    // the leader that is being asked leads no more: end the call
    kAnswer,    // with `status`, as it is
    kNoLeader,  // with an error that counts managers; when `status` is one, with both
  };
  struct Next {
    Do what = Do::kWait;
    raft::MemberId leader;
    std::string address;
    Status status;
  };

  // `arrived_forwarded`: another manager has passed it on.
  Forwarding(Kind kind, bool arrived_forwarded, Duration patience = kPatience)
      : kind_(kind), arrived_forwarded_(arrived_forwarded), patience_(patience) {}

  // Nobody is being asked.
  Next look(const raft::GroupView& view, TimePoint now);
  // Somebody is: kWait, or kGiveUp.
  Next look_while_asking(const raft::GroupView& view, TimePoint now);
  // How asking ended, here or there. `sent`: the request may have reached whoever was asked.
  Next ended(const Status& status, bool sent, const raft::GroupView& view, TimePoint now);

 private:
  enum class Outcome { kFinal, kNotDone, kMaybeDone };
  Outcome judge(const Status& status, bool sent, bool given_up) const;
  bool reads() const { return kind_ == Kind::kRead || kind_ == Kind::kOwnRead; }
  bool over(TimePoint now) const { return until_ && now >= *until_; }
  // What it is when a change may have happened and nobody can tell any more.
  Next uncertain(const raft::GroupView& view, std::string_view what) const;
  Next wait_or_fail(const raft::GroupView& view, TimePoint now);
  Next asking(Next next, raft::MemberId leader);

  const Kind kind_;
  const bool arrived_forwarded_;
  const Duration patience_;
  raft::MemberId asked_;        // whom, while somebody is asked
  raft::MemberId failed_;       // who could not, last
  raft::Term failed_term_ = 0;  // in which term of the group
  TimePoint failed_at_;
  Duration again_ = kAgainMin;
  std::optional<TimePoint> began_;
  std::optional<TimePoint> until_;  // while there is trouble
  bool maybe_done_ = false;
  bool given_up_ = false;
  Status last_;
};

// Who asks, in the metadata of a request that one manager passes on to another: "user:0:0",
// "node:<id>:manager:<cluster>" or "client:<name>:<cluster>".
inline constexpr const char* kForwardedKey = "muster-forwarded-for";
std::string encode_caller(const security::Principal& caller);
// INVALID_ARGUMENT for anything else.
Result<security::Principal> decode_caller(std::string_view text);

}  // namespace muster::manager::control
