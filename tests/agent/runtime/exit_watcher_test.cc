#include "agent/runtime/exit_watcher.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <future>
#include <map>

#include "base/file.h"
#include "base/process.h"
#include "base/remove_tree.h"

namespace muster::agent {
namespace {

class ExitWatcherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/muster-exits-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    dir_ = path;
    auto watcher = ExitWatcher::create(dir_.string(), cgroups_, null_log());
    ASSERT_TRUE(watcher.has_value()) << watcher.error().message();
    watcher_ = *std::move(watcher);
  }
  void TearDown() override {
    watcher_.reset();
    EXPECT_TRUE(remove_tree(dir_.string()).ok());
  }

  ExitSource source(const std::string& id) const {
    return {id, "/muster/no-such-instance/" + id, dir_.string()};
  }
  // As conmon does it.
  void write_exit(const std::string& id, int code) {
    ASSERT_TRUE(write_file_atomic(dir_ / id, std::to_string(code), 0600, Durability::kNone).ok());
  }
  static Process monitor() {
    ProcessOptions options;
    options.argv = {"sleep", "1000"};
    auto process = Process::spawn(options);
    EXPECT_TRUE(process.has_value()) << process.error().message();
    return *std::move(process);
  }
  static UniqueFd pin(const Process& process) { return open_pidfd(process.pid()); }

  std::filesystem::path dir_;
  Cgroups cgroups_{CgroupVersion::kV1};
  std::unique_ptr<ExitWatcher> watcher_;
};

TEST_F(ExitWatcherTest, AnEndBeforeTheWatchIsTold) {
  Process alive = monitor();
  write_exit("c1", 42);
  std::promise<ContainerExit> ended;
  ASSERT_TRUE(
      watcher_->watch(source("c1"), pin(alive), [&](ContainerExit e) { ended.set_value(e); }).ok());
  EXPECT_EQ(ended.get_future().get().exit_code, 42);
}

TEST_F(ExitWatcherTest, AMonitorThatIsKilledTakesItsContainerAlong) {
  Process killed = monitor();
  std::promise<ContainerExit> ended;
  ASSERT_TRUE(
      watcher_->watch(source("c1"), pin(killed), [&](ContainerExit e) { ended.set_value(e); })
          .ok());
  ASSERT_TRUE(killed.kill(SIGKILL).ok());
  EXPECT_EQ(ended.get_future().get().exit_code, 137);
}

TEST_F(ExitWatcherTest, AForgottenWatchIsNotTold) {
  Process killed = monitor();
  bool told = false;
  ASSERT_TRUE(watcher_->watch(source("c1"), pin(killed), [&](ContainerExit) { told = true; }).ok());
  watcher_->forget("c1");
  ASSERT_TRUE(killed.kill(SIGKILL).ok());
  write_exit("c1", 1);
  watcher_.reset();
  EXPECT_FALSE(told);
}

// The descriptor of an ended container's monitor is free for the monitor of a new one, whose
// container must not be taken for ended.
TEST_F(ExitWatcherTest, EndsAreNotMixedUpWhenContainersComeAndGo) {
  constexpr int kRounds = 300;
  std::map<int, std::future<ContainerExit>> ends;
  std::vector<Process> monitors;
  for (int i = 0; i < kRounds; ++i) monitors.push_back(monitor());
  std::future<void> ending;
  for (int i = 0; i < kRounds; ++i) {
    const std::string id = "c" + std::to_string(i);
    auto promise = std::make_shared<std::promise<ContainerExit>>();
    ends[i] = promise->get_future();
    ASSERT_TRUE(watcher_
                    ->watch(source(id), pin(monitors[static_cast<size_t>(i)]),
                            [promise](ContainerExit e) { promise->set_value(e); })
                    .ok());
    if (ending.valid()) ending.get();
    // Ends while the next one is being watched: the file first, then the monitor.
    ending = std::async(std::launch::async, [this, id, i, &monitors] {
      write_exit(id, i % 100);
      EXPECT_TRUE(monitors[static_cast<size_t>(i)].kill(SIGKILL).ok());
    });
  }
  ending.get();
  for (auto& [i, end] : ends) EXPECT_EQ(end.get().exit_code, i % 100) << "container " << i;
}

}  // namespace
}  // namespace muster::agent
