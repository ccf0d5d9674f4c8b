#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "raft/core/message.h"
#include "raft/core/types.h"

namespace muster::raft {

// A snapshot's bytes on their way out, as they lie on the disk of this member after decryption.
// Read on the transport's thread, one reader.
class SnapshotReader {
 public:
  virtual ~SnapshotReader() = default;
  // The next piece; empty at the end.
  virtual Result<std::string> next() = 0;
};

// A snapshot's bytes on their way in. Written on the transport's thread, one writer. Destroyed
// without finish(): the snapshot is forgotten.
class SnapshotWriter {
 public:
  virtual ~SnapshotWriter() = default;
  virtual Status write(std::string_view piece) = 0;
  // All of it arrived. The message that announced it is to be stepped only after this returned OK.
  virtual Status finish() = 0;
};

// What a transport tells its driver. Called on any thread; must not block.
class TransportEvents {
 public:
  virtual ~TransportEvents() = default;
  // Well-formed, from a member with a certificate for the id it claims, to this one.
  virtual void received(Message message) = 0;
  // Messages to `peer` were lost.
  virtual void unreachable(MemberId peer) = 0;
  // The process of `peer` is gone: its stream ended without a goodbye and connecting again was
  // refused or reset at once. A time-out, a GOAWAY or a TLS error is no such sign.
  virtual void vanished(MemberId peer) = 0;
  // A member that announced its end: it is no sign of trouble that its streams close.
  virtual void said_goodbye(MemberId peer) = 0;
  // Another member says that this one was removed, for good.
  virtual void removed() = 0;
  // Where an arriving snapshot goes; RESOURCE_EXHAUSTED and others refuse it. Called on a thread
  // that may block for the disk.
  virtual Result<std::unique_ptr<SnapshotWriter>> snapshot_arrives(const Message& announcement) = 0;
  // How sending one ended; not OK: the core is to be told snapshot_failed().
  virtual void snapshot_sent(MemberId to, const Status& status) = 0;
};

// Carries messages between members; may lose them and never blocks. Calls come from the driver's
// strand. Real: gRPC (grpc_transport.h); simulated: the test's network.
class Transport {
 public:
  virtual ~Transport() = default;

  // Whom there is, with addresses; replaces what was said before. Streams to those who are not
  // listed any more are ended, and what they send is answered with "removed".
  virtual void set_members(const Members& members) = 0;
  virtual void send(Message message) = 0;
  // `message` is of kind kSnapshot; `body` the snapshot it names. One at a time for each member.
  virtual void send_snapshot(Message message, std::unique_ptr<SnapshotReader> body) = 0;
  // Tells everybody that this process ends by intent, and stops. No event comes after it returned.
  virtual void stop() = 0;
};

}  // namespace muster::raft
