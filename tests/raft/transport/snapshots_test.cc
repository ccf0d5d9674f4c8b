#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "muster/v1/raft.grpc.pb.h"
#include "tests/raft/transport/test_group.h"

namespace muster::raft {
namespace {

Message announcement(const TestMember& from, const TestMember& to, Term term = 3) {
  Message m;
  m.kind = MessageKind::kSnapshot;
  m.from = from.id();
  m.to = to.id();
  m.term = term;
  m.snapshot = {100, 2, members_of({&from, &to})};
  return m;
}

// Bytes that repeat nowhere near a part's size, in pieces of odd sizes, as a reader gives them.
class Body final : public SnapshotReader {
 public:
  Body(size_t size, size_t piece) : size_(size), piece_(piece) {}
  static std::string bytes(size_t from, size_t to) {
    std::string out;
    for (size_t i = from; i < to; ++i) out.push_back(static_cast<char>(i * 2654435761U >> 13));
    return out;
  }
  Result<std::string> next() override {
    const size_t from = at_;
    at_ = std::min(size_, at_ + piece_);
    return bytes(from, at_);
  }

 private:
  size_t size_;
  size_t piece_;
  size_t at_ = 0;
};

// Where snapshots of a test arrive; survives its writers. As the log, it takes one at a time.
struct Store {
  struct Arrival {
    std::string bytes;
    bool finished = false;
    bool gone = false;
  };

  class Writer final : public SnapshotWriter {
   public:
    Writer(Store& store, size_t number) : store_(store), number_(number) {}
    ~Writer() override {
      std::lock_guard lock(store_.mutex);
      store_.arrivals[number_].gone = true;
      store_.changed.notify_all();
    }
    Status write(std::string_view piece) override {
      std::unique_lock lock(store_.mutex);
      store_.arrivals[number_].bytes += piece;
      store_.changed.notify_all();
      store_.changed.wait(lock, [&] { return !store_.held; });
      return ok_status();
    }
    Status finish() override {
      std::unique_lock lock(store_.mutex);
      if (store_.finish_takes.count() > 0) {
        store_.changed.wait_for(lock, store_.finish_takes, [] { return false; });
      }
      store_.arrivals[number_].finished = true;
      store_.changed.notify_all();
      return ok_status();
    }

   private:
    Store& store_;
    const size_t number_;
  };

  explicit Store(TestMember& member) {
    member.on_snapshot = [this](const Message&) -> Result<std::unique_ptr<SnapshotWriter>> {
      std::lock_guard lock(mutex);
      if (!refusal.ok()) return fail(refusal);
      if (!arrivals.empty() && !arrivals.back().gone) {
        return fail(unavailable("another snapshot is arriving already"));
      }
      arrivals.emplace_back();
      changed.notify_all();
      return std::make_unique<Writer>(*this, arrivals.size() - 1);
    };
  }
  ~Store() { hold(false); }
  void hold(bool on) {
    std::lock_guard lock(mutex);
    held = on;
    changed.notify_all();
  }
  testing::AssertionResult eventually(const std::function<bool()>& what) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, kPatience, what) ? testing::AssertionSuccess()
                                                   : testing::AssertionFailure() << "not in time";
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Arrival> arrivals;
  Status refusal;
  bool held = false;
  std::chrono::milliseconds finish_takes{0};
};

testing::AssertionResult sent(TestMember& from, const TestMember& to, StatusCode code,
                              size_t count = 1) {
  if (auto in_time = from.eventually([&] { return from.sent.size() >= count; }); !in_time) {
    return in_time;
  }
  const auto [member, status] = from.locked([&] { return from.sent.back(); });
  if (member == to.id() && status.code() == code) return testing::AssertionSuccess();
  return testing::AssertionFailure() << member.value << ": " << status.to_string();
}

TEST(Snapshots, ArriveWholeAndAreAnnouncedAfterwards) {
  Pair group;
  Store store(group.b);
  const Message m = announcement(group.a, group.b);
  size_t count = 0;
  // A part and a bit, exactly two parts, nothing at all.
  for (const size_t size : {700'000U, 1U << 20, 0U}) {
    group.a.transport->send_snapshot(m, std::make_unique<Body>(size, 70'001));
    ++count;
    ASSERT_TRUE(sent(group.a, group.b, StatusCode::kOk, count));
    ASSERT_TRUE(group.b.eventually([&] { return group.b.messages.size() == count; }));
    EXPECT_EQ(group.b.locked([&] { return group.b.messages.back(); }), m);
    ASSERT_TRUE(store.eventually([&] { return store.arrivals[count - 1].gone; }));
    EXPECT_TRUE(store.arrivals[count - 1].finished);
    EXPECT_EQ(store.arrivals[count - 1].bytes, Body::bytes(0, size));
  }
}

TEST(Snapshots, OneThatIsCutOffIsForgottenAndTheNextBeginsAtItsBeginning) {
  Pair group;
  Store store(group.b);
  store.hold(true);
  const Message m = announcement(group.a, group.b);
  group.a.transport->send_snapshot(m, std::make_unique<Body>(8 << 20, 1 << 20));
  ASSERT_TRUE(store.eventually(
      [&] { return !store.arrivals.empty() && !store.arrivals[0].bytes.empty(); }));
  group.b.link().reset(false);
  ASSERT_TRUE(sent(group.a, group.b, StatusCode::kUnavailable));
  store.hold(false);
  ASSERT_TRUE(store.eventually([&] { return store.arrivals[0].gone; }));
  EXPECT_FALSE(store.arrivals[0].finished);
  EXPECT_LT(store.arrivals[0].bytes.size(), 8U << 20);

  group.a.transport->send_snapshot(m, std::make_unique<Body>(8 << 20, 1 << 20));
  ASSERT_TRUE(sent(group.a, group.b, StatusCode::kOk, 2));
  ASSERT_TRUE(store.eventually([&] { return store.arrivals[1].gone; }));
  EXPECT_EQ(store.arrivals[1].bytes, Body::bytes(0, 8 << 20));
  EXPECT_EQ(std::count(group.b.messages.begin(), group.b.messages.end(), m), 1);
}

TEST(Snapshots, AReceiverThatTakesNoPartFailsTheSender) {
  Pair group([](GrpcTransportOptions& options) { options.snapshot_part_max = 300ms; });
  Store store(group.b);
  store.hold(true);
  group.a.transport->send_snapshot(announcement(group.a, group.b),
                                   std::make_unique<Body>(64 << 20, 1 << 20));
  EXPECT_TRUE(sent(group.a, group.b, StatusCode::kDeadlineExceeded));
  store.hold(false);
  ASSERT_TRUE(store.eventually([&] { return store.arrivals[0].gone; }));
  EXPECT_FALSE(store.arrivals[0].finished);
}

TEST(Snapshots, StoringItMayTakeLongerThanAPart) {
  Pair group([](GrpcTransportOptions& options) { options.snapshot_part_max = 200ms; });
  Store store(group.b);
  store.finish_takes = std::chrono::milliseconds(700);
  group.a.transport->send_snapshot(announcement(group.a, group.b),
                                   std::make_unique<Body>(1000, 1000));
  EXPECT_TRUE(sent(group.a, group.b, StatusCode::kOk));
}

TEST(Snapshots, StayBelowTheirRate) {
  // 16 KiB is the smallest part: 80 KiB at 100 KiB/s are 0.6 s and more after the first.
  Pair group([](GrpcTransportOptions& options) {
    options.snapshot_part_bytes = 16 << 10;
    options.snapshot_bytes_per_s = 100 << 10;
  });
  Store store(group.b);
  const auto before = std::chrono::steady_clock::now();
  group.a.transport->send_snapshot(announcement(group.a, group.b),
                                   std::make_unique<Body>(80 << 10, 4000));
  ASSERT_TRUE(sent(group.a, group.b, StatusCode::kOk));
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(600));
}

TEST(Snapshots, ARefusalReachesTheSenderWithItsReason) {
  Pair group;
  Store store(group.b);
  store.refusal = resource_exhausted("the disk is full");
  group.a.transport->send_snapshot(announcement(group.a, group.b),
                                   std::make_unique<Body>(1000, 1000));
  ASSERT_TRUE(sent(group.a, group.b, StatusCode::kResourceExhausted));
  EXPECT_EQ(group.a.sent[0].second.message(), "the disk is full");
}

TEST(Snapshots, ASecondToTheSameMemberTakesThePlaceOfTheFirst) {
  Pair group;
  Store store(group.b);
  store.hold(true);
  group.a.transport->send_snapshot(announcement(group.a, group.b),
                                   std::make_unique<Body>(64 << 20, 1 << 20));
  ASSERT_TRUE(store.eventually([&] { return !store.arrivals.empty(); }));
  group.a.transport->send_snapshot(announcement(group.a, group.b, 4),
                                   std::make_unique<Body>(1000, 1000));
  store.hold(false);
  ASSERT_TRUE(group.b.eventually([&] { return !group.b.messages.empty(); }));
  EXPECT_EQ(group.b.messages[0].term, 4U);
  ASSERT_TRUE(sent(group.a, group.b, StatusCode::kOk));
  EXPECT_EQ(group.a.locked([&] { return group.a.sent.size(); }), 1U);
  EXPECT_FALSE(store.arrivals[0].finished);
}

TEST(Snapshots, AtMostSoManyAreSentAtOnce) {
  const Issuer issuer;
  TestMember a(issuer, 1, {.node_id = "n1"});
  TestMember b(issuer, 2, {.node_id = "n2"});
  TestMember c(issuer, 3, {.node_id = "n3"});
  TestMember d(issuer, 4, {.node_id = "n4"});
  Store at_b(b), at_c(c), at_d(d);
  a.transport->set_members(members_of({&a, &b, &c, &d}));
  for (Store* store : {&at_b, &at_c}) store->hold(true);
  for (const TestMember* to : {&b, &c, &d}) {
    a.transport->send_snapshot(announcement(a, *to), std::make_unique<Body>(1000, 1000));
  }
  for (Store* store : {&at_b, &at_c}) {
    ASSERT_TRUE(store->eventually([&] { return !store->arrivals.empty(); }));
  }
  // The third comes when one is through.
  EXPECT_TRUE(at_d.arrivals.empty());
  at_c.hold(false);
  ASSERT_TRUE(at_d.eventually([&] { return !at_d.arrivals.empty() && at_d.arrivals[0].gone; }));
  EXPECT_TRUE(at_d.arrivals[0].finished);
  EXPECT_FALSE(at_b.arrivals[0].finished);
  at_b.hold(false);
  EXPECT_TRUE(a.eventually([&] { return a.sent.size() == 3; }));
}

// ------------------------------------------------------------ senders that do wrong

struct RawCall {
  RawCall(TestMember& from, const TestMember& to)
      : stub(v1::Raft::NewStub(from.channel(to.address()))),
        stream(stub->Snapshot(&context, &result)) {}

  v1::RaftSnapshotPart first(const TestMember& from, const TestMember& to) {
    const Message m = announcement(from, to);
    v1::RaftSnapshotPart part;
    part.mutable_hello()->set_cluster_id("c1");
    part.mutable_hello()->set_from(from.id().value);
    part.mutable_hello()->set_to(to.id().value);
    part.mutable_message()->set_kind(static_cast<uint32_t>(MessageKind::kSnapshot));
    part.mutable_message()->set_term(m.term);
    part.mutable_message()->mutable_snapshot()->set_index(m.snapshot.index);
    part.mutable_message()->mutable_snapshot()->set_term(m.snapshot.term);
    part.mutable_message()->mutable_snapshot()->set_members(encode_members(m.snapshot.members));
    part.set_data("abc");
    part.set_crc32c(crc32c("abc"));
    return part;
  }

  grpc::ClientContext context;
  v1::RaftSnapshotResult result;
  std::unique_ptr<v1::Raft::Stub> stub;
  std::unique_ptr<grpc::ClientWriter<v1::RaftSnapshotPart>> stream;
};

TEST(Snapshots, DamagedOnesAreForgotten) {
  Pair group;
  Store store(group.b);
  RawCall call(group.a, group.b);
  ASSERT_TRUE(call.stream->Write(call.first(group.a, group.b)));
  v1::RaftSnapshotPart part;
  part.set_offset(3);
  part.set_data("def");
  part.set_crc32c(crc32c("dEf"));
  part.set_last(true);
  call.stream->Write(part);
  EXPECT_EQ(call.stream->Finish().error_code(), grpc::StatusCode::DATA_LOSS);
  ASSERT_TRUE(store.eventually([&] { return store.arrivals[0].gone; }));
  EXPECT_FALSE(store.arrivals[0].finished);
  EXPECT_EQ(store.arrivals[0].bytes, "abc");
  EXPECT_TRUE(group.b.messages.empty());
}

TEST(Snapshots, ASenderThatStopsIsForgotten) {
  Pair group([](GrpcTransportOptions& options) { options.snapshot_part_max = 200ms; });
  Store store(group.b);
  RawCall call(group.a, group.b);
  ASSERT_TRUE(call.stream->Write(call.first(group.a, group.b)));
  EXPECT_EQ(call.stream->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ASSERT_TRUE(store.eventually([&] { return store.arrivals[0].gone; }));
  EXPECT_FALSE(store.arrivals[0].finished);
}

TEST(Snapshots, AnOlderLeadersGivesWayToTheOneThatArrives) {
  Pair group;
  Store store(group.b);
  RawCall call(group.a, group.b);
  ASSERT_TRUE(call.stream->Write(call.first(group.a, group.b)));
  ASSERT_TRUE(store.eventually([&] { return !store.arrivals.empty(); }));
  RawCall older(group.a, group.b);
  v1::RaftSnapshotPart part = older.first(group.a, group.b);
  part.mutable_message()->set_term(2);
  ASSERT_TRUE(older.stream->Write(part));
  EXPECT_EQ(older.stream->Finish().error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(store.arrivals.size(), 1U);
  RawCall newer(group.a, group.b);
  part.mutable_message()->set_term(4);
  part.set_last(true);
  ASSERT_TRUE(newer.stream->Write(part));
  EXPECT_TRUE(newer.stream->Finish().ok());
  EXPECT_EQ(call.stream->Finish().error_code(), grpc::StatusCode::ABORTED);
  ASSERT_TRUE(store.eventually([&] { return store.arrivals[0].gone; }));
  EXPECT_FALSE(store.arrivals[0].finished);
  EXPECT_TRUE(store.arrivals[1].finished);
}

TEST(Snapshots, ARemovedNodeSendsNone) {
  Pair group;
  Store store(group.b);
  group.b.locked([&] { group.b.removed_nodes = {"n1"}; });
  group.a.transport->send_snapshot(announcement(group.a, group.b),
                                   std::make_unique<Body>(1000, 1000));
  ASSERT_TRUE(sent(group.a, group.b, StatusCode::kFailedPrecondition));
  EXPECT_TRUE(store.arrivals.empty());
}

TEST(Snapshots, OneUnderWayEndsWithTheRemovalOfItsSender) {
  Pair group;
  Store store(group.b);
  RawCall call(group.a, group.b);
  ASSERT_TRUE(call.stream->Write(call.first(group.a, group.b)));
  ASSERT_TRUE(store.eventually([&] { return !store.arrivals.empty(); }));
  group.b.locked([&] { group.b.removed_nodes = {"n1"}; });
  group.b.transport->judge_again();
  EXPECT_EQ(call.stream->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  ASSERT_TRUE(store.eventually([&] { return store.arrivals[0].gone; }));
  EXPECT_FALSE(store.arrivals[0].finished);
}

TEST(Snapshots, AreForMembersOnly) {
  Pair group;
  Store store(group.b);
  RawCall call(group.a, group.b);
  v1::RaftSnapshotPart part = call.first(group.a, group.b);
  part.mutable_hello()->set_to(7);
  call.stream->Write(part);
  EXPECT_EQ(call.stream->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(store.arrivals.empty());
}

}  // namespace
}  // namespace muster::raft
