// Any bytes as what another manager sends: a lane's first frame, a later one, a snapshot's parts, a
// notice. What is taken must be a message the protocol can have, and come back from its own bytes.

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <cstdint>
#include <string>

#include "raft/transport/wire.h"

namespace {

using namespace muster;        // NOLINT: a program of one file
using namespace muster::raft;  // NOLINT

const Hello kStream{"cluster", {1}, {2}, "10.0.0.1:2377"};

google::protobuf::io::ArrayInputStream stream_of(const void* data, size_t size) {
  return {data, static_cast<int>(size)};
}

std::string joined(const Pieces& pieces) {
  std::string bytes;
  for (const Piece& piece : pieces) bytes += piece.bytes();
  return bytes;
}

void check(const Message& message) {
  if (!well_formed(message) || message.kind > MessageKind::kTimeoutNow) __builtin_trap();
}

void frame(const uint8_t* data, size_t size, const Hello* stream) {
  auto in = stream_of(data, size);
  const Result<Frame> got = decode_frame(in, stream);
  if (!got) return;
  for (const Message& message : got->messages) check(message);
  const std::string again =
      joined(encode_frame(got->hello ? &*got->hello : nullptr, got->messages, got->goodbye));
  auto second = stream_of(again.data(), again.size());
  const Result<Frame> back = decode_frame(second, stream);
  if (!back || back->messages != got->messages || back->goodbye != got->goodbye ||
      back->hello != got->hello || back->malformed != 0) {
    __builtin_trap();
  }
}

void part(const uint8_t* data, size_t size, bool first) {
  auto in = stream_of(data, size);
  Result<SnapshotPart> got = decode_part(in, first);
  if (!got) return;
  if (got->message) check(*got->message);
  const std::string data_sent = got->data;
  const auto message = got->message;
  const std::string again = joined(encode_part(*std::move(got)));
  auto second = stream_of(again.data(), again.size());
  const Result<SnapshotPart> back = decode_part(second, first);
  if (!back || back->data != data_sent || back->message != message) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // The first byte says what it is, so that what is found in one helps in the others.
  const uint8_t what = *data++ % 5;
  --size;
  switch (what) {
    case 0: frame(data, size, nullptr); break;
    case 1: frame(data, size, &kStream); break;
    case 2: part(data, size, true); break;
    case 3: part(data, size, false); break;
    default: {
      auto in = stream_of(data, size);
      (void)decode_notice(in);
      break;
    }
  }
  return 0;
}
