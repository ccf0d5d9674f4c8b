#include "raft/transport/wire.h"

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"
#include "muster/v1/raft.pb.h"

namespace muster::raft {
namespace {

const Hello kHello{"cluster", {0x1122334455667788}, {7}, "10.0.0.1:2377"};

std::string joined(const Pieces& pieces) {
  std::string bytes;
  for (const Piece& piece : pieces) bytes += piece.bytes();
  return bytes;
}

std::shared_ptr<const std::string> payload(size_t size, char fill = 'x') {
  return std::make_shared<const std::string>(size, fill);
}

// The same frame as protobuf writes it.
v1::RaftMessage to_proto(const Message& m) {
  v1::RaftMessage out;
  out.set_kind(static_cast<uint32_t>(m.kind));
  out.set_term(m.term);
  out.set_prev_index(m.prev_index);
  out.set_prev_term(m.prev_term);
  for (const Entry& entry : m.entries) {
    v1::RaftEntry* to = out.add_entries();
    to->set_index(entry.index);
    to->set_term(entry.term);
    to->set_kind(static_cast<uint32_t>(entry.kind));
    to->set_payload(std::string(entry.bytes()));
  }
  out.set_commit(m.commit);
  out.set_index(m.index);
  out.set_hint_term(m.hint_term);
  out.set_reject(m.reject);
  out.set_transfer(m.transfer);
  out.set_read_round(m.read_round);
  if (m.kind == MessageKind::kSnapshot) {
    out.mutable_snapshot()->set_index(m.snapshot.index);
    out.mutable_snapshot()->set_term(m.snapshot.term);
    out.mutable_snapshot()->set_members(encode_members(m.snapshot.members));
  }
  return out;
}

void fill(v1::RaftHello& out, const Hello& hello) {
  out.set_cluster_id(hello.cluster_id);
  out.set_from(hello.from.value);
  out.set_to(hello.to.value);
  out.set_address(hello.address);
}

Members some_members() {
  Members members;
  members.put({{7}, "n7", "10.0.0.7:2377", true, false});
  members.put({{9}, "n9", "10.0.0.9:2377", false, false});
  return members;
}

Message random_message(Rng& rng) {
  Message m;
  m.from = kHello.from;
  m.to = kHello.to;
  m.kind = static_cast<MessageKind>(rng.below(10));
  if (m.kind == MessageKind::kSnapshot) m.kind = MessageKind::kVote;
  const auto number = [&] { return rng.below(2) == 0 ? 0 : rng.next() >> rng.below(64); };
  m.term = 100 + rng.below(1000);
  m.prev_index = rng.below(1 << 20);
  m.prev_term = rng.below(50);
  if (m.kind == MessageKind::kAppend) {
    const uint64_t count = rng.below(4);
    for (uint64_t i = 0; i < count; ++i) {
      m.entries.push_back({m.prev_index + 1 + i, 60 + i, EntryKind::kData,
                           rng.below(4) == 0 ? nullptr : payload(1 + rng.below(9000), 'y')});
    }
  }
  m.commit = number();
  m.index = number();
  m.hint_term = number();
  m.reject = rng.below(2) == 0;
  m.transfer = rng.below(2) == 0;
  m.read_round = number();
  return m;
}

Result<Frame> decode(const std::string& bytes, const Hello* stream = nullptr) {
  google::protobuf::io::ArrayInputStream in(bytes.data(), static_cast<int>(bytes.size()));
  return decode_frame(in, stream);
}

// A frame of one message that protobuf wrote, for messages that our own side cannot make.
Result<Frame> decode(const v1::RaftMessage& message) {
  v1::RaftFrame frame;
  *frame.add_messages() = message;
  return decode(frame.SerializeAsString(), &kHello);
}

TEST(Wire, FramesAreByteForByteWhatProtobufWrites) {
  SeededRng rng(1);
  for (int round = 0; round < 500; ++round) {
    std::vector<Message> messages;
    v1::RaftFrame expected;
    const bool greets = rng.below(2) == 0;
    if (greets) fill(*expected.mutable_hello(), kHello);
    for (uint64_t i = rng.below(5); i > 0; --i) {
      messages.push_back(random_message(rng));
      *expected.add_messages() = to_proto(messages.back());
    }
    const bool goodbye = rng.below(2) == 0;
    expected.set_goodbye(goodbye);
    const std::string bytes = joined(encode_frame(greets ? &kHello : nullptr, messages, goodbye));
    ASSERT_EQ(bytes, expected.SerializeAsString());

    const Result<Frame> frame = decode(bytes, greets ? nullptr : &kHello);
    ASSERT_TRUE(frame) << frame.error().to_string();
    ASSERT_EQ(frame->messages, messages);
    ASSERT_EQ(frame->malformed, 0U);
    ASSERT_EQ(frame->goodbye, goodbye);
    ASSERT_EQ(frame->hello.has_value(), greets);
    if (greets) {
      ASSERT_EQ(*frame->hello, kHello);
    }
  }
}

TEST(Wire, LargePayloadsAreSentFromWhereTheyLie) {
  Message m;
  m.kind = MessageKind::kAppend;
  m.from = kHello.from;
  m.to = kHello.to;
  m.term = 2;
  m.entries = {{1, 2, EntryKind::kData, payload(100'000)}, {2, 2, EntryKind::kData, payload(10)}};
  const Pieces pieces = encode_frame(nullptr, {m}, false);
  ASSERT_EQ(pieces.size(), 3U);
  EXPECT_EQ(pieces[1].shared, m.entries[0].payload);
  EXPECT_EQ(joined(pieces).size(), to_proto(m).ByteSizeLong() + 4);  // tag and length of 3 bytes
}

TEST(Wire, ALaneBeginsWithOneHello) {
  const std::string with = joined(encode_frame(&kHello, {}, false));
  const std::string without = joined(encode_frame(nullptr, {}, true));
  EXPECT_TRUE(decode(with));
  EXPECT_FALSE(decode(without));
  EXPECT_TRUE(decode(without, &kHello));
  EXPECT_FALSE(decode(with, &kHello));
  EXPECT_FALSE(decode("\x0a\xff"));
}

TEST(Wire, MessagesThatCannotBeAreDroppedAndCounted) {
  Message good;
  good.kind = MessageKind::kAppend;
  good.from = kHello.from;
  good.to = kHello.to;
  good.term = 5;
  good.prev_index = 3;
  good.prev_term = 2;
  good.entries = {{4, 5, EntryKind::kData, payload(3)}};
  ASSERT_EQ(decode(to_proto(good))->messages.size(), 1U);

  std::map<std::string, v1::RaftMessage> bad;
  bad["an unknown kind"] = to_proto(good);
  bad["an unknown kind"].set_kind(10);
  bad["an unknown kind of entry"] = to_proto(good);
  bad["an unknown kind of entry"].mutable_entries(0)->set_kind(3);
  bad["a gap between entries"] = to_proto(good);
  bad["a gap between entries"].mutable_entries(0)->set_index(5);
  bad["an entry of a later term"] = to_proto(good);
  bad["an entry of a later term"].mutable_entries(0)->set_term(6);
  bad["entries in a heartbeat"] = to_proto(good);
  bad["entries in a heartbeat"].set_kind(static_cast<uint32_t>(MessageKind::kHeartbeat));
  bad["members that are none"] = to_proto(good);
  bad["members that are none"].mutable_entries(0)->set_kind(
      static_cast<uint32_t>(EntryKind::kMembers));
  bad["a mark in an append"] = to_proto(good);
  bad["a mark in an append"].mutable_snapshot()->set_index(1);
  bad["a snapshot on a lane"] = v1::RaftMessage();
  bad["a snapshot on a lane"].set_kind(static_cast<uint32_t>(MessageKind::kSnapshot));
  bad["a snapshot on a lane"].mutable_snapshot()->set_index(1);
  bad["a snapshot on a lane"].mutable_snapshot()->set_members(encode_members(some_members()));
  for (const auto& [what, message] : bad) {
    const Result<Frame> frame = decode(message);
    ASSERT_TRUE(frame) << what;
    EXPECT_EQ(frame->messages.size(), 0U) << what;
    EXPECT_EQ(frame->malformed, 1U) << what;
  }
}

TEST(Wire, PartsOfASnapshotComeBackAsTheyWere) {
  Message announcement;
  announcement.kind = MessageKind::kSnapshot;
  announcement.from = kHello.from;
  announcement.to = kHello.to;
  announcement.term = 9;
  announcement.snapshot = {100, 8, some_members()};
  SnapshotPart part{kHello, announcement, 0, std::string(10'000, 'd'), 77, false};
  v1::RaftSnapshotPart expected;
  fill(*expected.mutable_hello(), kHello);
  *expected.mutable_message() = to_proto(announcement);
  expected.set_data(part.data);
  expected.set_crc32c(77);
  const std::string bytes = joined(encode_part(part));
  EXPECT_EQ(bytes, expected.SerializeAsString());

  google::protobuf::io::ArrayInputStream in(bytes.data(), static_cast<int>(bytes.size()));
  const Result<SnapshotPart> back = decode_part(in, true);
  ASSERT_TRUE(back) << back.error().to_string();
  EXPECT_EQ(back->message, announcement);
  EXPECT_EQ(back->hello, kHello);
  EXPECT_EQ(back->data, part.data);
  google::protobuf::io::ArrayInputStream again(bytes.data(), static_cast<int>(bytes.size()));
  EXPECT_FALSE(decode_part(again, false)) << "a second beginning";

  expected.mutable_message()->mutable_snapshot()->set_members("nonsense");
  const std::string wrong = expected.SerializeAsString();
  google::protobuf::io::ArrayInputStream third(wrong.data(), static_cast<int>(wrong.size()));
  EXPECT_FALSE(decode_part(third, true));
}

TEST(Wire, NoticesOfALaterVersionArePassedOver) {
  const std::string bytes = encode_notice({NoticeKind::kWrongMember, "why"});
  google::protobuf::io::ArrayInputStream in(bytes.data(), static_cast<int>(bytes.size()));
  const auto notice = decode_notice(in);
  ASSERT_TRUE(notice && *notice);
  EXPECT_EQ((*notice)->kind, NoticeKind::kWrongMember);
  EXPECT_EQ((*notice)->message, "why");
  const std::string later("\x08\x63", 2);
  google::protobuf::io::ArrayInputStream unknown(later.data(), static_cast<int>(later.size()));
  const auto passed = decode_notice(unknown);
  ASSERT_TRUE(passed);
  EXPECT_FALSE(passed->has_value());
}

}  // namespace
}  // namespace muster::raft
