#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/secrets/memory_files.h"
#include "agent/worker/disk_files.h"
#include "agent/worker/worker.h"
#include "base/file.h"
#include "tests/agent/worker/fakes.h"

namespace muster::agent {

namespace fs = std::filesystem;

// A worker in virtual time over fakes of everything it stands on.
class WorkerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/muster-worker-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    root_ = path;
    runtime_.clock = &world_;
    payload_files_ = MemoryFiles(root_ + "/run/secrets");
    restart();
  }
  void TearDown() override {
    worker_.reset();
    fs::remove_all(root_);
  }

  // The resolver it tells of its containers; without one they have none.
  virtual NameServer* names() { return nullptr; }
  virtual overlay::ContainerFlows* flows() { return nullptr; }

  // A new worker on what the old one left, as after kill -9.
  void restart() {
    worker_.reset();
    strand_ = std::make_unique<SimExecutor>(world_);
    WorkerOptions options;
    options.instance_id = "i1";
    options.data_dir = root_ + "/agent";
    options.run_dir = root_ + "/run";
    options.boot_id = boot_id_;
    options.node.node_id = "node1";
    options.node.hostname = "host1";
    options.data_path_addr = "192.0.2.1";
    options.mesh = mesh_;
    WorkerDeps deps{*strand_,
                    pool_,
                    pool_,
                    pool_,
                    runtime_,
                    images_,
                    volumes_,
                    network_,
                    health_,
                    files_,
                    payload_files_,
                    rng_,
                    [this](v1::TaskStatusUpdate update) {
                      messages_.push_back(update.status().message());
                      last_[update.task_id()] = std::move(update);
                    },
                    log_};
    deps.names = names();
    deps.flows = flows();
    deps.applied = [this](const v1::FeedId& feed, uint64_t version) {
      if (feed.kind() == v1::FeedId::TASKS) {
        tasks_applied_.push_back(version);
      } else {
        applied_.emplace_back(feed.network_id(), version);
      }
    };
    deps.forgotten = [this](const v1::FeedId& feed) { forgotten_.push_back(feed.network_id()); };
    deps.repaired = [this](const std::vector<std::string>& found) { repaired_ += found.size(); };
    deps.limited = [this](const HostLimits& now) {
      limitations_ = now.sentences;
      no_overlays_ = now.no_overlays;
    };
    worker_ = std::make_unique<Worker>(std::move(deps), options);
    ASSERT_TRUE(worker_->start().ok());
    world_.advance(10ms);
  }

  v1::FeedUpdate feed(const std::vector<v1::Task>& tasks, bool complete = true) {
    v1::FeedUpdate step;
    step.mutable_feed()->set_kind(v1::FeedId::TASKS);
    step.set_complete(complete);
    for (const v1::Task& task : tasks) {
      v1::TaskAssignment& assignment = *step.add_tasks();
      *assignment.mutable_task() = task;
      v1::Network& network = *assignment.add_networks();
      network.set_id("n1");
      network.mutable_spec()->set_driver(driver_);
    }
    *step.add_revisions() = revision_;
    return step;
  }

  v1::Task task(const std::string& id, v1::TaskState desired = v1::TASK_RUNNING) {
    v1::Task out;
    out.set_id(id);
    out.set_name("web.1");
    out.set_service_id("s1");
    out.set_slot(1);
    out.set_revision(1);
    out.set_desired_state(desired);
    out.mutable_status()->set_state(v1::TASK_ASSIGNED);
    v1::NetworkAttachment& attachment = *out.add_networks();
    attachment.set_network_id("n1");
    attachment.add_addresses("10.0.0.2/24");
    for (const v1::PortConfig& port : ports_) *out.add_ports() = port;
    return out;
  }

  void publish(v1::PortConfig::Mode mode, uint32_t published) {
    v1::PortConfig& port = ports_.emplace_back();
    port.set_mode(mode);
    port.set_target_port(80);
    port.set_published_port(published);
  }

  v1::TaskState state(const std::string& id) { return last_[id].status().state(); }
  std::string error(const std::string& id) { return last_[id].status().error(); }
  std::string container(const std::string& id) {
    for (const v1::LocalTask& local : worker_->tasks()) {
      if (local.assignment().task().id() == id) return local.container_id();
    }
    return "";
  }

  static v1::Revision make_revision() {
    v1::Revision out;
    out.set_id("s1.1");
    out.set_service_id("s1");
    out.set_number(1);
    out.set_service_name("web");
    out.mutable_spec()->mutable_container()->set_image("busybox");
    out.mutable_spec()->mutable_container()->add_env("SLOT={{.Task.Slot}}");
    return out;
  }

  std::string root_;
  SimWorld world_;
  SimPool pool_{world_};
  FakeRuntime runtime_;
  FakeImages images_;
  FakeVolumes volumes_;
  FakeNetwork network_{runtime_.events};
  FakeHealth health_;
  DiskFiles files_;
  MemoryFiles payload_files_{""};
  std::string boot_id_ = "the first";
  SeededRng rng_{7};
  v1::Revision revision_ = make_revision();
  std::vector<v1::PortConfig> ports_;
  std::string driver_ = "bridge";  // of the network
  bool mesh_ = false;
  Log log_ = null_log();
  std::vector<std::pair<std::string, uint64_t>> applied_;  // network feeds, versions
  std::vector<uint64_t> tasks_applied_;                    // versions of the TASKS feed
  std::vector<std::string> forgotten_;                     // networks
  std::vector<std::string> limitations_;
  std::string no_overlays_;
  size_t repaired_ = 0;
  std::map<std::string, v1::TaskStatusUpdate> last_;
  std::vector<std::string> messages_;
  std::unique_ptr<SimExecutor> strand_;
  std::unique_ptr<Worker> worker_;
};

}  // namespace muster::agent
