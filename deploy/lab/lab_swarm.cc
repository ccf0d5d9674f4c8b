// A lab's nodes becoming one swarm.
#include <future>

#include "deploy/lab/lab.h"

namespace muster::deploy::lab {
namespace {

constexpr Duration kCommandPatience = 60s;
constexpr Duration kListPatience = 5s;
constexpr Duration kReadyPatience = 60s;

}  // namespace

Status Lab::bring_up() {
  MUSTER_TRY(power_on_hub());
  for (const NodePlan& node : state_.plan.nodes) {
    if (node.role != Role::kRegistry) MUSTER_TRY(power_on(node));
  }
  MUSTER_TRY(await_registry());
  say(fmt::format("{} serves images at {}", kHub, state_.plan.registry()));
  for (const NodePlan& node : state_.plan.nodes) {
    if (node.role == Role::kRegistry) continue;
    MUSTER_TRY(await_musterd(node));
    say(fmt::format("{} runs at {}", node.name, node.address.str()));
  }
  MUSTER_TRY(form_swarm());
  return await_ready();
}

Status Lab::form_swarm() {
  const NodePlan* first = nullptr;
  std::vector<const NodePlan*> managers, workers;
  for (const NodePlan& node : state_.plan.nodes) {
    if (node.role == Role::kManager && first == nullptr) {
      first = &node;
    } else if (node.role == Role::kManager) {
      managers.push_back(&node);
    } else if (node.role == Role::kWorker) {
      workers.push_back(&node);
    }
  }
  const auto on_first = [&](const std::vector<std::string>& words) {
    return call_muster(context_.muster, files_.socket(first->name), words, kCommandPatience,
                       context_.cancelled);
  };
  const auto initialised = on_first({"swarm", "init", "--advertise-addr", first->address.str()});
  if (!initialised) return initialised.error().with_context(first->name + ": swarm init");
  say(fmt::format("{} started the swarm", first->name));
  const std::string remote = fmt::format("{}:{}", first->address.str(), kSwarmPort);
  if (!managers.empty()) {
    MUSTER_ASSIGN(const std::string token, on_first({"swarm", "join-token", "-q", "manager"}));
    // One after another: each is a change of the group that decides.
    for (const NodePlan* node : managers) {
      MUSTER_TRY(join(*node, token, remote));
      say(fmt::format("{} joined as a manager", node->name));
    }
  }
  if (workers.empty()) return ok_status();
  MUSTER_ASSIGN(const std::string token, on_first({"swarm", "join-token", "-q", "worker"}));
  std::vector<std::future<Status>> joins;
  for (const NodePlan* node : workers) {
    joins.push_back(
        std::async(std::launch::async, [&, node] { return join(*node, token, remote); }));
  }
  Status outcome;
  for (size_t i = 0; i < joins.size(); ++i) {
    const Status joined = joins[i].get();
    if (joined.ok()) {
      say(fmt::format("{} joined as a worker", workers[i]->name));
    } else if (outcome.ok()) {
      outcome = joined;
    }
  }
  return outcome;
}

Status Lab::join(const NodePlan& node, const std::string& token, const std::string& remote) const {
  const auto joined = call_muster(
      context_.muster, files_.socket(node.name),
      {"swarm", "join", "--token", token, "--advertise-addr", node.address.str(), remote},
      kCommandPatience, context_.cancelled);
  return joined ? ok_status() : joined.error().with_context(node.name + ": swarm join");
}

Status Lab::await_ready() const {
  std::string first;
  for (const NodePlan& node : state_.plan.nodes) {
    if (node.role == Role::kManager && first.empty()) first = node.name;
  }
  std::string missing;
  const Status ready = await("all nodes to be ready", kReadyPatience, [&]() -> Result<bool> {
    const auto text = call_muster(context_.muster, files_.socket(first),
                                  {"node", "ls", "--format", std::string(kNodeListFormat)},
                                  kListPatience, context_.cancelled);
    missing = text ? not_ready(state_.plan, parse_node_list(*text)) : text.error().message();
    return missing.empty();
  });
  return ready.ok() ? ready : Status(ready.code(), fmt::format("{}: {}", ready.message(), missing));
}

}  // namespace muster::deploy::lab
