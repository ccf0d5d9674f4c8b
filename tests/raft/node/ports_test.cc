// The ends of the ports, with threads as they are: who has let go of the node's lock to write out
// what he queued is still in them.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "base/thread_executor.h"
#include "tests/raft/node/node_group.h"

namespace muster::raft {
namespace {

// Holds whoever flushes it until release(), or until it is stopped, which must not happen then.
class HeldTransport final : public Transport {
 public:
  void set_members(const Members&) override {}
  void send(Message) override {}
  void send_snapshot(Message, std::unique_ptr<SnapshotReader>) override {}
  void flush() override {
    std::unique_lock lock(mutex_);
    if (!std::exchange(hold_, false)) return;
    inside_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return released_ || stopped_; });
    inside_ = false;
  }
  void stop() override {
    std::lock_guard lock(mutex_);
    stopped_inside = stopped_inside || inside_;
    stopped_ = true;
    changed_.notify_all();
  }
  void await_inside() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return inside_; });
  }
  // After a moment in which it should not be stopped, but would be by who does not wait.
  void release() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(100), [this] { return stopped_; });
    released_ = true;
    changed_.notify_all();
  }
  bool stopped_inside = false;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool hold_ = true;
  bool inside_ = false;
  bool released_ = false;
  bool stopped_ = false;
};

// Takes everything and is never done.
class SilentDisk final : public Disk {
 public:
  void start(DiskEvents&) override {}
  void write(Write) override {}
  void flush() override { EXPECT_FALSE(stopped) << "asked of threads that have ended"; }
  bool full() override { return false; }
  void take_snapshot(SnapshotMark, Index, SnapshotProducer, UniqueFunction<void(Status)>) override {
  }
  Result<std::unique_ptr<SnapshotSource>> open_snapshot(Index, Term) override {
    return fail(not_found("none"));
  }
  Result<std::unique_ptr<SnapshotSink>> receive_snapshot(const SnapshotMark&) override {
    return fail(not_found("none"));
  }
  void stop() override { stopped = true; }
  std::atomic<bool> stopped = false;
};

TEST(NodePorts, AreStoppedWhenNobodyIsInThem) {
  ThreadExecutor raft_strand("raft"), user_strand("user");
  SeededRng rng(7);
  ListMachine machine;
  SilentDisk disk;
  HeldTransport transport;
  Node::Options options;
  options.self.id = {1};
  options.mode = StartMode::kJoin;
  {
    Node node(options, {raft_strand, user_strand, disk, rng, null_log(), machine}, {});
    const auto on_user = [&](UniqueFunction<void()> f) {
      std::promise<void> done;
      user_strand.post([&] {
        f();
        done.set_value();
      });
      done.get_future().wait();
    };
    on_user([&] { ASSERT_TRUE(node.start(transport).ok()); });
    // A later term is something to write.
    std::thread network([&] {
      node.transport_events().received(
          {.kind = MessageKind::kVote, .from = {9}, .to = {1}, .term = 5, .transfer = true});
    });
    transport.await_inside();
    std::promise<void> ended;
    on_user([&] { node.stop([&] { ended.set_value(); }); });
    transport.release();
    network.join();
    ended.get_future().wait();
    EXPECT_FALSE(transport.stopped_inside);
    EXPECT_TRUE(disk.stopped);
  }
}

}  // namespace
}  // namespace muster::raft
