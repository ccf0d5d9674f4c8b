#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/images/image_store.h"
#include "agent/names/name_server.h"
#include "agent/runtime/runtime.h"
#include "agent/secrets/payload_files.h"
#include "agent/secrets/payloads.h"
#include "agent/volumes/volume_store.h"
#include "agent/worker/container_plan.h"
#include "agent/worker/host_files.h"
#include "base/log.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// Where a node keeps its containers' files.
struct TaskPaths {
  std::string data_dir;  // <data-dir>/agent
  std::string run_dir;   // volatile, of this instance

  std::string tasks() const { return data_dir + "/tasks"; }
  // Holds the boot id of the host's life that the records are of.
  std::string boot() const { return data_dir + "/boot"; }
  // What managers told of networks.
  std::string networks() const { return data_dir + "/networks"; }
  std::string containers() const { return data_dir + "/containers"; }
  // The bundle, the log and the files bound over /etc.
  std::string container(const std::string& id) const { return containers() + "/" + id; }
  // Secrets and configs, in memory.
  std::string secrets() const { return run_dir + "/secrets"; }
};

struct PrepareInput {
  v1::LocalTask task;
  NodeContext node;
  PayloadSet payloads;  // that the task refers to
  bool mesh = false;    // WorkerOptions
  std::function<void(const std::string& message)> progress;
  std::shared_ptr<const std::atomic<bool>> cancelled;
};

struct PreparedTask {
  ContainerRequest request;
  std::vector<v1::PortConfig> host_ports;  // of host mode, with the node's choice
  std::string image_digest;
  std::string command;  // for lists
  bool host_network = false;
};

// What the steps stand on; all outlive them.
struct StepPorts {
  Runtime& runtime;
  ImageStore& images;
  VolumeStore& volumes;
  overlay::NodeNetwork& network;
  HostFiles& files;
  PayloadFiles& payload_files;
  NameServer* names = nullptr;
};

// The blocking steps of a task's life. Every step can be repeated after a crash in its middle.
// Thread-safe as long as no two steps of one container run at once.
class TaskSteps {
 public:
  TaskSteps(std::string instance_id, TaskPaths paths, StepPorts ports);

  // Image, root file system, volumes, network, files. On failure the caller cleans up.
  Result<PreparedTask> prepare(const PrepareInput& input);
  // Brings the networks of a container that runs in line with its assignment; its resolver, too.
  // `left` is set to true once it is out of all others, see NodeNetwork::reconnect().
  Status reconnect(const v1::LocalTask& task, bool mesh, bool* left);
  // Whether that was ever begun, and so may not have come to its end.
  bool was_reconnected(const std::string& container_id) const;
  // Removes everything but the log. Goes on after an error and returns the first.
  Status clean_up(const std::string& container_id);
  // Removes the container's directory with the log.
  Status forget(const std::string& container_id);
  // The resolver that the container was given; nothing for one that has none.
  std::optional<v1::NetdContainer> resolver_of(const std::string& container_id) const;
  // Removes whatever of this instance belongs to none of the given containers; `known` have a
  // record (their log stays), `live` are not cleaned up yet.
  Status collect_garbage(const std::vector<std::string>& live,
                         const std::vector<std::string>& known);

 private:
  Result<std::string> mount_image(const v1::Mount& mount, const ContainerRequest& request);
  Status unmount_images(const std::string& container_id);
  Status prepare_mounts(const ImageHandle& image, ContainerRequest& request);
  Status prepare_network(const PrepareInput& input, const NetworkPlan& plan,
                         ContainerRequest& request);
  static overlay::ContainerNetworkRequest network_request(const v1::LocalTask& task,
                                                          const NetworkPlan& plan, bool mesh);
  Status give_resolver(const NetworkPlan& plan, const ContainerRequest& request);
  Status write_files(const NetworkPlan& plan, ContainerRequest& request);
  Status write_payloads(const PrepareInput& input, ContainerRequest& request);
  Result<std::vector<v1::PortConfig>> reserve_ports(const v1::LocalTask& task);

  std::string instance_id_;
  TaskPaths paths_;
  Runtime& runtime_;
  ImageStore& images_;
  VolumeStore& volumes_;
  overlay::NodeNetwork& network_;
  HostFiles& files_;
  PayloadFiles& payload_files_;
  NameServer* names_;
};

}  // namespace muster::agent
