#include "raft/transport/wire.h"

#include <google/protobuf/io/zero_copy_stream.h>

#include <utility>

#include "muster/v1/raft.pb.h"

namespace muster::raft {
namespace {

// Wire types of protobuf.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kBytes = 2;
constexpr uint32_t kFixed32 = 5;

constexpr size_t kFixed64Size = 1 + 8;  // with a tag of one byte

constexpr size_t varint_size(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

// Field numbers here are all below 16: a tag is one byte. Zero is not sent, as proto3 has it.
constexpr size_t number_size(uint64_t value) {
  return value == 0 ? 0 : 1 + varint_size(value);
}
constexpr size_t block_size(size_t content) {
  return 1 + varint_size(content) + content;
}
constexpr size_t bytes_size(size_t content) {
  return content == 0 ? 0 : block_size(content);
}

class Writer {
 public:
  explicit Writer(size_t expected) { tail_.reserve(expected); }

  void tag(uint32_t field, uint32_t type) { tail_.push_back(static_cast<char>(field << 3 | type)); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) tail_.push_back(static_cast<char>(value | 0x80));
    tail_.push_back(static_cast<char>(value));
  }
  void number(uint32_t field, uint64_t value) {
    if (value == 0) return;
    tag(field, kVarint);
    varint(value);
  }
  template <class T>
  void fixed(uint32_t field, uint32_t type, T value) {
    if (value == 0) return;
    tag(field, type);
    for (size_t i = 0; i < sizeof value; ++i) tail_.push_back(static_cast<char>(value >> (8 * i)));
  }
  // What follows are `size` bytes of the field.
  void open(uint32_t field, size_t size) {
    tag(field, kBytes);
    varint(size);
  }
  void bytes(uint32_t field, std::string_view value) {
    if (value.empty()) return;
    open(field, value.size());
    tail_ += value;
  }
  void shared(uint32_t field, const std::shared_ptr<const std::string>& value) {
    if (value == nullptr || value->empty()) return;
    if (value->size() < kSharedPayloadMin) {
      bytes(field, *value);
      return;
    }
    open(field, value->size());
    flush();
    pieces_.push_back({{}, value});
  }
  void moved(uint32_t field, std::string value) {
    if (value.empty()) return;
    open(field, value.size());
    flush();
    pieces_.push_back({std::move(value), nullptr});
  }
  Pieces take() {
    flush();
    return std::move(pieces_);
  }

 private:
  void flush() {
    if (tail_.empty()) return;
    pieces_.push_back({std::exchange(tail_, {}), nullptr});
  }

  Pieces pieces_;
  std::string tail_;
};

size_t hello_size(const Hello& hello) {
  return bytes_size(hello.cluster_id.size()) + (hello.from ? kFixed64Size : 0) +
         (hello.to ? kFixed64Size : 0) + bytes_size(hello.address.size());
}

void write_hello(Writer& out, uint32_t field, const Hello& hello) {
  out.open(field, hello_size(hello));
  out.bytes(1, hello.cluster_id);
  out.fixed(2, kFixed64, hello.from.value);
  out.fixed(3, kFixed64, hello.to.value);
  out.bytes(4, hello.address);
}

size_t entry_size(const Entry& entry) {
  return number_size(entry.index) + number_size(entry.term) +
         number_size(static_cast<uint64_t>(entry.kind)) + bytes_size(entry.bytes().size());
}

// The sizes of a message's blocks, needed before its bytes.
struct MessageSize {
  size_t total = 0;
  size_t mark = 0;
  std::string members;  // encoded
};

MessageSize measure(const Message& m) {
  MessageSize size;
  size.total = number_size(static_cast<uint64_t>(m.kind)) + number_size(m.term) +
               number_size(m.prev_index) + number_size(m.prev_term) + number_size(m.commit) +
               number_size(m.index) + number_size(m.hint_term) + number_size(m.reject ? 1 : 0) +
               number_size(m.transfer ? 1 : 0) + number_size(m.read_round);
  for (const Entry& entry : m.entries) size.total += block_size(entry_size(entry));
  if (m.kind == MessageKind::kSnapshot) {
    size.members = encode_members(m.snapshot.members);
    size.mark = number_size(m.snapshot.index) + number_size(m.snapshot.term) +
                bytes_size(size.members.size());
    size.total += block_size(size.mark);
  }
  return size;
}

void write_message(Writer& out, uint32_t field, const Message& m, const MessageSize& size) {
  out.open(field, size.total);
  out.number(1, static_cast<uint64_t>(m.kind));
  out.number(2, m.term);
  out.number(3, m.prev_index);
  out.number(4, m.prev_term);
  for (const Entry& entry : m.entries) {
    out.open(5, entry_size(entry));
    out.number(1, entry.index);
    out.number(2, entry.term);
    out.number(3, static_cast<uint64_t>(entry.kind));
    out.shared(4, entry.payload);
  }
  out.number(6, m.commit);
  out.number(7, m.index);
  out.number(8, m.hint_term);
  out.number(9, m.reject ? 1 : 0);
  out.number(10, m.transfer ? 1 : 0);
  out.number(11, m.read_round);
  if (m.kind == MessageKind::kSnapshot) {
    out.open(12, size.mark);
    out.number(1, m.snapshot.index);
    out.number(2, m.snapshot.term);
    out.bytes(3, size.members);
  }
}

// Bytes of a frame that are copied; shared ones leave the buffer short of its reserve.
size_t copied(const std::vector<Message>& messages) {
  size_t total = 0;
  for (const Message& m : messages) {
    total += 96;
    for (const Entry& entry : m.entries) {
      total += 32 + (entry.bytes().size() < kSharedPayloadMin ? entry.bytes().size() : 0);
    }
  }
  return total;
}

Hello read_hello(v1::RaftHello& in) {
  Hello hello;
  hello.cluster_id = std::move(*in.mutable_cluster_id());
  hello.from.value = in.from();
  hello.to.value = in.to();
  hello.address = std::move(*in.mutable_address());
  return hello;
}

// False when the message is none of ours.
bool read_message(v1::RaftMessage& in, const Hello& stream, Message& out) {
  if (in.kind() > static_cast<uint32_t>(MessageKind::kTimeoutNow)) return false;
  out.kind = static_cast<MessageKind>(in.kind());
  out.from = stream.from;
  out.to = stream.to;
  out.term = in.term();
  out.prev_index = in.prev_index();
  out.prev_term = in.prev_term();
  out.entries.reserve(static_cast<size_t>(in.entries_size()));
  for (v1::RaftEntry& entry : *in.mutable_entries()) {
    if (entry.kind() > static_cast<uint32_t>(EntryKind::kMembers)) return false;
    Entry& to = out.entries.emplace_back();
    to.index = entry.index();
    to.term = entry.term();
    to.kind = static_cast<EntryKind>(entry.kind());
    if (!entry.payload().empty()) {
      to.payload = std::make_shared<const std::string>(std::move(*entry.mutable_payload()));
    }
  }
  out.commit = in.commit();
  out.index = in.index();
  out.hint_term = in.hint_term();
  out.reject = in.reject();
  out.transfer = in.transfer();
  out.read_round = in.read_round();
  if (in.has_snapshot() != (out.kind == MessageKind::kSnapshot)) return false;
  if (in.has_snapshot()) {
    Result<Members> members = decode_members(in.snapshot().members());
    if (!members || in.snapshot().index() == 0) return false;
    out.snapshot = {in.snapshot().index(), in.snapshot().term(), *std::move(members)};
    if (out.snapshot.term > out.term) return false;
  }
  return well_formed(out);
}

Status not_a(std::string_view what) {
  return invalid_argument("not a {}", what);
}

}  // namespace

Pieces encode_frame(const Hello* hello, const std::vector<Message>& messages, bool goodbye) {
  Writer out(copied(messages) + 128);
  if (hello != nullptr) write_hello(out, 1, *hello);
  for (const Message& message : messages) write_message(out, 2, message, measure(message));
  out.number(3, goodbye ? 1 : 0);
  return out.take();
}

Result<Frame> decode_frame(google::protobuf::io::ZeroCopyInputStream& bytes, const Hello* stream) {
  v1::RaftFrame in;
  if (!in.ParseFromZeroCopyStream(&bytes)) return fail(not_a("RaftFrame"));
  if (in.has_hello() == (stream != nullptr)) {
    return fail(invalid_argument("{}", in.has_hello() ? "a second hello on a lane"
                                                      : "a lane that does not begin with a hello"));
  }
  Frame frame;
  if (in.has_hello()) frame.hello = read_hello(*in.mutable_hello());
  const Hello& hello = stream != nullptr ? *stream : *frame.hello;
  frame.goodbye = in.goodbye();
  frame.messages.reserve(static_cast<size_t>(in.messages_size()));
  for (v1::RaftMessage& message : *in.mutable_messages()) {
    Message out;
    // Snapshots have a call of their own, with the body.
    if (read_message(message, hello, out) && out.kind != MessageKind::kSnapshot) {
      frame.messages.push_back(std::move(out));
    } else {
      ++frame.malformed;
    }
  }
  return frame;
}

Pieces encode_part(SnapshotPart part) {
  Writer out(512);
  if (part.hello) write_hello(out, 1, *part.hello);
  if (part.message) write_message(out, 2, *part.message, measure(*part.message));
  out.number(3, part.offset);
  out.moved(4, std::move(part.data));
  out.fixed(5, kFixed32, part.crc);
  out.number(6, part.last ? 1 : 0);
  return out.take();
}

Result<SnapshotPart> decode_part(google::protobuf::io::ZeroCopyInputStream& bytes, bool first) {
  v1::RaftSnapshotPart in;
  if (!in.ParseFromZeroCopyStream(&bytes)) return fail(not_a("RaftSnapshotPart"));
  if (in.has_hello() != first || in.has_message() != first) {
    return fail(invalid_argument("{}", first
                                           ? "a snapshot that does not begin with hello and message"
                                           : "a second beginning of a snapshot"));
  }
  SnapshotPart part;
  if (first) {
    part.hello = read_hello(*in.mutable_hello());
    Message message;
    if (!read_message(*in.mutable_message(), *part.hello, message) ||
        message.kind != MessageKind::kSnapshot) {
      return fail(invalid_argument("a snapshot with a message that announces none"));
    }
    part.message = std::move(message);
  }
  part.offset = in.offset();
  part.data = std::move(*in.mutable_data());
  part.crc = in.crc32c();
  part.last = in.last();
  return part;
}

std::string encode_notice(const Notice& notice) {
  v1::RaftNotice out;
  switch (notice.kind) {
    case NoticeKind::kReady: out.set_kind(v1::RaftNotice::READY); break;
    case NoticeKind::kGoodbye: out.set_kind(v1::RaftNotice::GOODBYE); break;
    case NoticeKind::kRemoved: out.set_kind(v1::RaftNotice::REMOVED); break;
    case NoticeKind::kWrongCluster: out.set_kind(v1::RaftNotice::WRONG_CLUSTER); break;
    case NoticeKind::kWrongMember: out.set_kind(v1::RaftNotice::WRONG_MEMBER); break;
  }
  out.set_message(notice.message);
  return out.SerializeAsString();
}

Result<std::optional<Notice>> decode_notice(google::protobuf::io::ZeroCopyInputStream& bytes) {
  v1::RaftNotice in;
  if (!in.ParseFromZeroCopyStream(&bytes)) return fail(not_a("RaftNotice"));
  Notice notice;
  notice.message = in.message();
  switch (in.kind()) {
    case v1::RaftNotice::READY: notice.kind = NoticeKind::kReady; break;
    case v1::RaftNotice::GOODBYE: notice.kind = NoticeKind::kGoodbye; break;
    case v1::RaftNotice::REMOVED: notice.kind = NoticeKind::kRemoved; break;
    case v1::RaftNotice::WRONG_CLUSTER: notice.kind = NoticeKind::kWrongCluster; break;
    case v1::RaftNotice::WRONG_MEMBER: notice.kind = NoticeKind::kWrongMember; break;
    default: return std::optional<Notice>();
  }
  return std::optional<Notice>(std::move(notice));
}

}  // namespace muster::raft
