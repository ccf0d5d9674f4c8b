#include "raft/transport/grpc/inbound.h"

#include <algorithm>
#include <utility>

namespace muster::raft {
namespace {

// Two lanes and a snapshot are in use; connections that broke unnoticed may be left of before.
constexpr std::ptrdiff_t kCallsMax = 8;  // of one member
constexpr size_t kComplaintsMax = 64;

}  // namespace

bool Inbound::is_removed(MemberId id) const {
  return core_->options.removed != nullptr && core_->options.removed(id);
}

Admission Inbound::admit(const Hello& hello, const security::Principal& caller) {
  const std::shared_ptr<const Members> members = core_->members();
  AdmissionView view;
  view.cluster_id = core_->options.cluster_id;
  view.self = core_->options.self;
  view.members = members.get();
  view.removed = members->find(hello.from) == nullptr && is_removed(hello.from);
  Admission admission = raft::admit(view, hello, caller);
  if (admission.stranger && !core_->meet_stranger(hello.from, hello.address)) {
    admission = {Verdict::kRefused, false, "too many managers that are not members"};
  }
  std::lock_guard lock(mutex_);
  if (admission.verdict == Verdict::kAccept) {
    complaints_.erase(hello.from);
    return admission;
  }
  if (complaints_.size() >= kComplaintsMax) complaints_.clear();
  std::string& last = complaints_[hello.from];
  if (last != admission.why) {
    last = admission.why;
    core_->log->warn("member {:x} (node {}) was refused: {}", hello.from.value, caller.node_id,
                     admission.why);
  }
  return admission;
}

bool Inbound::enter(MemberId from, std::shared_ptr<InboundCall> call) {
  std::shared_ptr<InboundCall> oldest;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    const auto of_caller = [&](const Entry& entry) { return entry.from == from; };
    if (std::count_if(calls_.begin(), calls_.end(), of_caller) >= kCallsMax) {
      const auto found = std::find_if(calls_.begin(), calls_.end(), of_caller);
      oldest = std::move(found->call);
      calls_.erase(found);
    }
    calls_.push_back({from, std::move(call)});
  }
  if (oldest != nullptr) oldest->cancel();
  return true;
}

void Inbound::leave(const std::shared_ptr<InboundCall>& call) {
  std::lock_guard lock(mutex_);
  std::erase_if(calls_, [&](const Entry& entry) { return entry.call == call; });
}

bool Inbound::begin_snapshot(MemberId from, Term term, std::shared_ptr<InboundCall> call) {
  std::shared_ptr<InboundCall> former;
  {
    std::lock_guard lock(mutex_);
    former = snapshot_.lock();
    if (former != nullptr &&
        (term < snapshot_term_ || (term == snapshot_term_ && from != snapshot_from_))) {
      return false;
    }
    snapshot_ = std::move(call);
    snapshot_from_ = from;
    snapshot_term_ = term;
  }
  if (former != nullptr) {
    former->part(std::nullopt, {grpc::StatusCode::ABORTED, "another snapshot took its place"});
  }
  return true;
}

std::vector<Inbound::Entry> Inbound::entries() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

void Inbound::members_changed(const Members& former) {
  const std::shared_ptr<const Members> members = core_->members();
  for (const Entry& entry : entries()) {
    if (members->find(entry.from) != nullptr) continue;
    if (is_removed(entry.from)) {
      const std::string why =
          fmt::format("member {:x} was removed from the group", entry.from.value);
      entry.call->part(Notice{NoticeKind::kRemoved, why},
                       {grpc::StatusCode::FAILED_PRECONDITION, why});
    } else if (former.find(entry.from) != nullptr) {
      // It may come again, as somebody this list does not have.
      entry.call->cancel();
    }
  }
}

void Inbound::say_goodbye() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const grpc::Status status(grpc::StatusCode::OK, "");
  for (const Entry& entry : entries()) {
    entry.call->part(Notice{NoticeKind::kGoodbye, "the process ends"}, status);
  }
}

void Inbound::cancel() {
  for (const Entry& entry : entries()) entry.call->cancel();
}

}  // namespace muster::raft
