#include "raft/transport/grpc/inbound.h"

#include <algorithm>
#include <set>
#include <utility>

namespace muster::raft {
namespace {

// Two lanes and a snapshot are in use; connections that broke unnoticed may be left of before.
constexpr std::ptrdiff_t kCallsMax = 8;  // of one node, whatever members it says it is
// Members at once that are not in the list; more than a group has.
constexpr size_t kStrangersMax = 32;
constexpr size_t kComplaintsMax = 64;

}  // namespace

grpc::Status refusal_status(const Admission& admission) {
  switch (admission.verdict) {
    case Verdict::kAccept: return grpc::Status::OK;
    case Verdict::kRefused: return {grpc::StatusCode::PERMISSION_DENIED, admission.why};
    case Verdict::kWrongCluster:
    case Verdict::kWrongMember:
    case Verdict::kRemoved: return {grpc::StatusCode::FAILED_PRECONDITION, admission.why};
    case Verdict::kStopping: break;
  }
  return {grpc::StatusCode::UNAVAILABLE, admission.why};
}

std::optional<Notice> refusal_notice(const Admission& admission) {
  switch (admission.verdict) {
    case Verdict::kAccept:
    case Verdict::kRefused: return std::nullopt;
    case Verdict::kWrongCluster: return Notice{NoticeKind::kWrongCluster, admission.why};
    case Verdict::kWrongMember: return Notice{NoticeKind::kWrongMember, admission.why};
    case Verdict::kRemoved: return Notice{NoticeKind::kRemoved, admission.why};
    case Verdict::kStopping: break;
  }
  return Notice{NoticeKind::kGoodbye, admission.why};
}

AdmissionView Inbound::view_of(const Members& members, MemberId from,
                               const std::string& node_id) const {
  const GrpcTransportOptions& options = core_->options;
  AdmissionView view;
  view.cluster_id = options.cluster_id;
  view.self = options.self;
  view.members = &members;
  view.node_removed = options.node_removed != nullptr && options.node_removed(node_id);
  view.removed =
      members.find(from) == nullptr && options.removed != nullptr && options.removed(from);
  return view;
}

Admission Inbound::let_in(const Hello& hello, const security::Principal& caller,
                          std::shared_ptr<InboundCall> call) {
  std::shared_ptr<const Members> members = core_->members();
  Admission admission = admit(view_of(*members, hello.from, caller.node_id), hello, caller);
  if (admission.verdict == Verdict::kAccept) {
    admission = enter({hello.from, caller.node_id, hello.address, std::move(call)},
                      admission.stranger, *members);
  }
  if (admission.verdict == Verdict::kAccept) {
    // What changed meanwhile has not seen the call.
    members = core_->members();
    admission = judge(view_of(*members, hello.from, caller.node_id), hello.from, caller.node_id);
  }
  complain(admission, hello.from, caller.node_id);
  return admission;
}

void Inbound::complain(const Admission& admission, MemberId from, const std::string& node_id) {
  std::lock_guard lock(mutex_);
  if (admission.verdict == Verdict::kAccept) {
    complaints_.erase(from);
    return;
  }
  if (admission.verdict == Verdict::kStopping) return;
  if (complaints_.size() >= kComplaintsMax) complaints_.clear();
  std::string& last = complaints_[from];
  if (last == admission.why) return;
  last = admission.why;
  core_->log->warn("member {:x} (node {}) was refused: {}", from.value, node_id, admission.why);
}

// With the lock held. `leaving`: a call that makes room for it; null: none does.
bool Inbound::crowded(const Entry& stranger, const InboundCall* leaving,
                      const Members& members) const {
  std::set<MemberId> others;
  for (const Entry& entry : calls_) {
    if (entry.call.get() == leaving) continue;
    if (members.find(entry.from) == nullptr) others.insert(entry.from);
  }
  return others.size() >= kStrangersMax && !others.contains(stranger.from);
}

Admission Inbound::enter(Entry entry, bool stranger, const Members& members) {
  std::optional<Entry> oldest;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return {Verdict::kStopping, false, "the process ends"};
    const auto of_caller = [&](const Entry& other) { return other.node_id == entry.node_id; };
    const bool full = std::count_if(calls_.begin(), calls_.end(), of_caller) >= kCallsMax;
    const auto first = full ? std::find_if(calls_.begin(), calls_.end(), of_caller) : calls_.end();
    // Nobody gives way to one that is not let in.
    if (stranger && crowded(entry, full ? first->call.get() : nullptr, members)) {
      return {Verdict::kRefused, false, "too many managers that are not members"};
    }
    if (full) {
      oldest = std::move(*first);
      calls_.erase(first);
    }
    calls_.push_back(std::move(entry));
  }
  if (oldest) {
    oldest->call->cancel();
    left(oldest->from);
  }
  return {};
}

void Inbound::leave(const std::shared_ptr<InboundCall>& call) {
  MemberId from;
  {
    std::lock_guard lock(mutex_);
    const auto found = std::find_if(calls_.begin(), calls_.end(),
                                    [&](const Entry& entry) { return entry.call == call; });
    if (found == calls_.end()) return;
    from = found->from;
    calls_.erase(found);
  }
  left(from);
}

// Strangers are known for as long as they call.
void Inbound::left(MemberId id) {
  if (core_->knows(id)) return;
  peers_->forget(id);
  core_->retire(id);
}

const Inbound::Entry* Inbound::entry_of(MemberId id) const {
  const auto found = std::find_if(calls_.rbegin(), calls_.rend(),
                                  [&](const Entry& entry) { return entry.from == id; });
  return found == calls_.rend() ? nullptr : &*found;
}

std::string Inbound::address_of(MemberId id) const {
  std::lock_guard lock(mutex_);
  const Entry* entry = entry_of(id);
  return entry == nullptr ? std::string() : entry->address;
}

std::string Inbound::node_of(MemberId id) const {
  std::lock_guard lock(mutex_);
  const Entry* entry = entry_of(id);
  return entry == nullptr ? std::string() : entry->node_id;
}

bool Inbound::begin_snapshot(MemberId from, Term term, std::shared_ptr<InboundSnapshot> call) {
  std::shared_ptr<InboundSnapshot> former;
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
  if (former != nullptr) former->give_way();
  return true;
}

std::vector<Inbound::Entry> Inbound::entries() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

void Inbound::members_changed(const Members& former) {
  const std::shared_ptr<const Members> members = core_->members();
  for (const Entry& entry : entries()) {
    const Admission admission =
        judge(view_of(*members, entry.from, entry.node_id), entry.from, entry.node_id);
    if (admission.verdict != Verdict::kAccept) {
      complain(admission, entry.from, entry.node_id);
      entry.call->part(refusal_notice(admission), refusal_status(admission));
    } else if (admission.stranger && former.find(entry.from) != nullptr) {
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
