#include "agent/logs/log_publisher.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "base/thread_executor.h"

namespace muster::agent {
namespace {

// The manager's end: takes messages, or makes the publisher wait.
struct Wire {
  bool write(const v1::LogPublish& message) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !blocked || cancelled; });
    if (cancelled) return false;
    messages.push_back(message);
    for (const auto& line : message.lines()) text += line.line();
    for (const auto& missing : message.missing()) {
      text += "[" + missing.task_ids(0) + ": " + missing.reason() + "]";
    }
    ended = ended || message.end();
    changed.notify_all();
    return true;
  }
  void cancel() {
    std::lock_guard lock(mutex);
    cancelled = true;
    changed.notify_all();
  }
  void await(const std::function<bool()>& done) {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), done)) << text;
  }
  bool is_current() const { return !messages.empty() && messages.back().current(); }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<v1::LogPublish> messages;
  std::string text;
  bool blocked = false;
  bool cancelled = false;
  bool ended = false;
};

struct Stream final : LogPublishStream {
  explicit Stream(std::shared_ptr<Wire> w) : wire(std::move(w)) {}
  bool write(const v1::LogPublish& message) override { return wire->write(message); }
  Status finish() override { return {}; }
  void cancel() override { wire->cancel(); }
  std::shared_ptr<Wire> wire;
};

struct Streams final : LogStreamFactory {
  std::unique_ptr<LogPublishStream> open() override {
    wires.push_back(std::make_shared<Wire>());
    wires.back()->blocked = blocked;
    return std::make_unique<Stream>(wires.back());
  }
  std::vector<std::shared_ptr<Wire>> wires;
  bool blocked = false;
};

class LogPublisherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/muster-pub-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    dir_ = path;
    on([this] {
      publisher_ = std::make_unique<LogPublisher>(
          strand_, [this] { return tasks_; }, streams_, null_log());
    });
  }
  void TearDown() override {
    on([this] { publisher_.reset(); });
    strand_.stop();
    std::filesystem::remove_all(dir_);
  }

  void on(const std::function<void()>& work) {
    std::mutex mutex;
    std::condition_variable ready;
    bool done = false;
    strand_.post([&] {
      work();
      std::lock_guard lock(mutex);
      done = true;
      ready.notify_all();
    });
    std::unique_lock lock(mutex);
    ready.wait(lock, [&] { return done; });
  }
  LoggedTask& add_task(const std::string& id) {
    LoggedTask task;
    task.task_id = id;
    task.service_id = "s1";
    task.bundle_dir = dir_ + "/" + id;
    task.started = true;
    std::filesystem::create_directory(task.bundle_dir);
    tasks_.push_back(task);
    return tasks_.back();
  }
  void append(const std::string& id, int second, const std::string& text) {
    std::ofstream(dir_ + "/" + id + "/container.log", std::ios::app)
        << fmt::format("2026-01-31T08:05:{:02}Z stdout F {}\n", second, text);
  }
  std::shared_ptr<Wire> subscribe(bool follow, const std::vector<std::string>& task_ids = {}) {
    on([&] {
      v1::LogSubscription wanted;
      wanted.set_id("sub");
      wanted.set_follow(follow);
      if (task_ids.empty()) wanted.add_service_ids("s1");
      for (const auto& id : task_ids) wanted.add_task_ids(id);
      publisher_->subscribe(wanted);
    });
    return streams_.wires.back();
  }
  void change(const std::function<void()>& what) {
    on([&] {
      what();
      publisher_->tasks_changed();
    });
  }

  std::string dir_;
  ThreadExecutor strand_{"agent"};
  Streams streams_;
  std::vector<LoggedTask> tasks_;
  std::unique_ptr<LogPublisher> publisher_;
};

TEST_F(LogPublisherTest, SendsWhatIsThereAndEnds) {
  on([this] {
    add_task("t1").ended = true;
    add_task("t2");
    append("t1", 1, "a");
    append("t2", 2, "b");
    append("t1", 3, "c");
    LoggedTask& dark = add_task("t3");
    dark.unreadable = "configured logging driver does not support reading";
    add_task("t4").started = false;
  });
  const auto wire = subscribe(false);
  wire->await([&] { return wire->ended; });
  EXPECT_EQ(wire->text, "[t3: configured logging driver does not support reading]a\nb\nc\n");
  EXPECT_EQ(wire->messages.front().subscription_id(), "sub");
  EXPECT_TRUE(wire->messages.back().current());
  EXPECT_EQ(wire->messages.front().tasks_size(), 2);
}

TEST_F(LogPublisherTest, FollowsNewTasksUntilItIsCancelled) {
  on([this] {
    add_task("t1");
    append("t1", 1, "a");
    add_task("t2").started = false;
  });
  const auto wire = subscribe(true);
  wire->await([&] { return wire->text == "a\n" && wire->is_current(); });
  append("t2", 2, "b");
  change([this] { tasks_[1].started = true; });
  wire->await([&] { return wire->text == "a\nb\n"; });
  change([this] {
    append("t1", 3, "c");
    tasks_[0].ended = true;
    add_task("t3");
    append("t3", 4, "d");
  });
  wire->await([&] { return wire->text.size() == 8; });
  EXPECT_FALSE(wire->ended);
  // The same again changes nothing; without follow it ends.
  subscribe(true);
  EXPECT_EQ(streams_.wires.size(), 1U);
  subscribe(false);
  wire->await([&] { return wire->ended; });
}

TEST_F(LogPublisherTest, ASingleTaskIsWaitedForAndFollowedToItsEnd) {
  on([this] { add_task("t1").started = false; });
  const auto wire = subscribe(true, {"t1", "gone"});
  wire->await([&] { return wire->is_current(); });
  EXPECT_EQ(wire->text, "[gone: the node does not have its log any more]");
  append("t1", 1, "a");
  change([this] { tasks_[0].started = true; });
  wire->await([&] { return wire->text.ends_with("a\n"); });
  append("t1", 2, "b");
  change([this] { tasks_[0].ended = true; });
  wire->await([&] { return wire->ended; });
  EXPECT_TRUE(wire->text.ends_with("a\nb\n"));
}

TEST_F(LogPublisherTest, AManagerThatDoesNotTakeLinesStopsTheReading) {
  streams_.blocked = true;
  on([this] { add_task("t1"); });
  for (int i = 0; i < 3000; ++i) append("t1", 1, std::string(1000, 'x'));
  const auto wire = subscribe(false);
  {
    std::lock_guard lock(wire->mutex);
    EXPECT_TRUE(wire->messages.empty());
    wire->blocked = false;
    wire->changed.notify_all();
  }
  wire->await([&] { return wire->ended; });
  EXPECT_EQ(wire->text.size(), 3000U * 1001);
  for (const auto& message : wire->messages) EXPECT_LE(message.ByteSizeLong(), 80U << 10);
}

TEST_F(LogPublisherTest, CancelEndsTheThreadWhereverItIs) {
  streams_.blocked = true;
  on([this] { add_task("t1"); });
  const auto stuck = subscribe(true);
  on([this] { publisher_->cancel("sub"); });
  for (bool gone = false; !gone;) {
    on([&] { gone = publisher_->subscriptions() == 0; });
  }
  streams_.blocked = false;
  const auto idle = subscribe(true);
  idle->await([&] { return idle->is_current(); });
  on([this] { publisher_->cancel("sub"); });
  for (bool gone = false; !gone;) {
    on([&] { gone = publisher_->subscriptions() == 0; });
  }
}

}  // namespace
}  // namespace muster::agent
