#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "raft/core/message.h"

namespace google::protobuf::io {
class ZeroCopyInputStream;
}

namespace muster::raft {

// The bytes of muster/v1/raft.proto. Written by hand, so that a payload goes from the log to the
// socket with at most one copy, and none when it is large; read with protobuf, checked, and handed
// on with the payloads moved. Pure.

// What begins every stream.
struct Hello {
  std::string cluster_id;
  MemberId from;
  MemberId to;
  std::string address;  // of `from`

  friend bool operator==(const Hello&, const Hello&) = default;
};

// A part of what is sent: bytes of our own, or a payload that is shared with the log.
struct Piece {
  std::string own;
  std::shared_ptr<const std::string> shared;

  std::string_view bytes() const { return shared ? std::string_view(*shared) : own; }
};
using Pieces = std::vector<Piece>;

// Payloads from this size on are sent from where they lie; for smaller ones a copy is cheaper than
// a slice of their own.
inline constexpr size_t kSharedPayloadMin = 4096;

// `hello` may be null. The messages' senders and receivers are the hello's.
Pieces encode_frame(const Hello* hello, const std::vector<Message>& messages, bool goodbye);

struct Frame {
  std::optional<Hello> hello;
  std::vector<Message> messages;
  size_t malformed = 0;  // messages that were dropped
  bool goodbye = false;
};
// `stream` is the hello that began the stream, or null for its first frame, which must bring one.
// INVALID_ARGUMENT: not to be answered but by ending the stream. A message that cannot be is
// dropped and counted.
Result<Frame> decode_frame(google::protobuf::io::ZeroCopyInputStream& bytes, const Hello* stream);

// A snapshot's part. The first one brings hello and message; the last one may be empty.
struct SnapshotPart {
  std::optional<Hello> hello;
  std::optional<Message> message;
  uint64_t offset = 0;
  std::string data;
  uint32_t crc = 0;
  bool last = false;
};
Pieces encode_part(SnapshotPart part);
Result<SnapshotPart> decode_part(google::protobuf::io::ZeroCopyInputStream& bytes, bool first);

// What the answering side of a lane says.
enum class NoticeKind : uint8_t { kReady, kGoodbye, kRemoved, kWrongCluster, kWrongMember };
struct Notice {
  NoticeKind kind = NoticeKind::kReady;
  std::string message;
};
std::string encode_notice(const Notice& notice);
// Empty for a kind of a later version, which is to be passed over.
Result<std::optional<Notice>> decode_notice(google::protobuf::io::ZeroCopyInputStream& bytes);

}  // namespace muster::raft
