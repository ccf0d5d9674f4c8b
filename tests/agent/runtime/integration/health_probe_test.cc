// The real health probe in real containers: commands that hang, flood, are missing, leave
// processes behind, or go down with their container.

#include <signal.h>

#include <thread>

#include "agent/worker/exec_health_probe.h"
#include "tests/agent/runtime/integration/runtime_fixture.h"

namespace muster::agent {
namespace {

using Words = std::vector<std::string>;

class HealthProbeTest : public RuntimeTest {
 protected:
  void SetUp() override {
    RuntimeTest::SetUp();
    for (const char* name : {"setsid", "seq", "tr", "kill"}) {
      fs::create_symlink("busybox", rootfs_ + "/bin/" + name);
    }
    request_ = request({"sleep", "1000"});
    const auto started = runtime_->start(request_);
    ASSERT_TRUE(started.has_value()) << started.error().message();
    probe_ = std::make_unique<ExecHealthProbe>(*runtime_);
  }
  HealthResult probe(const Words& command, Duration timeout = 20s) {
    return probe_->run(request_.container_id, request_.bundle_dir, command, timeout);
  }
  HealthResult shell(const std::string& script, Duration timeout = 20s) {
    return probe({"/bin/sh", "-c", script}, timeout);
  }
  // Waits until only so many processes are in the container: the kernel reaps in its own time.
  bool only(size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (processes() > count) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return processes() == count;
  }
  size_t processes() {
    return runtime_->cgroups().processes(runtime_->cgroup_of(request_.container_id)).size();
  }

  ContainerRequest request_;
  std::unique_ptr<ExecHealthProbe> probe_;
};

TEST_F(HealthProbeTest, ExitCodeAndBothOutputs) {
  const HealthResult bad = shell("echo out; echo err >&2; exit 7");
  EXPECT_EQ(bad.exit_code, 7);
  EXPECT_NE(bad.output.find("out\n"), std::string::npos);
  EXPECT_NE(bad.output.find("err\n"), std::string::npos);
  EXPECT_FALSE(bad.gone);
  const HealthResult good = probe({"true"});
  EXPECT_EQ(good.exit_code, 0);
  EXPECT_FALSE(good.gone);
}

TEST_F(HealthProbeTest, WhatCannotBeRunSaysWhy) {
  const HealthResult missing = probe({"nosuch"});
  EXPECT_EQ(missing.exit_code, -1);
  EXPECT_EQ(missing.trouble, "health check could not be run: command not found: \"nosuch\"");
  EXPECT_FALSE(missing.gone);
  const HealthResult plain = probe({"/notexec"});
  EXPECT_EQ(plain.exit_code, -1);
  EXPECT_EQ(plain.trouble,
            "health check could not be run: permission denied: \"/notexec\" is not executable");
  // The shell is there and says itself what is not.
  const HealthResult shells = shell("nosuch");
  EXPECT_EQ(shells.exit_code, 127);
  EXPECT_NE(shells.output.find("nosuch"), std::string::npos);
}

// Children, grandchildren in a session of their own, and one that ignores every signal it can.
TEST_F(HealthProbeTest, AHangingCommandIsKilledWithItsWholeTree) {
  const HealthResult hung = shell(
      "echo before; trap '' TERM HUP INT; sleep 500 & setsid sh -c 'sleep 501; true' & "
      "sh -c 'setsid sh -c \"sleep 502; sleep 503\"; true'",
      5s);
  EXPECT_EQ(hung.exit_code, -1);
  EXPECT_EQ(hung.trouble, "health check exceeded timeout (5s)");
  EXPECT_EQ(hung.output, "before\n");
  EXPECT_FALSE(hung.gone);
  EXPECT_TRUE(only(1)) << processes();
  EXPECT_TRUE(fs::is_empty(runtime_->exec_dir()));
}

TEST_F(HealthProbeTest, AFloodIsReadAndForgotten) {
  // More than any pipe holds: were it not read, the command would hang.
  const HealthResult much = shell("seq 1 200000; exit 3");
  EXPECT_EQ(much.exit_code, 3);
  EXPECT_LE(much.output.size(), 2 * HealthMonitor::kOutputBytesMax);
  EXPECT_TRUE(much.output.ends_with("199999\n200000\n"));
  const HealthResult endless = shell("while :; do echo flood; echo flood >&2; done", 500ms);
  EXPECT_EQ(endless.exit_code, -1);
  EXPECT_EQ(endless.trouble, "health check exceeded timeout (500ms)");
  EXPECT_LE(endless.output.size(), 2 * HealthMonitor::kOutputBytesMax);
  EXPECT_TRUE(only(1)) << processes();
}

// It has ended and has its say; what it left in the container is the container's.
TEST_F(HealthProbeTest, NobodyWaitsForWhatIsLeftBehind) {
  if (!runtime_->is_crun()) {
    // runc copies the output and does not end before that is closed (agent/runtime/README.md).
    const HealthResult waited = shell("sleep 500 & exit 0", 700ms);
    EXPECT_EQ(waited.trouble, "health check exceeded timeout (700ms)");
    EXPECT_TRUE(only(2)) << processes();
    return;
  }
  const HealthResult quiet = shell("sleep 500 & exit 0");
  EXPECT_EQ(quiet.exit_code, 0);
  const HealthResult loud = shell("while :; do echo flood; done & exit 4");
  EXPECT_EQ(loud.exit_code, 4);
}

TEST_F(HealthProbeTest, AContainerThatEndsMeanwhileIsGoneAndNotUnhealthy) {
  HealthResult under_way;
  std::thread probing([&] { under_way = shell("echo up > /tmp/up; sleep 500"); });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!fs::exists(rootfs_ + "/tmp/up") && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(runtime_->kill(request_.container_id, SIGKILL).ok());
  probing.join();
  EXPECT_NE(under_way.exit_code, 0);
  EXPECT_TRUE(under_way.gone);
  ASSERT_TRUE(wait(*runtime_, request_).has_value());
  EXPECT_TRUE(probe({"true"}).gone);
}

TEST_F(HealthProbeTest, StopEndsWhatHangs) {
  HealthResult under_way;
  std::thread probing([&] { under_way = shell("echo up > /tmp/up; sleep 500", 1h); });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!fs::exists(rootfs_ + "/tmp/up") && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  probe_->stop();
  probing.join();
  EXPECT_TRUE(under_way.gone);
  EXPECT_TRUE(only(1)) << processes();
}

}  // namespace
}  // namespace muster::agent
