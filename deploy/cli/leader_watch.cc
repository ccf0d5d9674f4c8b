#include "deploy/cli/leader_watch.h"

#include <utility>

namespace muster::deploy::cli {
namespace {

constexpr int64_t kAgainNs = 2'000'000'000;
constexpr int64_t kAgainInDoubtNs = 500'000'000;
constexpr int64_t kFirstAnswerMs = 5'000;

}  // namespace

LeaderRecord::Change LeaderRecord::take(const v1::GetInfoResponse& info) {
  if (!info.control_available()) return Change::kNone;
  const bool first = !std::exchange(answered_, true);
  if (!info.leader_node_id().empty()) {
    without_ = 0;
    return std::exchange(lost_, false) ? Change::kFound : Change::kNone;
  }
  ++without_;
  if (lost_ || (!first && without_ < kLostAfter)) return Change::kNone;
  lost_ = true;
  return Change::kLost;
}

LeaderWatch::LeaderWatch(Run& run)
    : run_(run), source_(info_source(run.endpoint())), asked_(source_->ask()) {}

LeaderWatch::Change LeaderWatch::first(const Signals& signals) {
  wait_readable({fd(), signals.fd()}, kFirstAnswerMs);
  return look();
}

int64_t LeaderWatch::wake() const {
  return asked_ == nullptr ? again_at_ns_ : INT64_MAX;
}

LeaderWatch::Change LeaderWatch::look() {
  if (asked_ == nullptr) {
    if (run_.world.now_ns() >= again_at_ns_) asked_ = source_->ask();
    return Change::kNone;
  }
  Change change = Change::kNone;
  v1::GetInfoResponse info;
  // A musterd that does not answer is for others to complain of.
  const bool answered = asked_->pop(&info);
  if (answered) change = record_.take(info);
  if (answered || asked_->ended()) {
    asked_ = nullptr;
    again_at_ns_ = run_.world.now_ns() + (record_.doubtful() ? kAgainInDoubtNs : kAgainNs);
  }
  return change;
}

}  // namespace muster::deploy::cli
