#pragma once

#include <grpcpp/support/status.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "raft/transport/admission.h"
#include "raft/transport/grpc/transport_core.h"

namespace muster::raft {

// A call from another member, as this member's side ends it. Thread-safe; without effect when the
// call is over.
class InboundCall {
 public:
  virtual ~InboundCall() = default;
  // Tells the caller why, where the call has words for it, and ends.
  virtual void part(const std::optional<Notice>& notice, const grpc::Status& status) = 0;
  // Now, whatever is still on its way.
  virtual void cancel() = 0;
};

// Who calls this member: lets callers in, keeps their calls, ends them. Thread-safe.
class Inbound {
 public:
  explicit Inbound(std::shared_ptr<TransportCore> core) : core_(std::move(core)) {}

  const std::shared_ptr<TransportCore>& core() const { return core_; }

  // Judges a caller, and says in the log what is wrong, once.
  Admission admit(const Hello& hello, const security::Principal& caller);
  // Keeps the call until leave(). False: this member is stopping.
  bool enter(MemberId from, std::shared_ptr<InboundCall> call);
  void leave(const std::shared_ptr<InboundCall>& call);

  // A snapshot begins: one at a time. A newer leader's, and the same one's next attempt, take the
  // place of what was under way; false: this one is older.
  bool begin_snapshot(MemberId from, Term term, std::shared_ptr<InboundCall> call);

  // Work strand: ends the calls of those who are no members any more.
  void members_changed(const Members& former);
  // No more calls; everybody is told that this process ends.
  void say_goodbye();
  void cancel();

 private:
  struct Entry {
    MemberId from;
    std::shared_ptr<InboundCall> call;
  };
  std::vector<Entry> entries() const;
  bool is_removed(MemberId id) const;

  const std::shared_ptr<TransportCore> core_;
  mutable std::mutex mutex_;
  bool stopping_ = false;
  std::vector<Entry> calls_;  // in the order of their coming
  std::weak_ptr<InboundCall> snapshot_;
  MemberId snapshot_from_;
  Term snapshot_term_ = 0;
  std::map<MemberId, std::string> complaints_;
};

}  // namespace muster::raft
