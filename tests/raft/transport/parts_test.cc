#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "raft/transport/admission.h"
#include "raft/transport/incoming_snapshot.h"
#include "raft/transport/lane_queue.h"
#include "raft/transport/peer_watch.h"
#include "raft/transport/throttle.h"

namespace muster::raft {
namespace {

// ------------------------------------------------------------ queue

Message append_of(size_t bytes, Index index = 1) {
  Message m;
  m.kind = MessageKind::kAppend;
  m.prev_index = index - 1;
  m.entries = {{index, 0, EntryKind::kData, std::make_shared<const std::string>(bytes, 'x')}};
  return m;
}

TEST(LaneQueue, EverythingThatWaitsIsOneFrame) {
  LaneQueue queue({});
  for (Index i = 1; i <= 64; ++i) ASSERT_TRUE(queue.push(append_of(1024, i)));
  const std::vector<Message> frame = queue.take_frame();
  ASSERT_EQ(frame.size(), 64U);
  for (Index i = 1; i <= 64; ++i) EXPECT_EQ(frame[i - 1].entries[0].index, i);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.bytes(), 0U);
}

TEST(LaneQueue, FramesEndAtTheirSizeAndLargeMessagesGoAlone) {
  LaneQueue queue({.messages = 10, .bytes = 100'000, .frame_bytes = 10'000});
  ASSERT_TRUE(queue.push(append_of(4000)));
  ASSERT_TRUE(queue.push(append_of(4000)));
  ASSERT_TRUE(queue.push(append_of(50'000)));
  ASSERT_TRUE(queue.push(append_of(10)));
  EXPECT_EQ(queue.take_frame().size(), 2U);
  EXPECT_EQ(queue.take_frame().size(), 1U);
  EXPECT_EQ(queue.take_frame().size(), 1U);
}

TEST(LaneQueue, IsBoundedByMessagesAndByBytes) {
  LaneQueue few({.messages = 2, .bytes = 100'000, .frame_bytes = 10'000});
  EXPECT_TRUE(few.push(append_of(1)));
  EXPECT_TRUE(few.push(append_of(1)));
  EXPECT_FALSE(few.push(append_of(1)));
  EXPECT_EQ(few.clear(), 2U);
  EXPECT_TRUE(few.push(append_of(1)));

  LaneQueue small({.messages = 100, .bytes = 10'000, .frame_bytes = 10'000});
  EXPECT_TRUE(small.push(append_of(6000)));
  EXPECT_FALSE(small.push(append_of(6000)));
  (void)small.take_frame();
  EXPECT_TRUE(small.push(append_of(60'000))) << "one that is too large gets through alone";
}

// ------------------------------------------------------------ who may speak

struct AdmissionCase {
  const char* what;
  security::Principal caller;
  Hello hello;
  bool removed;
  Verdict verdict;
  bool stranger = false;
  bool node_removed = false;
};

TEST(Admission, FollowsTheTable) {
  using security::Principal;
  const auto node = [](const char* id, bool manager = true, const char* cluster = "c") {
    return Principal{Principal::Kind::kNode, id, manager, cluster, 0, 0};
  };
  const Hello good{"c", {2}, {1}, "a:1"};
  const auto with = [&](auto change) {
    Hello hello = good;
    change(hello);
    return hello;
  };
  Members members;
  members.put({{1}, "n1", "a:1", true, false});
  members.put({{2}, "n2", "a:2", true, false});
  const AdmissionCase cases[] = {
      {"a member", node("n2"), good, false, Verdict::kAccept},
      {"without a certificate", {}, good, false, Verdict::kRefused},
      {"a worker", node("n2", false), good, false, Verdict::kRefused},
      {"another node's certificate", node("n3"), good, false, Verdict::kRefused},
      {"of another cluster", node("n2"), with([](Hello& h) { h.cluster_id = "d"; }), false,
       Verdict::kWrongCluster},
      {"a certificate of another cluster", node("n2", true, "d"), good, false,
       Verdict::kWrongCluster},
      {"to somebody else", node("n2"), with([](Hello& h) { h.to = {3}; }), false,
       Verdict::kWrongMember},
      {"from nobody", node("n2"), with([](Hello& h) { h.from = {}; }), false, Verdict::kRefused},
      {"from myself", node("n1"), with([](Hello& h) { h.from = {1}; }), false, Verdict::kRefused},
      {"a manager that is not listed", node("n9"), with([](Hello& h) { h.from = {9}; }), false,
       Verdict::kAccept, true},
      {"one that was removed", node("n9"), with([](Hello& h) { h.from = {9}; }), true,
       Verdict::kRemoved},
      {"a member whose node was removed", node("n2"), good, false, Verdict::kRemoved, false, true},
      {"a stranger whose node was removed", node("n9"), with([](Hello& h) { h.from = {9}; }), false,
       Verdict::kRemoved, false, true},
  };
  for (const AdmissionCase& c : cases) {
    const Admission got = admit({"c", {1}, &members, c.node_removed, c.removed}, c.hello, c.caller);
    EXPECT_EQ(got.verdict, c.verdict) << c.what << ": " << got.why;
    EXPECT_EQ(got.stranger, c.stranger) << c.what;
    EXPECT_EQ(got.why.empty(), c.verdict == Verdict::kAccept) << c.what;
  }
  EXPECT_EQ(admit({"c", {1}, nullptr, false, false}, good, node("n5")).verdict, Verdict::kAccept)
      << "who joins knows nobody yet";
}

// ------------------------------------------------------------ fast suspicion

using Next = PeerWatch::Next;
constexpr MemberId kPeer{5};

TEST(PeerWatch, ABrokenStreamAndARefusedConnectionAreAVanishedProcessOnce) {
  PeerWatch watch;
  EXPECT_FALSE(watch.lost(kPeer)) << "it was never there";
  watch.established(kPeer);
  ASSERT_TRUE(watch.lost(kPeer));
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kRefused), Next::kVanished);
  EXPECT_FALSE(watch.lost(kPeer)) << "its other streams";
  watch.established(kPeer);
  ASSERT_TRUE(watch.lost(kPeer));
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kRefused), Next::kVanished) << "and again";
}

TEST(PeerWatch, WhatIsNoRefusalIsNoSuspicion) {
  for (const ProbeResult result : {ProbeResult::kAccepted, ProbeResult::kUnknown}) {
    PeerWatch watch;
    watch.established(kPeer);
    ASSERT_TRUE(watch.lost(kPeer));
    EXPECT_EQ(watch.probed(kPeer, result), Next::kNothing);
    EXPECT_TRUE(watch.lost(kPeer)) << "the next break asks again";
  }
}

TEST(PeerWatch, AGoodbyeSettlesIt) {
  PeerWatch watch;
  watch.established(kPeer);
  EXPECT_TRUE(watch.goodbye(kPeer));
  EXPECT_FALSE(watch.goodbye(kPeer)) << "told once";
  EXPECT_FALSE(watch.lost(kPeer));
  watch.established(kPeer);
  ASSERT_TRUE(watch.lost(kPeer));
  EXPECT_TRUE(watch.goodbye(kPeer)) << "while the probe is under way";
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kRefused), Next::kNothing);
}

TEST(PeerWatch, ANewStreamDuringTheProbeSettlesIt) {
  PeerWatch watch;
  watch.established(kPeer);
  ASSERT_TRUE(watch.lost(kPeer));
  watch.established(kPeer);
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kRefused), Next::kNothing);
}

TEST(PeerWatch, AStreamThatBreaksDuringTheProbeIsAskedForAgain) {
  PeerWatch watch;
  watch.established(kPeer);
  watch.established(kPeer);
  ASSERT_TRUE(watch.lost(kPeer));
  EXPECT_FALSE(watch.lost(kPeer)) << "one probe at a time";
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kAccepted), Next::kProbeAgain);
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kRefused), Next::kVanished);
}

TEST(PeerWatch, AForgottenMemberIsNotTold) {
  PeerWatch watch;
  watch.established(kPeer);
  ASSERT_TRUE(watch.lost(kPeer));
  watch.forget(kPeer);
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kRefused), Next::kNothing);
}

TEST(PeerWatch, ARetiredMemberIsForgottenOnceItIsKnownWhatBecameOfIt) {
  PeerWatch watch;
  watch.established(kPeer);
  watch.retire(kPeer);
  EXPECT_EQ(watch.known(), 0U);
  EXPECT_FALSE(watch.lost(kPeer));
  EXPECT_EQ(watch.known(), 0U);

  watch.established(kPeer);
  ASSERT_TRUE(watch.lost(kPeer));
  watch.retire(kPeer);
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kRefused), Next::kVanished);
  EXPECT_EQ(watch.known(), 0U);

  watch.established(kPeer);
  ASSERT_TRUE(watch.lost(kPeer));
  watch.retire(kPeer);
  watch.established(kPeer);
  EXPECT_EQ(watch.probed(kPeer, ProbeResult::kAccepted), Next::kNothing);
  EXPECT_EQ(watch.known(), 1U) << "it came back";
}

// ------------------------------------------------------------ snapshots

TEST(Throttle, SpreadsBytesEvenlyWithoutCredit) {
  Throttle throttle(1000);
  const TimePoint start{5s};
  EXPECT_EQ(throttle.take(start, 500), 0s);
  EXPECT_EQ(throttle.take(start, 500), 500ms);
  EXPECT_EQ(throttle.take(start + 200ms, 1000), 800ms);
  EXPECT_EQ(throttle.take(start + 60s, 1000), 0s) << "no credit for a minute of rest";
  EXPECT_EQ(throttle.take(start + 60s, 1), 1s);
  Throttle open(0);
  EXPECT_EQ(open.take(start, 1 << 30), 0s);
  EXPECT_EQ(open.take(start, 1 << 30), 0s);
}

struct Written {
  std::string bytes;
  bool finished = false;
  bool gone = false;
};

class Writer final : public SnapshotWriter {
 public:
  explicit Writer(Written& written) : written_(written) {}
  ~Writer() override { written_.gone = true; }
  Status write(std::string_view piece) override {
    written_.bytes += piece;
    return ok_status();
  }
  Status finish() override {
    written_.finished = true;
    return ok_status();
  }

 private:
  Written& written_;
};

SnapshotPart part_of(uint64_t offset, std::string data, bool last = false) {
  SnapshotPart part;
  part.offset = offset;
  part.crc = crc32c(data);
  part.data = std::move(data);
  part.last = last;
  return part;
}

TEST(IncomingSnapshot, PartsInOrderMakeASnapshot) {
  Written written;
  IncomingSnapshot snapshot(std::make_unique<Writer>(written));
  EXPECT_EQ(snapshot.take(part_of(0, "abc")), false);
  EXPECT_EQ(snapshot.take(part_of(3, "def")), false);
  EXPECT_FALSE(written.finished);
  EXPECT_EQ(snapshot.take(part_of(6, "", true)), true);
  EXPECT_EQ(written.bytes, "abcdef");
  EXPECT_TRUE(written.finished);
  EXPECT_FALSE(snapshot.take(part_of(6, "more")));
}

TEST(IncomingSnapshot, APartThatWasThereBeforeIsPassedOver) {
  Written written;
  IncomingSnapshot snapshot(std::make_unique<Writer>(written));
  EXPECT_EQ(snapshot.take(part_of(0, "abc")), false);
  EXPECT_EQ(snapshot.take(part_of(0, "abc")), false);
  EXPECT_EQ(snapshot.take(part_of(3, "d", true)), true);
  EXPECT_EQ(written.bytes, "abcd");
}

TEST(IncomingSnapshot, DamageAndGapsForgetWhatWasThere) {
  SnapshotPart damaged = part_of(3, "def");
  damaged.crc ^= 1;
  for (const SnapshotPart& bad : {damaged, part_of(4, "ef")}) {
    Written written;
    IncomingSnapshot snapshot(std::make_unique<Writer>(written));
    ASSERT_TRUE(snapshot.take(part_of(0, "abc")));
    const Result<bool> got = snapshot.take(bad);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code(), StatusCode::kDataLoss);
    EXPECT_TRUE(written.gone);
    EXPECT_FALSE(written.finished);
  }
}

}  // namespace
}  // namespace muster::raft
