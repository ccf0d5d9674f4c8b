#include "tests/sim/agent/sim_runtime.h"

#include <signal.h>

#include <utility>

namespace muster::sim {

using agent::ContainerExit;
using agent::ContainerState;
using Phase = agent::ContainerState::Phase;

namespace {

constexpr Duration kDefaultGrace = 10s;

}  // namespace

Duration SimRuntime::Container::grace() const {
  const v1::ContainerSpec& spec = request.spec.container();
  return spec.has_stop_grace_period_ns() ? Duration(spec.stop_grace_period_ns()) : kDefaultGrace;
}

Result<ContainerState> SimRuntime::start(const agent::ContainerRequest& request) {
  const std::string& id = request.container_id;
  if (!machine_.step(5ms)) return fail(process_is_dead());
  const auto [at, fresh] = containers_.try_emplace(id);
  if (!fresh) {
    machine_.broken("container " + id.substr(0, 6) + " of " + request.name + " is started twice");
    return fail(already_exists("container {} exists", id));
  }
  at->second.request = request;
  at->second.state.phase = Phase::kCreated;
  const bool slow = machine_.troubles.task_fails && machine_.one_in(20);
  SimPool::wait(machine_.up_to(slow ? Duration(3s) : Duration(40ms)));
  const auto found = containers_.find(id);
  if (found == containers_.end()) return fail(process_is_dead());
  if (!machine_.process.alive()) {
    // Those that it had started for it may have come to the end.
    if (machine_.one_in(2)) run(found->second);
    return fail(process_is_dead());
  }
  if (machine_.troubles.task_fails && machine_.one_in(40)) {
    containers_.erase(found);
    return fail(not_found("command not found: \"serve\""));
  }
  run(found->second);
  const ContainerState state = found->second.state;
  return machine_.process.effect() ? Result<ContainerState>(state) : fail(process_is_dead());
}

void SimRuntime::run(Container& c) {
  for (const auto& [id, other] : containers_) {
    if (&other == &c || !other.runs() || other.task_id() != c.task_id()) continue;
    machine_.broken("two containers of " + c.request.name + " run");
  }
  c.state.phase = Phase::kRunning;
  c.state.pid = ++pids_;
  c.stubborn = machine_.troubles.task_fails && machine_.one_in(20);
  if (machine_.troubles.unhealthy && machine_.one_in(6)) {
    c.ill = machine_.world.now() + machine_.up_to(20s);
  }
  events_.started(c);
}

Status SimRuntime::watch_exit(const std::string& id, const std::string&,
                              std::function<void(ContainerExit)> exited) {
  if (!machine_.process.effect()) return process_is_dead();
  const auto found = containers_.find(id);
  if (found == containers_.end()) return not_found("no container {}", id);
  Container& c = found->second;
  if (c.state.exit) {
    exited(*c.state.exit);
  } else {
    c.exited = std::move(exited);
  }
  return {};
}

Result<ContainerState> SimRuntime::inspect(const std::string& id, const std::string&) {
  const auto found = containers_.find(id);
  return found == containers_.end() ? ContainerState() : found->second.state;
}

Status SimRuntime::kill(const std::string& id, int signal) {
  if (!machine_.step(2ms)) return process_is_dead();
  const auto found = containers_.find(id);
  if (found == containers_.end() || !found->second.runs()) return {};
  Container& c = found->second;
  events_.signalled(c, signal);
  if (signal == SIGKILL) {
    end_after(id, machine_.up_to(5ms), 128 + SIGKILL);
    return {};
  }
  if (std::exchange(c.asked, machine_.world.now())) return {};
  if (!c.stubborn) end_after(id, machine_.up_to(1500ms), machine_.one_in(2) ? 0 : 128 + signal);
  return {};
}

Status SimRuntime::remove(const std::string& id, const std::string&) {
  if (!machine_.step(10ms)) return process_is_dead();
  const auto found = containers_.find(id);
  if (found == containers_.end()) return {};
  if (found->second.runs()) {
    events_.signalled(found->second, 0);
    end(id, 128 + SIGKILL);
  }
  containers_.erase(id);
  return {};
}

Result<std::vector<std::string>> SimRuntime::list() {
  std::vector<std::string> out;
  for (const auto& [id, c] : containers_) out.push_back(id);
  return out;
}

std::optional<bool> SimRuntime::probe(const std::string& id) {
  const auto found = containers_.find(id);
  if (found == containers_.end() || !found->second.runs()) return std::nullopt;
  Container& c = found->second;
  const bool ill = machine_.troubles.unhealthy && c.ill && machine_.world.now() >= *c.ill;
  c.seen_ill = c.seen_ill || ill;
  return ill;
}

void SimRuntime::end_after(const std::string& id, Duration d, int exit_code) {
  machine_.strand.after(d, [this, id, exit_code] { end(id, exit_code); });
}

void SimRuntime::end(const std::string& id, int exit_code) {
  const auto found = containers_.find(id);
  if (found == containers_.end() || !found->second.runs()) return;
  Container& c = found->second;
  c.state.phase = Phase::kExited;
  c.state.exit = ContainerExit{exit_code, false, machine_.world.wall_now()};
  events_.ended(c);
  if (const auto exited = std::exchange(c.exited, nullptr)) exited(*c.state.exit);
}

void SimRuntime::process_ended() {
  for (auto& [id, c] : containers_) c.exited = nullptr;
}

void SimRuntime::power_off() {
  for (auto& [id, c] : containers_) {
    if (!c.runs()) continue;
    c.state.phase = Phase::kExited;
    events_.ended(c);
  }
  containers_.clear();
}

}  // namespace muster::sim
