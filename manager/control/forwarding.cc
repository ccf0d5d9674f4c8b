#include "manager/control/forwarding.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "manager/members/group_facts.h"

namespace muster::manager::control {

Forwarding::Outcome Forwarding::judge(const Status& status, bool sent, bool given_up) const {
  if (status.ok()) return Outcome::kFinal;
  // A call that was given up may have been carried out all the same.
  if (given_up && status.code() == StatusCode::kCancelled) return Outcome::kMaybeDone;
  // The store's and the API's own words, here or over there.
  if (status.reason() == "not-leader" || status.reason() == "no-leader" ||
      status.reason() == "not-a-manager" || status.reason() == "transferring") {
    return Outcome::kNotDone;
  }
  if (status.reason() == "outcome-unknown") return Outcome::kMaybeDone;
  if (!status.reason().empty()) return Outcome::kFinal;
  // Without a reason UNAVAILABLE is gRPC's own: the connection.
  if (status.code() == StatusCode::kUnavailable) {
    return sent ? Outcome::kMaybeDone : Outcome::kNotDone;
  }
  // One that does not answer a read in the time it is given; the client's own time is over then.
  if (reads() && status.code() == StatusCode::kDeadlineExceeded) return Outcome::kNotDone;
  return Outcome::kFinal;
}

Forwarding::Next Forwarding::asking(Next next, raft::MemberId leader) {
  asked_ = leader;
  next.leader = leader;
  return next;
}

Forwarding::Next Forwarding::look(const raft::GroupView& view, TimePoint now) {
  const bool same =
      failed_ && view.leader == failed_ && view.term == failed_term_ && now < failed_at_ + again_;
  if (!began_) began_ = now;
  if (kind_ == Kind::kOwnRead) {
    if (view.leader && !view.behind) return asking({Do::kServe, {}, {}, {}}, view.self);
    if (view.leader && over(now)) {
      return {Do::kAnswer,
              {},
              {},
              Status(StatusCode::kUnavailable,
                     "this manager was restarted and has not caught up with the leader yet",
                     "not-caught-up")};
    }
    return wait_or_fail(view, now);
  }
  if (over(now)) return wait_or_fail(view, now);
  if (view.leads && !same) return asking({Do::kServe, {}, {}, {}}, view.self);
  if (view.leader == view.self || !view.leader) return wait_or_fail(view, now);
  if (arrived_forwarded_) return {Do::kAnswer, {}, {}, members::not_leader(view)};
  const std::string address = members::leader_address(view);
  if (address.empty() || same) return wait_or_fail(view, now);
  return asking({Do::kForward, {}, address, {}}, view.leader);
}

Forwarding::Next Forwarding::look_while_asking(const raft::GroupView& view, TimePoint) {
  // Whoever is asked here finds out by itself.
  if (given_up_ || asked_ == view.self || view.leader == asked_) return {Do::kWait, {}, {}, {}};
  given_up_ = true;
  return {Do::kGiveUp, {}, {}, {}};
}

// `what` happened last, unless the last answer says so itself.
Forwarding::Next Forwarding::uncertain(const raft::GroupView& view, std::string_view what) const {
  Status status(StatusCode::kUnknown,
                last_.reason() == "outcome-unknown"
                    ? last_.message()
                    : fmt::format("{} while the change was being written; it may or may not have "
                                  "happened ({})",
                                  what, last_.message()),
                "outcome-unknown");
  return {view.leader ? Do::kAnswer : Do::kNoLeader, {}, {}, std::move(status)};
}

Forwarding::Next Forwarding::wait_or_fail(const raft::GroupView& view, TimePoint now) {
  if (!until_) until_ = *began_ + patience_;
  if (!over(now)) return {Do::kWait, {}, {}, {}};
  if (maybe_done_) {
    return uncertain(view, "leadership was lost");
  }
  const std::string leader = members::leader_address(view);
  if (leader.empty() || last_.ok()) return {Do::kNoLeader, {}, {}, {}};
  return {Do::kAnswer,
          {},
          {},
          Status(StatusCode::kUnavailable,
                 fmt::format("the leader at {} cannot be reached: {}", leader, last_.message()),
                 "leader-unreachable")};
}

Forwarding::Next Forwarding::ended(const Status& status, bool sent, const raft::GroupView& view,
                                   TimePoint now) {
  const raft::MemberId asked = std::exchange(asked_, {});
  Outcome outcome = judge(status, sent, std::exchange(given_up_, false));
  if (outcome == Outcome::kMaybeDone && reads()) outcome = Outcome::kNotDone;
  if (outcome == Outcome::kFinal) return {Do::kAnswer, {}, {}, status};
  last_ = status;
  const bool once_more = failed_ && asked == failed_ && view.term == failed_term_;
  again_ = once_more ? std::min(2 * again_, kAgainMax) : kAgainMin;
  failed_ = asked;
  failed_term_ = view.term;
  failed_at_ = now;
  if (outcome == Outcome::kMaybeDone) {
    if (kind_ != Kind::kRepeatable || maybe_done_) {
      // At once, even while nobody leads: that is so in every failover, and counting who is there
      // could take a second.
      Next next = uncertain(view, "the connection to the leader broke");
      next.what = Do::kAnswer;
      return next;
    }
    maybe_done_ = true;
  }
  if (!until_) {
    until_ = std::max(*began_ + patience_, now + std::min(patience_, kPatienceAfterFailure));
  }
  return look(view, now);
}

// ------------------------------------------------------------ the caller

std::string encode_caller(const security::Principal& caller) {
  using Kind = security::Principal::Kind;
  switch (caller.kind) {
    case Kind::kNone: return "none";
    case Kind::kLocalUser: return fmt::format("user:{}:{}", caller.uid, caller.gid);
    case Kind::kClient: return fmt::format("client:{}:{}", caller.node_id, caller.cluster_id);
    case Kind::kNode: break;
  }
  return fmt::format("node:{}:{}:{}", caller.node_id, caller.manager ? "manager" : "worker",
                     caller.cluster_id);
}

Result<security::Principal> decode_caller(std::string_view text) {
  std::vector<std::string_view> parts;
  for (std::string_view rest = text;;) {
    const size_t colon = rest.find(':');
    parts.push_back(rest.substr(0, colon));
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  const auto number = [](std::string_view digits, uint32_t& out) {
    const auto end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, out);
    return read.ec == std::errc() && read.ptr == end;
  };
  security::Principal caller;
  if (parts.size() == 3 && parts[0] == "user" && number(parts[1], caller.uid) &&
      number(parts[2], caller.gid)) {
    caller.kind = security::Principal::Kind::kLocalUser;
    return caller;
  }
  if (parts.size() == 4 && parts[0] == "node" && !parts[1].empty() &&
      (parts[2] == "manager" || parts[2] == "worker")) {
    caller.kind = security::Principal::Kind::kNode;
    caller.node_id = parts[1];
    caller.manager = parts[2] == "manager";
    caller.cluster_id = parts[3];
    return caller;
  }
  if (parts.size() == 3 && parts[0] == "client" && !parts[1].empty()) {
    caller.kind = security::Principal::Kind::kClient;
    caller.node_id = parts[1];
    caller.cluster_id = parts[2];
    return caller;
  }
  return fail(invalid_argument("\"{}\" names nobody", text));
}

}  // namespace muster::manager::control
