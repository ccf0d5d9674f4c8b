#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "muster/v1/control.grpc.pb.h"
#include "muster/v1/local.grpc.pb.h"

namespace muster::bench {

// A real musterd of its own data directory, alone in a swarm; stopped and removed on destruction.
class NodeUnderTest {
 public:
  // Starts `bin_dir`/musterd and makes it a one-node swarm on a free port.
  static Result<std::unique_ptr<NodeUnderTest>> start(const std::filesystem::path& bin_dir);
  ~NodeUnderTest();

  // A busybox image, made here from Debian's busybox-static and loaded; its reference.
  Result<std::string> load_busybox();

  // What `muster service create` and `update` send; returns when `running` tasks of the current
  // revision run and no older one does, with the time from before the request to then.
  Result<Duration> create_service(const std::string& name, const std::string& image,
                                  uint64_t replicas, bool host_network);
  Result<Duration> scale(const std::string& name, uint64_t replicas);
  Result<Duration> force_update(const std::string& name);
  // Removes the service and waits until none of its tasks is left.
  Result<Duration> remove(const std::string& name);

  // Pids of running containers, sorted.
  Result<std::vector<int64_t>> container_pids();
  // kill -9, then a new musterd on the same data directory; returns when it answers.
  Status kill_and_restart();

  // Memory of musterd, netd and the monitors (not of the containers), in KiB.
  struct Memory {
    uint64_t rss_kib = 0;
    uint64_t pss_kib = 0;
  };
  Memory memory() const;

 private:
  NodeUnderTest() = default;
  Status launch();
  void stop();
  Status wait_for(const std::string& service_id, uint64_t revision, uint64_t running);

  std::filesystem::path bin_dir_;
  std::filesystem::path dir_;
  pid_t pid_ = -1;
  std::unique_ptr<v1::Control::Stub> control_;
  std::unique_ptr<v1::Local::Stub> local_;
};

}  // namespace muster::bench
