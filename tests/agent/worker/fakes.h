#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/images/image_store.h"
#include "agent/volumes/volume_store.h"
#include "agent/worker/blocking_pool.h"
#include "agent/worker/health_monitor.h"
#include "base/sim_executor.h"
#include "overlay/dataplane/node_network.h"

namespace muster::agent {

// Runs steps on a strand of the simulation, `delay` after their posting.
class SimPool final : public BlockingPool {
 public:
  explicit SimPool(SimWorld& world, Duration delay = 1ms) : strand_(world), delay_(delay) {}
  void post(UniqueFunction<void()> work) override { strand_.after(delay_, std::move(work)); }
  void set_delay(Duration delay) { delay_ = delay; }

 private:
  SimExecutor strand_;
  Duration delay_;
};

class FakeRuntime final : public Runtime {
 public:
  struct Container {
    ContainerState state;
    std::function<void(ContainerExit)> exited;
    ContainerRequest request;
    std::vector<int> signals;
  };

  RuntimeInfo info() const override { return {}; }
  Result<ContainerState> start(const ContainerRequest& request) override {
    if (!start_error.ok()) return fail(start_error);
    ++starts;
    Container& c = containers[request.container_id];
    c.request = request;
    c.state.phase = ContainerState::Phase::kRunning;
    c.state.pid = 100 + starts;
    return c.state;
  }
  Status watch_exit(const std::string& id, const std::string&,
                    std::function<void(ContainerExit)> exited) override {
    Container& c = containers[id];
    if (c.state.exit) {
      exited(*c.state.exit);
    } else {
      c.exited = std::move(exited);
    }
    return {};
  }
  Result<ContainerState> inspect(const std::string& id, const std::string&) override {
    const auto found = containers.find(id);
    return found == containers.end() ? ContainerState() : found->second.state;
  }
  Status kill(const std::string& id, int signal) override {
    events.push_back("signal " + std::to_string(signal));
    const auto found = containers.find(id);
    if (found == containers.end()) return {};
    found->second.signals.push_back(signal);
    if (clock != nullptr) sent.emplace_back(signal, clock->now());
    if (signal == 9 || !ignores_term) end(id, {128 + signal, false, {}});
    return {};
  }
  Status remove(const std::string& id, const std::string&) override {
    containers.erase(id);
    return {};
  }
  Result<std::vector<std::string>> list() override {
    std::vector<std::string> out;
    for (const auto& [id, c] : containers) out.push_back(id);
    return out;
  }
  // The container's process ends.
  void end(const std::string& id, ContainerExit exit) {
    Container& c = containers[id];
    c.state.phase = ContainerState::Phase::kExited;
    c.state.exit = exit;
    if (auto exited = std::exchange(c.exited, nullptr)) exited(exit);
  }

  std::map<std::string, Container> containers;
  std::vector<std::string> events;
  const Clock* clock = nullptr;
  std::vector<std::pair<int, TimePoint>> sent;  // signals, by the clock
  Status start_error;
  bool ignores_term = false;
  int starts = 0;
};

class FakeImages final : public ImageStore {
 public:
  Result<ImageHandle> ensure(const PullRequest& request) override {
    if (request.cancelled && request.cancelled->load()) {
      return fail(StatusCode::kCancelled, "cancelled");
    }
    if (!error.ok()) return fail(error);
    if (request.progress) {
      request.progress({PullProgress::Step::kDownloading, 12'300'000, 40'000'000});
    }
    ImageHandle image;
    image.digest = "sha256:1";
    image.config.cmd = {"serve"};
    image.config.stop_signal = "SIGINT";
    image.config.shell = shell;
    return image;
  }
  Result<ImageHandle> find(const std::string&) override { return fail(not_found("none")); }
  Result<RemoteImage> inspect_remote(const PullRequest&, Duration) override {
    return RemoteImage();
  }
  Result<std::string> mount_root(const ImageHandle&, const std::string& id) override {
    roots.insert(id);
    return std::string("/nonexistent/") + id;
  }
  Status unmount_root(const std::string& id) override {
    roots.erase(id);
    return {};
  }
  Result<std::vector<std::string>> mounted_roots() override {
    return std::vector<std::string>(roots.begin(), roots.end());
  }
  Result<std::vector<v1::Image>> list() override { return std::vector<v1::Image>(); }
  Result<std::vector<v1::Image>> load(const std::string&) override {
    return std::vector<v1::Image>();
  }
  Result<v1::RemoveImageResponse> remove(const std::string&, bool) override {
    return v1::RemoveImageResponse();
  }
  Result<v1::PruneImagesResponse> prune(bool) override { return v1::PruneImagesResponse(); }

  Status error;
  std::vector<std::string> shell;
  std::set<std::string> roots;
};

class FakeVolumes final : public VolumeStore {
 public:
  Result<std::string> acquire(const v1::Mount& mount, const std::string&,
                              const std::string& id) override {
    uses[id].push_back(mount.source());
    return "/volumes/" + mount.source();
  }
  Status release(const std::string& id) override {
    uses.erase(id);
    return {};
  }
  Result<std::vector<v1::LocalVolume>> list() override { return std::vector<v1::LocalVolume>(); }
  Result<v1::LocalVolume> create(const v1::CreateVolumeRequest&) override {
    return v1::LocalVolume();
  }
  Result<v1::LocalVolume> inspect(const std::string&) override { return v1::LocalVolume(); }
  Status remove(const std::string&, bool) override { return {}; }
  Result<v1::PruneVolumesResponse> prune(bool) override { return v1::PruneVolumesResponse(); }

  std::map<std::string, std::vector<std::string>> uses;
};

class FakeNetwork final : public overlay::NodeNetwork {
 public:
  explicit FakeNetwork(std::vector<std::string>& events) : events_(events) {}
  Result<std::string> attach(const overlay::ContainerNetworkRequest& request) override {
    attached.insert(request.container_id);
    return "/netns/" + request.container_id;
  }
  Status reconnect(const overlay::ContainerNetworkRequest& request, bool* left) override {
    std::string networks;
    for (const auto& link : request.links) {
      networks += " " + link.network.id() + (link.by_hand ? "*" : "");
    }
    events_.push_back("reconnect" + networks);
    *left = reconnect_error.ok() || reconnect_leaves;
    return reconnect_error;
  }
  Status detach(const std::string& id) override {
    attached.erase(id);
    return {};
  }
  Status set_published_ports(const std::vector<overlay::PublishedPort>& ports,
                             std::vector<v1::PortConfig>* conflicts) override {
    size_t backends = 0;
    for (const auto& port : ports) backends += port.backends.size();
    events_.push_back("ports " + std::to_string(backends));
    if (!ports_error.ok()) return ports_error;
    published = ports;
    for (const auto& port : ports) {
      if (taken.count(port.port.published_port()) != 0) conflicts->push_back(port.port);
    }
    if (!conflicts->empty()) return already_exists("port in use");
    return {};
  }
  Status set_local_node(const overlay::LocalNode& node) override {
    local = node;
    events_.push_back("local " + node.data_path_addr + ":" + std::to_string(node.data_path_port));
    return {};
  }
  Status set_encryption(const overlay::Encryption& told) override {
    encryption = told;
    std::string keys;
    for (const auto& key : told.keys) {
      keys += " " + std::to_string(key.number) + (key.used ? "*" : "");
    }
    events_.push_back("keys" + keys);
    return encryption_error;
  }
  Status apply(const overlay::NetworkStep& step) override {
    steps.push_back(step);
    events_.push_back("step " + step.network_id);
    return apply_error;
  }
  Status forget_network(const std::string& id) override {
    events_.push_back("forget network " + id);
    return {};
  }
  std::vector<std::string> repair() override {
    ++repairs;
    return std::exchange(differences, {});
  }
  std::string no_overlays() const override { return lacking; }
  Result<uint32_t> reserve_host_port(v1::PortConfig::Protocol) override { return 40000; }
  Status collect_garbage(const std::vector<std::string>& live) override {
    std::erase_if(attached, [&](const std::string& id) {
      return std::find(live.begin(), live.end(), id) == live.end();
    });
    return {};
  }
  Status teardown() override { return {}; }

  std::set<std::string> attached;
  std::vector<overlay::PublishedPort> published;
  std::set<uint32_t> taken;
  Status ports_error;  // of the kernel, which has what it had
  overlay::LocalNode local;
  std::vector<overlay::NetworkStep> steps;
  overlay::Encryption encryption;
  Status encryption_error;
  Status apply_error;
  Status reconnect_error;
  bool reconnect_leaves = false;  // though it fails
  int repairs = 0;
  std::vector<std::string> differences;
  std::string lacking;  // why no overlay network can be entered

 private:
  std::vector<std::string>& events_;
};

class FakeHealth final : public HealthProbe {
 public:
  HealthResult run(const std::string&, const std::string&, const std::vector<std::string>& command,
                   Duration) override {
    ++probes;
    last_command = command;
    return {exit_code, "said so", "", gone};
  }
  int exit_code = 0;
  bool gone = false;
  int probes = 0;
  std::vector<std::string> last_command;
};

}  // namespace muster::agent
