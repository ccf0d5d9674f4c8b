#pragma once

#include <grpcpp/support/status.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "raft/transport/admission.h"
#include "raft/transport/grpc/peers.h"
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

// A snapshot that another member sends.
class InboundSnapshot : public InboundCall {
 public:
  // Disk thread. Another snapshot takes its place: what there is of it is gone on return.
  virtual void give_way() = 0;
};

// What a caller hears that is not let in.
grpc::Status refusal_status(const Admission& admission);
std::optional<Notice> refusal_notice(const Admission& admission);

// Who calls this member: lets callers in, keeps their calls, ends them. Thread-safe.
class Inbound {
 public:
  Inbound(std::shared_ptr<TransportCore> core, std::shared_ptr<Peers> peers)
      : core_(std::move(core)), peers_(std::move(peers)) {}

  const std::shared_ptr<TransportCore>& core() const { return core_; }

  // Judges a caller, and says in the log what is wrong, once. A call that is let in is kept until
  // leave(), and judged again whenever that may come to something else.
  Admission let_in(const Hello& hello, const security::Principal& caller,
                   std::shared_ptr<InboundCall> call);
  void leave(const std::shared_ptr<InboundCall>& call);

  // What a caller said of itself that has an open call; empty when it has none.
  std::string address_of(MemberId id) const;
  std::string node_of(MemberId id) const;

  // Disk thread. A snapshot begins: one at a time. A newer leader's, and the same one's next
  // attempt, take the place of what was under way; false: this one is older.
  bool begin_snapshot(MemberId from, Term term, std::shared_ptr<InboundSnapshot> call);

  // Work strand. The list, or who was removed, is another: ends the calls of those who may not
  // speak any more, and of those who were in the list before.
  void members_changed(const Members& former);
  // No more calls; everybody is told that this process ends.
  void say_goodbye();
  void cancel();

 private:
  struct Entry {
    MemberId from;
    std::string node_id;
    std::string address;  // as its hello says
    std::shared_ptr<InboundCall> call;
  };
  std::vector<Entry> entries() const;
  const Entry* entry_of(MemberId id) const;
  AdmissionView view_of(const Members& members, MemberId from, const std::string& node_id) const;
  Admission enter(Entry entry, bool stranger, const Members& members);
  bool crowded(const Entry& stranger, const InboundCall* leaving, const Members& members) const;
  void left(MemberId id);
  void complain(const Admission& admission, MemberId from, const std::string& node_id);

  const std::shared_ptr<TransportCore> core_;
  const std::shared_ptr<Peers> peers_;
  mutable std::mutex mutex_;
  bool stopping_ = false;
  std::vector<Entry> calls_;  // in the order of their coming
  std::weak_ptr<InboundSnapshot> snapshot_;
  MemberId snapshot_from_;
  Term snapshot_term_ = 0;
  std::map<MemberId, std::string> complaints_;
};

}  // namespace muster::raft
