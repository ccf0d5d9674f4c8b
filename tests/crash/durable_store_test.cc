// The store over its real log: a process killed at any moment, and disks that fail.
#include "manager/store/durable/durable_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <string>
#include <utility>

#include "base/rng.h"
#include "base/thread_executor.h"
#include "tests/crash/faulty_env.h"

namespace muster::manager::store {
namespace {

namespace fs = std::filesystem;

v1::Service service(uint64_t number) {
  v1::Service s;
  s.set_id(fmt::format("s{:08}", number));
  s.mutable_spec()->mutable_annotations()->set_name(fmt::format("name-{}", number));
  return s;
}

// A durable store on a thread of its own.
class Node {
 public:
  explicit Node(DurableStore::Options options) {
    std::promise<void> ready;
    strand_.post([&] {
      auto opened = DurableStore::open(strand_, options);
      if (!opened) {
        error_ = std::move(opened).error();
        return ready.set_value();
      }
      durable_ = *std::move(opened);
      ReplicationEvents events;
      // Then the state has everything that was ever acknowledged.
      events.on_lead = [&ready, first = true](uint64_t) mutable {
        if (std::exchange(first, false)) ready.set_value();
      };
      error_ = durable_->start(std::move(events));
      if (!error_.ok()) ready.set_value();
    });
    ready.get_future().wait();
  }
  // As when it is killed: nothing is handed over.
  ~Node() {
    run([&] { durable_.reset(); });
  }
  const Status& error() const { return error_; }
  DurableStore& durable() { return *durable_; }

  void run(const std::function<void()>& f) {
    std::promise<void> done;
    strand_.post([&] {
      f();
      done.set_value();
    });
    done.get_future().wait();
  }
  Commit create(uint64_t number) {
    return wait([=](Transaction& tx) { return tx.create(service(number)); });
  }
  Commit wait(std::function<Status(Transaction&)> body) {
    std::promise<Commit> result;
    strand_.post([&] {
      durable_->store().update([&](Transaction& tx) { return body(tx); },
                               [&](const Commit& c) { result.set_value(c); });
    });
    return result.get_future().get();
  }
  Status snapshot() {
    std::promise<Status> result;
    strand_.post([&] { durable_->take_snapshot([&](Status s) { result.set_value(s); }); });
    return result.get_future().get();
  }
  Snapshot view() { return durable_->store().snapshot(); }

 private:
  ThreadExecutor strand_{"test-strand"};
  std::unique_ptr<DurableStore> durable_;
  Status error_;
};

class CrashTest : public testing::Test {
 protected:
  CrashTest() {
    char name[] = "/tmp/muster-crash-XXXXXX";
    dir = mkdtemp(name);
    options.dir = dir / "raft";
    options.log = null_log();
    options.reserve_bytes = 0;
    options.free_bytes_min = 0;
  }
  ~CrashTest() override { fs::remove_all(dir); }

  fs::path dir;
  DurableStore::Options options;
};

// Writes services from `first` on until killed; says each number on `out` once it is acknowledged.
[[noreturn]] void write_until_killed(const DurableStore::Options& options, uint64_t first,
                                     int out) {
  Node node(options);
  if (!node.error().ok()) _exit(3);
  for (uint64_t number = first;; ++number) {
    if (!node.create(number).status.ok()) _exit(4);
    if (write(out, &number, sizeof number) != sizeof number) _exit(5);
  }
}

TEST_F(CrashTest, NothingAcknowledgedIsLostByKillMinusNine) {
  options.snapshot_entries = 40;  // kills meet snapshots and compactions too
  SeededRng rng(20'261);
  uint64_t acknowledged = 0;
  uint64_t first = 1;
  for (int round = 0; round < 25; ++round) {
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipe_fds[0]);
      write_until_killed(options, first, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    const uint64_t wanted = 1 + rng.below(60);
    uint64_t number = 0;
    for (uint64_t i = 0; i < wanted; ++i) {
      ASSERT_EQ(read(pipe_fds[0], &number, sizeof number), ssize_t{sizeof number})
          << "the writer ended by itself in round " << round;
      acknowledged = number;
    }
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    while (read(pipe_fds[0], &number, sizeof number) == ssize_t{sizeof number}) {
      acknowledged = number;
    }
    close(pipe_fds[0]);

    // Looked at in a process of its own: this one stays free of threads, so that it may fork.
    const pid_t checker = fork();
    ASSERT_GE(checker, 0);
    if (checker == 0) {
      int found = 2;
      {
        Node node(options);
        if (node.error().ok()) {
          found = 0;
          for (uint64_t i = 1; i <= acknowledged; ++i) {
            if (node.view().get<v1::Service>(service(i).id()) == nullptr) found = 1;
          }
          // At most the one write under way may have come through besides.
          if (node.view().count<v1::Service>() > acknowledged + 1) found = 6;
          if (node.view().count<v1::Service>() == acknowledged + 1) found += 100;
        }
      }
      _exit(found);
    }
    ASSERT_EQ(waitpid(checker, &status, 0), checker);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 100)
        << "round " << round << ", code " << WEXITSTATUS(status);
    first = acknowledged + (WEXITSTATUS(status) == 100 ? 2 : 1);
    if (WEXITSTATUS(status) == 100) ++acknowledged;
  }
}

TEST_F(CrashTest, SnapshotAndLogTogetherGiveTheStateBack) {
  std::string before;
  {
    Node node(options);
    ASSERT_TRUE(node.error().ok()) << node.error().to_string();
    for (uint64_t i = 1; i <= 30; ++i) {
      ASSERT_TRUE(node.create(i).status.ok());
      if (i == 20) {
        ASSERT_TRUE(node.snapshot().ok());
      }
    }
    ASSERT_TRUE(node.wait([](Transaction& tx) { return tx.remove<v1::Service>(service(5).id()); })
                    .status.ok());
    ASSERT_TRUE(Store::save(node.view(), 1 << 20, [&](std::string chunk) {
                  before += chunk;
                  return ok_status();
                }).ok());
  }
  Node node(options);
  ASSERT_TRUE(node.error().ok()) << node.error().to_string();
  std::string after;
  ASSERT_TRUE(Store::save(node.view(), 1 << 20, [&](std::string chunk) {
                after += chunk;
                return ok_status();
              }).ok());
  EXPECT_EQ(before, after);
  EXPECT_TRUE(node.create(100).status.ok());
  EXPECT_TRUE(node.snapshot().ok());
}

class DiskFaults : public CrashTest, public testing::WithParamInterface<FaultyEnv::Fault> {};

TEST_P(DiskFaults, EndTheServiceAndKeepWhatWasAcknowledged) {
  FaultyEnv env;
  std::atomic<int> fatal{0};
  options.env = &env;
  options.on_fatal = [&](const Status&) { ++fatal; };
  {
    Node node(options);
    ASSERT_TRUE(node.error().ok()) << node.error().to_string();
    for (uint64_t i = 1; i <= 10; ++i) ASSERT_TRUE(node.create(i).status.ok());
    env.fault = GetParam();
    EXPECT_EQ(node.create(11).status.code(), StatusCode::kUnknown);
    EXPECT_EQ(fatal, 1);
    env.fault = FaultyEnv::Fault::kNone;
    EXPECT_EQ(node.create(12).status.code(), StatusCode::kUnavailable)
        << "a disk that recovers is not trusted in this life";
  }
  Node node(options);
  ASSERT_TRUE(node.error().ok()) << node.error().to_string();
  for (uint64_t i = 1; i <= 10; ++i) {
    EXPECT_NE(node.view().get<v1::Service>(service(i).id()), nullptr);
  }
  EXPECT_EQ(node.view().get<v1::Service>(service(12).id()), nullptr);
  EXPECT_TRUE(node.create(13).status.ok());
}

INSTANTIATE_TEST_SUITE_P(Faults, DiskFaults,
                         testing::Values(FaultyEnv::Fault::kSync, FaultyEnv::Fault::kTornAppend));

TEST_F(CrashTest, FullDiskRefusesChangesAndKeepsServing) {
  {
    Node node(options);
    ASSERT_TRUE(node.create(1).status.ok());
  }
  std::atomic<int> fatal{0};
  options.on_fatal = [&](const Status&) { ++fatal; };
  options.free_bytes_min = UINT64_MAX / 4;
  Node node(options);
  ASSERT_TRUE(node.error().ok()) << node.error().to_string();
  const Commit refused = node.create(2);
  EXPECT_EQ(refused.status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.status.message(), testing::HasSubstr("is full"));
  EXPECT_NE(node.view().get<v1::Service>(service(1).id()), nullptr);
  EXPECT_TRUE(node.wait([](Transaction&) { return ok_status(); }).status.ok()) << "still leading";
  EXPECT_EQ(fatal, 0);
}

}  // namespace
}  // namespace muster::manager::store
