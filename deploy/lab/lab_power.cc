// A lab's nodes coming up.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/remove_tree.h"
#include "base/unique_fd.h"
#include "deploy/lab/cables.h"
#include "deploy/lab/lab.h"
#include "deploy/lab/log_tail.h"
#include "deploy/lab/node_cgroups.h"
#include "deploy/lab/node_space.h"

namespace muster::deploy::lab {
namespace {

constexpr Duration kComeUpPatience = 30s;

bool accepts(const sockaddr* address, socklen_t size) {
  const UniqueFd fd(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd && connect(fd.get(), address, size) == 0;
}

bool accepts_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  return accepts(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

bool accepts_at(const overlay::Ip& ip, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(static_cast<uint32_t>(ip.value));
  return accepts(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

std::string resolvers_of_host() {
  // Behind systemd-resolved, its own list has the addresses that /etc/resolv.conf hides.
  for (const char* path : {"/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"}) {
    if (auto text = read_file(path, 1 << 16)) return *std::move(text);
  }
  return {};
}

std::string registry_config(const LabPlan& plan, const std::string& storage) {
  return fmt::format(
      "version: 0.1\n"
      "log: {{level: error}}\n"
      "storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n"
      "http: {{addr: {}}}\n",
      storage, plan.registry());
}

std::string musterd_config(const LabState& state, const LabFiles& files, const std::string& node) {
  std::string text = fmt::format(
      "# made by muster lab; read at each start of this node\n"
      "data-dir: {}\n"
      "socket: {}\n"
      "insecure-registry: [\"{}\", \"{}:{}\"]\n",
      files.data(node), files.socket(node), state.plan.registry(), kHub, kRegistryPort);
  if (!state.log_level.empty()) text += fmt::format("log-level: {}\n", state.log_level);
  return text;
}

// Writes what the user may have changed since only if it is not there.
Status write_once(const std::string& path, const std::string& text) {
  if (std::filesystem::exists(path)) return ok_status();
  return write_file_atomic(path, text, 0644, Durability::kNone);
}

}  // namespace

Status Lab::power_on_hub() {
  const NodePlan& hub = *state_.plan.find(kHub);
  auto init = find_init(files_.dir(), hub.name);
  if (!init) {
    MUSTER_TRY(make_directory(files_.data(hub.name), 0755));
    MUSTER_TRY(make_directory(files_.etc(hub.name), 0755));
    MUSTER_TRY(write_file_atomic(files_.etc(hub.name) + "/hosts", hosts_file(state_.plan, hub.name),
                                 0644, Durability::kNone));
    MUSTER_ASSIGN(init, create_node(context_.muster, files_.dir(), hub.name, files_.cgroup()));
  }
  MUSTER_TRY(lay_hub(state_.plan, *init));
  if (state_.nat) {
    // Noted before it is done, so that `down` takes it back whatever happens in between.
    MUSTER_ASSIGN(const bool forwards, host_forwards());
    if (!forwards) {
      state_.ip_forward_set = true;
      MUSTER_TRY(save());
    }
    MUSTER_TRY(open_way_out(state_.plan));
  }
  // A hub that had ended took all cables with it.
  for (const InitProcess& node : find_inits(files_.dir())) {
    if (node.node != hub.name) MUSTER_TRY(lay_cable(state_.plan, *init, node, state_.nat));
  }
  return start_registry(*init);
}

Status Lab::start_registry(const InitProcess& hub) {
  const std::string name(kHub);
  if (find_in_node(hub, files_.config(name))) return ok_status();
  state_.ended.erase(name);
  MUSTER_TRY(save());
  const std::string config = files_.config(name);
  MUSTER_TRY(write_once(config, registry_config(state_.plan, files_.data(name))));
  return launch_inside(hub, {find_program("docker-registry"), "serve", config}, files_.log(name));
}

Status Lab::await_registry() const {
  const NodePlan& hub = *state_.plan.find(kHub);
  return await_up(hub, [&] { return accepts_at(hub.address, kRegistryPort); });
}

Status Lab::power_on(const NodePlan& node) {
  const auto hub = find_init(files_.dir(), std::string(kHub));
  if (!hub) return failed_precondition("the lab's switch does not run");
  auto init = find_init(files_.dir(), node.name);
  if (!init) {
    // A machine that was switched off: what is mounted and bound is gone, what is on the disk
    // stays.
    MUSTER_TRY(remove_tree(files_.run(node.name)));
    MUSTER_TRY(remove_cgroups_of(files_.data(node.name)));
    for (const std::string& directory :
         {files_.run(node.name), files_.etc(node.name), files_.data(node.name)})
      MUSTER_TRY(make_directory(directory, 0755));
    MUSTER_TRY(write_file_atomic(files_.etc(node.name) + "/hosts",
                                 hosts_file(state_.plan, node.name), 0644, Durability::kNone));
    MUSTER_TRY(write_file_atomic(files_.etc(node.name) + "/resolv.conf",
                                 resolv_conf(resolvers_of_host(), state_.nat), 0644,
                                 Durability::kNone));
    MUSTER_ASSIGN(init, create_node(context_.muster, files_.dir(), node.name, files_.cgroup()));
  }
  MUSTER_TRY(lay_cable(state_.plan, *hub, *init, state_.nat));
  // Before musterd says its first word.
  MUSTER_TRY(apply_cuts(state_.plan, state_.cuts, *init));
  return start_musterd(node, *init);
}

Status Lab::start_musterd(const NodePlan& node, const InitProcess& init) {
  state_.ended.erase(node.name);
  MUSTER_TRY(save());
  MUSTER_TRY(write_once(files_.config(node.name), musterd_config(state_, files_, node.name)));
  return launch_inside(init, {state_.musterd, "--config", files_.config(node.name)},
                       files_.log(node.name));
}

Status Lab::await_up(const NodePlan& node, const std::function<bool()>& answers) const {
  // A process has no command line for the moment in which it becomes another program.
  constexpr int kMissesMax = 3;
  int misses = 0;
  const Status up = await(node.name + " to answer", kComeUpPatience, [&]() -> Result<bool> {
    if (main_process(node)) {
      misses = 0;
      return answers();
    }
    if (++misses < kMissesMax) return false;
    return fail(unavailable("{} has ended by itself", node.name));
  });
  if (!up.ok()) {
    const std::string tail = log_tail(files_.log(node.name), 1);
    return up.with_context(tail.empty() ? files_.log(node.name) : tail.substr(0, tail.find('\n')));
  }
  MUSTER_ASSIGN(const Held server, need_process(node));
  return adopt(server, files_.cgroup());
}

Status Lab::await_musterd(const NodePlan& node) const {
  return await_up(node, [&] { return accepts_at(files_.socket(node.name)); });
}

Status Lab::start(const std::vector<std::string>& nodes) {
  // Whichever node is asked for, it needs the switch.
  const bool was_on = find_init(files_.dir(), std::string(kHub)).has_value();
  std::vector<NodePlan> plans;
  for (const std::string& name : nodes) {
    MUSTER_ASSIGN(NodePlan node, find(name));
    plans.push_back(std::move(node));
  }
  for (const NodePlan& node : plans) {
    if (main_process(node)) return failed_precondition("{} runs already", node.name);
  }
  const bool registry_asked = std::any_of(plans.begin(), plans.end(), [](const NodePlan& node) {
    return node.role == Role::kRegistry;
  });
  if (!was_on || registry_asked) {
    MUSTER_TRY(power_on_hub());
    MUSTER_TRY(await_registry());
  }
  for (const NodePlan& node : plans) {
    if (node.role != Role::kRegistry) MUSTER_TRY(power_on(node));
  }
  for (const NodePlan& node : plans) {
    if (node.role != Role::kRegistry) MUSTER_TRY(await_musterd(node));
  }
  return ok_status();
}

}  // namespace muster::deploy::lab
