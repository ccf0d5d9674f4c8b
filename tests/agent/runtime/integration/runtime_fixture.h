#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/logs/log_reader.h"
#include "agent/runtime/conmon_runtime.h"
#include "base/file.h"
#include "base/rng.h"

namespace muster::agent {

namespace fs = std::filesystem;

// Real containers from a root file system of static busybox. Fails without root, crun and conmon.
class RuntimeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "these tests start containers and need root";
    char path[] = "/tmp/muster-rt-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    root_ = path;
    rootfs_ = root_ + "/rootfs";
    for (const char* dir : {"bin", "proc", "sys", "dev", "tmp", "etc"}) {
      fs::create_directories(rootfs_ + "/" + dir);
    }
    fs::copy_file("/usr/bin/busybox", rootfs_ + "/bin/busybox", fs::copy_options::none, error_);
    if (error_) fs::copy_file("/bin/busybox", rootfs_ + "/bin/busybox");
    for (const char* name : {"sh", "sleep", "true", "cat", "echo", "id", "stty", "head", "ls"}) {
      fs::create_symlink("busybox", rootfs_ + "/bin/" + name);
    }
    std::string passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n";
    ASSERT_TRUE(write_file_atomic(rootfs_ + "/etc/passwd", passwd, 0644, Durability::kNone).ok());
    ASSERT_TRUE(write_file_atomic(rootfs_ + "/notexec", "x", 0644, Durability::kNone).ok());
    SystemRng rng;
    instance_ = "t" + rng.id().substr(0, 10);
    runtime_ = open_runtime();
  }

  void TearDown() override {
    if (runtime_ != nullptr) {
      for (const auto& [id, bundle] : bundles_) EXPECT_TRUE(runtime_->remove(id, bundle).ok());
      const auto left = runtime_->list();
      ASSERT_TRUE(left.has_value());
      EXPECT_TRUE(left->empty()) << left->front();
      runtime_->cgroups().kill_and_remove("/muster/" + instance_).ok();
      runtime_.reset();
    }
    fs::remove_all(root_, error_);
  }

  std::unique_ptr<ConmonRuntime> open_runtime() {
    RuntimeOptions options;
    options.instance_id = instance_;
    options.run_dir = root_ + "/run";
    if (const char* name = std::getenv("MUSTER_TEST_RUNTIME")) options.runtime = name;
    auto runtime = make_runtime(options, null_log());
    EXPECT_TRUE(runtime.has_value()) << runtime.error().message();
    return runtime ? std::move(*runtime) : nullptr;
  }

  ContainerRequest request(std::vector<std::string> args) {
    ContainerRequest out;
    SystemRng rng;
    out.container_id = rng.id() + rng.id();
    out.instance_id = instance_;
    out.task_id = TaskId("task");
    out.name = "test.1." + out.container_id;
    for (const std::string& arg : args) out.spec.mutable_container()->add_args(arg);
    out.rootfs = rootfs_;
    out.hostname = "box";
    out.bundle_dir = root_ + "/" + out.container_id;
    fs::create_directories(out.bundle_dir);
    bundles_.emplace_back(out.container_id, out.bundle_dir);
    return out;
  }

  // Starts and waits for the end.
  Result<ContainerExit> run(const ContainerRequest& request) {
    auto state = runtime_->start(request);
    if (!state) return fail(state.error());
    return wait(*runtime_, request);
  }
  static Result<ContainerExit> wait(Runtime& runtime, const ContainerRequest& request) {
    auto promise = std::make_shared<std::promise<ContainerExit>>();
    auto future = promise->get_future();
    const Status watched =
        runtime.watch_exit(request.container_id, request.bundle_dir,
                           [promise](ContainerExit e) { promise->set_value(e); });
    if (!watched.ok()) return fail(watched);
    if (future.wait_for(std::chrono::seconds(20)) != std::future_status::ready) {
      return fail(StatusCode::kDeadlineExceeded, "the container did not end");
    }
    return future.get();
  }

  struct Lines final : LogOutput {
    bool line(const std::string&, LogLine line) override {
      out += line.text;
      ++count;
      if (each) each();
      return true;
    }
    std::string out;
    int count = 0;
    std::function<void()> each;
  };
  std::string log_of(const ContainerRequest& request, std::optional<int64_t> tail = std::nullopt) {
    LogQuery query;
    query.tail = tail;
    LogReader reader(query, false);
    reader.add({"t", request.bundle_dir, true});
    Lines lines;
    EXPECT_TRUE(reader.run(lines).ok());
    return lines.out;
  }

  std::string root_, rootfs_, instance_;
  std::error_code error_;
  std::unique_ptr<ConmonRuntime> runtime_;
  std::vector<std::pair<std::string, std::string>> bundles_;
};

}  // namespace muster::agent
