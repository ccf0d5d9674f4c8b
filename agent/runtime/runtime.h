#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/strong_id.h"
#include "base/time.h"
#include "muster/v1/objects.pb.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// The image's own configuration, as far as a container inherits it (OCI image-spec config.md).
struct ImageConfig {
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> env;
  std::string working_dir;
  std::string user;
  std::string stop_signal;
  std::vector<std::string> volumes;        // absolute paths, sorted
  std::vector<std::string> exposed_ports;  // "80/tcp"
  std::vector<v1::KeyValue> labels;
  v1::HealthCheck healthcheck;
  std::vector<std::string> shell;  // for health checks of the shell form; empty = /bin/sh -c
};

// A mount that the agent has already prepared on the host.
struct PreparedMount {
  std::string source;                // host path; empty for tmpfs
  v1::Mount spec;                    // type, target (templates expanded), options
  std::vector<std::string> options;  // of a bind, besides what the spec says: "nosuid"
};

// Everything needed to run one container; the agent's worker puts it together.
struct ContainerRequest {
  std::string container_id;  // 64 hex digits, unique on the host
  std::string instance_id;   // of this musterd; part of every global name (cgroup path)
  TaskId task_id;
  std::string name;   // "<task name>.<task id>"
  v1::TaskSpec spec;  // templates expanded
  ImageConfig image;
  std::string rootfs;      // mounted root file system on the host
  std::string bundle_dir;  // existing, private to this container
  std::vector<PreparedMount> mounts;
  std::string network_namespace;  // path to join; empty = the host's namespace
  std::string hostname;
  std::string hosts_file;  // host paths of the files bound over /etc/...; empty = none
  std::string resolv_conf_file;
  std::string hostname_file;
  std::vector<v1::KeyValue> labels;    // com.docker.swarm.* and the spec's
  std::vector<std::string> extra_env;  // DOCKER_RESOURCE_*=...
  v1::LogDriver log_driver;
};

struct ContainerExit {
  int exit_code = 0;  // 128+n for signal n
  bool oom_killed = false;
  WallTime finished_at;
};

// What a container is doing, as found on the host.
struct ContainerState {
  enum class Phase { kAbsent, kCreated, kRunning, kExited };
  Phase phase = Phase::kAbsent;
  int64_t pid = 0;
  std::optional<ContainerExit> exit;
};

// What is found of a host at start and shown in `muster info`.
struct RuntimeInfo {
  std::string name;            // "crun 1.8.1"
  std::string cgroup_version;  // "1", "hybrid", "2"
  std::vector<std::string> limitations;
};

// Runs containers with an OCI runtime under conmon. Calls block (tens of milliseconds) and are
// thread-safe; containers outlive the object and the process.
class Runtime {
 public:
  virtual ~Runtime() = default;

  virtual RuntimeInfo info() const = 0;

  // Makes the container and starts its process. On failure nothing is left (cgroup, processes).
  // Errors are for users: "command not found: \"nginxx\"" (NOT_FOUND), "permission denied: ...".
  virtual Result<ContainerState> start(const ContainerRequest& request) = 0;

  // Calls `exited` once when the container has ended, at once if it already has. From a thread of
  // the runtime's own. Also for containers started by an earlier process (adoption).
  virtual Status watch_exit(const std::string& container_id, const std::string& bundle_dir,
                            std::function<void(ContainerExit)> exited) = 0;

  // Looks at the host; what an adopting worker asks.
  virtual Result<ContainerState> inspect(const std::string& container_id,
                                         const std::string& bundle_dir) = 0;

  // Sends a signal to the container's first process; OK when it has ended already.
  virtual Status kill(const std::string& container_id, int signal) = 0;

  // Kills what is left and deletes the runtime's state and the cgroup. Idempotent.
  virtual Status remove(const std::string& container_id, const std::string& bundle_dir) = 0;

  // Ids of containers of this instance that the host knows, for finding left-overs.
  virtual Result<std::vector<std::string>> list() = 0;
};

}  // namespace muster::agent
