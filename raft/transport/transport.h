#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "raft/core/message.h"
#include "raft/core/types.h"

namespace muster::raft {

// A snapshot's bytes on their way out, as they lie on the disk of this member after decryption.
// Read and destroyed on one thread of the transport's, which may block for the disk.
class SnapshotReader {
 public:
  virtual ~SnapshotReader() = default;
  // The next piece; empty at the end.
  virtual Result<std::string> next() = 0;
};

// A snapshot's bytes on their way in. Written and destroyed on one thread of the transport's, which
// may block for the disk. Destroyed without finish(): the snapshot is forgotten.
class SnapshotWriter {
 public:
  virtual ~SnapshotWriter() = default;
  virtual Status write(std::string_view piece) = 0;
  // All of it arrived. Once this returned OK the transport tells received() of the message that
  // announced it, and not before.
  virtual Status finish() = 0;
};

// What a transport tells its driver, on threads of the transport's; must not block. Never from
// inside a call to the transport, while the transport may be called from inside of any of these.
class TransportEvents {
 public:
  virtual ~TransportEvents() = default;
  // Well-formed, from a member with a certificate for the id it claims, to this one.
  virtual void received(Message message) = 0;
  // Messages to `peer` were lost; told once for many.
  virtual void unreachable(MemberId peer) = 0;
  // The process of `peer` is gone: its stream ended without a goodbye and connecting again was
  // refused or reset at once. A time-out, a GOAWAY or a TLS error is no such sign.
  virtual void vanished(MemberId peer) = 0;
  // A member that announced its end: it is no sign of trouble that its streams close.
  virtual void said_goodbye(MemberId peer) = 0;
  // Member `by` says that this one was removed, for good. Told again for as long as it says so.
  virtual void removed(MemberId by) = 0;
  // Where an arriving snapshot goes; RESOURCE_EXHAUSTED and others refuse it. Called on the thread
  // that writes it, which may block for the disk, but not for whoever calls stop().
  virtual Result<std::unique_ptr<SnapshotWriter>> snapshot_arrives(const Message& announcement) = 0;
  // How sending one ended; not OK: the core is to be told snapshot_failed(). Nothing is told of one
  // that a newer one to the same member replaced.
  virtual void snapshot_sent(MemberId to, const Status& status) = 0;
};

// Carries messages between members; may lose them and never blocks. Calls come one at a time, on
// any thread, also from inside of events. Real: gRPC (grpc/grpc_transport.h); simulated: the test's
// network.
class Transport {
 public:
  virtual ~Transport() = default;

  // Whom there is, with addresses; replaces what was said before. Streams from and to those who are
  // not listed any more are ended, those to changed addresses begun anew. Who is not listed is not
  // thereby refused: a list may be too old to have heard of a member. Who was removed for good and
  // is to be told so is the owner's to say (GrpcTransportOptions::removed).
  virtual void set_members(const Members& members) = 0;
  // Queues it; it leaves with the next flush().
  virtual void send(Message message) = 0;
  // Writes what is queued, on the caller's thread, which therefore should hold no lock that events
  // take. Any thread.
  virtual void flush() = 0;
  // `message` is of kind kSnapshot; `body` the snapshot it names. One at a time for each member: a
  // second replaces the first.
  virtual void send_snapshot(Message message, std::unique_ptr<SnapshotReader> body) = 0;
  // Tells everybody that this process ends by intent, and stops: the one call that waits, for half
  // a second at most if peers do not answer. No event comes after it returned; so it must not be
  // called from inside of an event, nor under a lock that events take.
  virtual void stop() = 0;
};

}  // namespace muster::raft
