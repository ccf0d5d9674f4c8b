#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

#include "agent/logs/log_rotation.h"
#include "agent/runtime/exec.h"
#include "tests/agent/runtime/integration/runtime_fixture.h"

namespace muster::agent {
namespace {

TEST_F(RuntimeTest, ExitCodeAndOutput) {
  auto req = request({"sh", "-c", "echo hello; echo bad >&2; hostname 2>/dev/null; exit 3"});
  auto exit = run(req);
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  EXPECT_EQ(exit->exit_code, 3);
  EXPECT_FALSE(exit->oom_killed);
  EXPECT_GT(exit->finished_at.unix_ns, 0);
  EXPECT_NE(log_of(req).find("hello\n"), std::string::npos);
  auto state = runtime_->inspect(req.container_id, req.bundle_dir);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->phase, ContainerState::Phase::kExited);
}

TEST_F(RuntimeTest, MissingCommandIsNamed) {
  for (const char* name : {"nginxx", "/usr/bin/nginxx"}) {
    auto req = request({name});
    auto state = runtime_->start(req);
    ASSERT_FALSE(state.has_value());
    EXPECT_EQ(state.error().code(), StatusCode::kNotFound) << state.error().message();
    EXPECT_EQ(state.error().message(), std::string("command not found: \"") + name + "\"");
    EXPECT_FALSE(fs::exists("/sys/fs/cgroup/memory/muster/" + instance_ + "/" + req.container_id));
  }
  auto req = request({"/notexec"});
  auto state = runtime_->start(req);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), StatusCode::kPermissionDenied) << state.error().message();
}

TEST_F(RuntimeTest, OomKillIsSeen) {
  auto req = request({"sh", "-c", "head -c 200m /dev/zero | sh -c 'x=$(cat); echo $x'; exit 9"});
  req.spec.mutable_container()->clear_args();
  for (const char* arg : {"sh", "-c",
                          "x=$(head -c 100000000 /dev/zero | tr '\\0' a 2>/dev/null || "
                          "busybox tr '\\0' a); echo ${#x}"}) {
    req.spec.mutable_container()->add_args(arg);
  }
  fs::create_symlink("busybox", rootfs_ + "/bin/tr");
  req.spec.mutable_resources()->mutable_limits()->set_memory_bytes(16 << 20);
  req.spec.mutable_resources()->set_memory_swap_bytes(0);
  auto exit = run(req);
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  EXPECT_TRUE(exit->oom_killed);
  EXPECT_EQ(exit->exit_code, 137);
}

TEST_F(RuntimeTest, LimitsReachTheCgroup) {
  auto req = request({"sleep", "1000"});
  auto& limits = *req.spec.mutable_resources()->mutable_limits();
  limits.set_memory_bytes(64 << 20);
  limits.set_nano_cpus(500'000'000);
  limits.set_pids(50);
  auto state = runtime_->start(req);
  ASSERT_TRUE(state.has_value()) << state.error().message();
  auto usage = runtime_->cgroups().usage(runtime_->cgroup_of(req.container_id));
  ASSERT_TRUE(usage.has_value());
  EXPECT_EQ(usage->memory_limit_bytes, uint64_t{64 << 20});
  EXPECT_GE(usage->pids, 1u);
}

TEST_F(RuntimeTest, SeccompFilterIsInForce) {
  fs::create_symlink("busybox", rootfs_ + "/bin/grep");
  fs::create_symlink("busybox", rootfs_ + "/bin/unshare");
  auto req =
      request({"sh", "-c", "grep Seccomp: /proc/self/status; unshare -n true || echo refused"});
  ASSERT_TRUE(run(req).has_value());
  const std::string log = log_of(req);
  EXPECT_NE(log.find("Seccomp:\t2"), std::string::npos) << log;
  EXPECT_NE(log.find("refused"), std::string::npos) << log;
}

TEST_F(RuntimeTest, TermIgnoredThenKilled) {
  auto req = request({"sh", "-c", "trap '' TERM; echo up; while true; do sleep 1; done"});
  ASSERT_TRUE(runtime_->start(req).has_value());
  ASSERT_TRUE(runtime_->kill(req.container_id, SIGTERM).ok());
  auto state = runtime_->inspect(req.container_id, req.bundle_dir);
  EXPECT_EQ(state->phase, ContainerState::Phase::kRunning);
  ASSERT_TRUE(runtime_->kill(req.container_id, SIGKILL).ok());
  auto exit = wait(*runtime_, req);
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  EXPECT_EQ(exit->exit_code, 137);
  EXPECT_TRUE(runtime_->kill(req.container_id, SIGTERM).ok()) << "ended already";
}

TEST_F(RuntimeTest, SuccessorAdoptsRunningAndEnded) {
  auto running = request({"sleep", "1000"});
  auto ended = request({"sh", "-c", "exit 7"});
  ASSERT_TRUE(runtime_->start(running).has_value());
  ASSERT_TRUE(run(ended).has_value());
  runtime_.reset();  // as a kill -9 would: nothing is told to the containers
  runtime_ = open_runtime();
  ASSERT_NE(runtime_, nullptr);
  auto state = runtime_->inspect(running.container_id, running.bundle_dir);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->phase, ContainerState::Phase::kRunning);
  EXPECT_GT(state->pid, 0);
  auto code = wait(*runtime_, ended);
  ASSERT_TRUE(code.has_value()) << code.error().message();
  EXPECT_EQ(code->exit_code, 7);
  ASSERT_TRUE(runtime_->kill(running.container_id, SIGKILL).ok());
  auto killed = wait(*runtime_, running);
  ASSERT_TRUE(killed.has_value()) << killed.error().message();
  EXPECT_EQ(killed->exit_code, 137);
}

TEST_F(RuntimeTest, AStartedContainerIsNotTakenForACreatedOne) {
  auto req = request({"sh", "-c", "echo up; sleep 1000"});
  ASSERT_TRUE(runtime_->start(req).has_value());
  while (log_of(req) != "up\n") {
  }
  // A kill between the start and its last step leaves the FIFO.
  const std::string fifo = root_ + "/run/oci/" + req.container_id + "/exec.fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const auto state = runtime_->inspect(req.container_id, req.bundle_dir);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->phase, ContainerState::Phase::kRunning);
}

TEST_F(RuntimeTest, RemovalEndsAForkingContainer) {
  // A shell that cannot fork ends. The inner one does at the limit, which makes room for the outer
  // one to start it again: the container goes on forking until it is removed.
  auto req = request({"sh", "-c", "while true; do (while true; do sleep 1000 & done); done"});
  req.spec.mutable_resources()->mutable_limits()->set_pids(60);
  ASSERT_TRUE(runtime_->start(req).has_value());
  const std::string cgroup = runtime_->cgroup_of(req.container_id);
  while (runtime_->cgroups().processes(cgroup).size() < 40) {
    const auto exists = runtime_->list();
    ASSERT_TRUE(exists.has_value() && !exists->empty()) << "the container ended by itself";
  }
  const Status removed = runtime_->remove(req.container_id, req.bundle_dir);
  EXPECT_TRUE(removed.ok()) << removed.message();
  EXPECT_TRUE(runtime_->cgroups().processes(cgroup).empty());
  const auto left = runtime_->list();
  ASSERT_TRUE(left.has_value());
  EXPECT_TRUE(left->empty());
}

TEST_F(RuntimeTest, KilledMonitorEndsTheContainer) {
  auto req = request({"sleep", "1000"});
  ASSERT_TRUE(runtime_->start(req).has_value());
  auto promise = std::make_shared<std::promise<ContainerExit>>();
  auto future = promise->get_future();
  ASSERT_TRUE(runtime_
                  ->watch_exit(req.container_id, req.bundle_dir,
                               [promise](ContainerExit e) { promise->set_value(e); })
                  .ok());
  const auto pid = read_file(BundlePaths(req.bundle_dir).monitor_pid);
  ASSERT_TRUE(pid.has_value());
  ASSERT_EQ(::kill(std::stoi(*pid), SIGKILL), 0);
  ASSERT_EQ(future.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(future.get().exit_code, 137);
}

// Not a limit but a figure: printed, for docs/performance.md.
TEST_F(RuntimeTest, StartCost) {
  constexpr int kContainers = 20;
  std::vector<double> ms;
  for (int i = 0; i < kContainers; ++i) {
    auto req = request({"sleep", "1000"});
    const auto begin = std::chrono::steady_clock::now();
    auto state = runtime_->start(req);
    ASSERT_TRUE(state.has_value()) << state.error().message();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    ms.push_back(took.count());
  }
  std::sort(ms.begin(), ms.end());
  std::vector<ContainerRequest> batch;
  for (int i = 0; i < kContainers; ++i) batch.push_back(request({"sleep", "1000"}));
  std::atomic<int> next{0};
  std::atomic<int> failed{0};
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = next++; i < kContainers; i = next++) {
        if (!runtime_->start(batch[static_cast<size_t>(i)])) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(failed, 0);
  std::printf("start: median %.1f ms, min %.1f ms; four at a time: %.0f containers/s\n",
              ms[ms.size() / 2], ms.front(), kContainers / took.count());
}

struct ExecRun {
  std::string out, err;
  Result<int> code = fail(StatusCode::kUnknown, "no end");
};

class ExecTest : public RuntimeTest {
 protected:
  ExecRun exec(const ContainerRequest& req, ExecRequest what, const std::string& input) {
    what.container_id = req.container_id;
    what.bundle_dir = req.bundle_dir;
    ExecRun out;
    std::promise<void> done;
    ExecEvents events;
    events.out = [&](std::string_view data) { out.out += data; };
    events.err = [&](std::string_view data) { out.err += data; };
    events.done = [&](Result<int> code) {
      out.code = std::move(code);
      done.set_value();
    };
    auto session = ExecSession::start(*runtime_, what, std::move(events));
    EXPECT_TRUE(session.has_value()) << session.error().message();
    if (!session) return out;
    if (!input.empty()) {
      EXPECT_TRUE((*session)->write_input(input).ok());
    }
    if (what.open_stdin && !what.tty) (*session)->close_input();
    EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
    return out;
  }
};

TEST_F(ExecTest, OutputInputAndExitCode) {
  auto req = request({"sleep", "1000"});
  ASSERT_TRUE(runtime_->start(req).has_value());
  ExecRequest what;
  what.command = {"sh", "-c", "cat; echo $NAME >&2; id -u; exit 5"};
  what.open_stdin = true;
  what.env = {"NAME=value"};
  what.user = "web";
  const ExecRun run = exec(req, what, "typed\n");
  EXPECT_EQ(run.out, "typed\n33\n");
  EXPECT_EQ(run.err, "value\n");
  ASSERT_TRUE(run.code.has_value()) << run.code.error().message();
  EXPECT_EQ(*run.code, 5);
}

TEST_F(ExecTest, TerminalHasItsSize) {
  auto req = request({"sleep", "1000"});
  ASSERT_TRUE(runtime_->start(req).has_value());
  ExecRequest what;
  what.command = {"sh", "-c", "read line; stty size; echo got $line; exit 4"};
  what.tty = true;
  what.open_stdin = true;
  what.rows = 33;
  what.columns = 99;
  const ExecRun run = exec(req, what, "abc\n");
  EXPECT_NE(run.out.find("33 99"), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("got abc"), std::string::npos) << run.out;
  ASSERT_TRUE(run.code.has_value());
  EXPECT_EQ(*run.code, 4);
}

TEST_F(ExecTest, MissingCommandAndDeadContainer) {
  auto req = request({"sleep", "1000"});
  ASSERT_TRUE(runtime_->start(req).has_value());
  for (const bool tty : {false, true}) {
    ExecRequest what;
    what.command = {"nosuch"};
    what.tty = tty;
    const ExecRun run = exec(req, what, "");
    ASSERT_FALSE(run.code.has_value()) << "tty " << tty << ": " << *run.code << run.out << run.err;
    EXPECT_EQ(run.code.error().code(), StatusCode::kNotFound);
    EXPECT_NE(run.code.error().message().find("\"nosuch\""), std::string::npos);
  }
  ASSERT_TRUE(runtime_->kill(req.container_id, SIGKILL).ok());
  ASSERT_TRUE(wait(*runtime_, req).has_value());
  ExecRequest what;
  what.command = {"true"};
  what.container_id = req.container_id;
  what.bundle_dir = req.bundle_dir;
  auto session = ExecSession::start(*runtime_, what, {});
  ASSERT_FALSE(session.has_value());
  EXPECT_EQ(session.error().code(), StatusCode::kNotFound);
}

TEST_F(ExecTest, DisconnectKillsTheProcess) {
  auto req = request({"sleep", "1000"});
  ASSERT_TRUE(runtime_->start(req).has_value());
  ExecRequest what;
  what.command = {"sh", "-c", "echo up; sleep 500"};
  what.container_id = req.container_id;
  what.bundle_dir = req.bundle_dir;
  std::promise<void> up;
  std::once_flag once;
  ExecEvents events;
  events.out = [&](std::string_view) { std::call_once(once, [&] { up.set_value(); }); };
  auto session = ExecSession::start(*runtime_, what, std::move(events));
  ASSERT_TRUE(session.has_value());
  ASSERT_EQ(up.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  session->reset();
  // The container's first process is the only one left, as soon as the kernel has reaped.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  size_t left = 9;
  while (left > 1 && std::chrono::steady_clock::now() < deadline) {
    left = runtime_->cgroups().processes(runtime_->cgroup_of(req.container_id)).size();
  }
  EXPECT_EQ(left, 1u);
}

TEST_F(RuntimeTest, LogIsFollowedThroughRotation) {
  auto req = request({"sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done"});
  ASSERT_TRUE(runtime_->start(req).has_value());
  LogQuery query;
  query.follow = true;
  LogReader reader(query, false);
  reader.add({"t", req.bundle_dir, false});
  Lines lines;
  lines.each = [&] {
    if (lines.count == 3) {
      EXPECT_TRUE(rotate_log({req.bundle_dir, 1, 3}).ok());
    }
  };
  ASSERT_TRUE(runtime_
                  ->watch_exit(req.container_id, req.bundle_dir,
                               [&](ContainerExit) { reader.set_ended("t"); })
                  .ok());
  EXPECT_TRUE(reader.run(lines).ok());
  EXPECT_EQ(lines.out, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n");
  EXPECT_TRUE(fs::exists(req.bundle_dir + "/container.log.1"));
  EXPECT_EQ(log_of(req), lines.out) << "rotated files are joined";
  const std::string last = log_of(req, 2);
  EXPECT_EQ(last, "line 5\nline 6\n");
}

}  // namespace
}  // namespace muster::agent
