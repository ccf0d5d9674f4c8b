#include "tests/sim/sim_host.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace muster::sim {
namespace {

v1::NodeDescription describe(const std::string& id, int64_t memory_bytes) {
  v1::NodeDescription description;
  description.set_hostname(id);
  description.mutable_platform()->set_os("linux");
  description.mutable_platform()->set_architecture("amd64");
  description.mutable_resources()->set_nano_cpus(4'000'000'000);
  description.mutable_resources()->set_memory_bytes(memory_bytes);
  return description;
}

bool to_stop(const SimHost::Container& c) {
  return c.removed || c.task.desired_state() >= v1::TASK_SHUTDOWN;
}

}  // namespace

SimHost::Agent::Agent(SimHost& the_host)
    : host(the_host),
      strand(the_host.deps_.world),
      session({strand, *this, *this, the_host.deps_.rng, null_log()},
              describe(the_host.id_, the_host.memory_bytes_), {"the manager"}) {}

SimHost::SimHost(Deps deps, std::string id)
    : deps_(std::move(deps)), id_(std::move(id)), strand_(deps_.world) {}

SimHost::~SimHost() = default;

void SimHost::start_agent() {
  if (agent_ != nullptr) return;
  agent_ = std::make_unique<Agent>(*this);
  agent_->strand.post([this] {
    agent_->session.start();
    // What the disk says is told anew; the manager may have missed the end of the last session.
    for (const auto& [id, container] : tasks_) report(container);
    tick();
  });
}

void SimHost::kill_agent() {
  agent_.reset();
  payloads_.clear();
}

void SimHost::restart_agent(Duration away) {
  if (agent_ == nullptr) return;
  agent_->strand.post([this, away] {
    agent_->session.stop(v1::Goodbye::RESTART, [this, away] {
      strand_.post([this] { kill_agent(); });
      strand_.after(away, [this] { start_agent(); });
    });
  });
}

void SimHost::resize(int64_t memory_bytes) {
  memory_bytes_ = memory_bytes;
  if (agent_ == nullptr) return;
  agent_->strand.post([this] { agent_->session.describe(describe(id_, memory_bytes_)); });
}

void SimHost::reboot() {
  kill_agent();
  for (auto& [id, container] : tasks_) {
    container.payloads.clear();
    if (std::exchange(container.alive, false)) container.exit_code = 137;
    // Prepared is only what is still there.
    if (container.state == v1::TASK_READY) container.state = v1::TASK_PREPARING;
  }
}

void SimHost::end_a_container() {
  std::vector<Container*> alive;
  for (auto& [id, container] : tasks_) {
    if (container.alive && container.state == v1::TASK_RUNNING) alive.push_back(&container);
  }
  if (alive.empty()) return;
  Container& container = *alive[deps_.rng.below(alive.size())];
  container.alive = false;
  container.exit_code = static_cast<int>(deps_.rng.below(2));
}

// ---------------------------------------------------------------- what the manager says

void SimHost::apply(const v1::FeedUpdate& step) {
  switch (step.feed().kind()) {
    case v1::FeedId::TASKS: return apply_tasks(step);
    case v1::FeedId::NETWORK: return apply_network(step);
    case v1::FeedId::SECRETS: return apply_secrets(step);
    default: return;
  }
}

void SimHost::apply_tasks(const v1::FeedUpdate& step) {
  std::set<std::string> told;
  for (const auto& revision : step.revisions()) revisions_[revision.id()] = revision;
  for (const auto& assignment : step.tasks()) {
    const v1::Task& task = assignment.task();
    told.insert(task.id());
    if (!revisions_.contains(manager::store::revision_id(task.service_id(), task.revision()))) {
      deps_.broken("a task came without its revision");
    }
    if (task.node_id() != id_) deps_.broken("a task came to the wrong node");
    Container& container = tasks_[task.id()];
    const bool before = to_stop(container);
    // Ended before we ever heard of it: nothing to do but to know it.
    if (container.task.id().empty() && task.status().state() > v1::TASK_RUNNING) {
      container.state = task.status().state();
    }
    container.task = task;
    container.removed = false;
    if (!before && to_stop(container)) container.told_to_stop = deps_.world.now();
  }
  for (auto& [id, container] : tasks_) {
    const bool gone = step.complete() && !told.contains(id);
    if (gone && !to_stop(container)) container.told_to_stop = deps_.world.now();
    container.removed = container.removed || gone;
  }
  for (const std::string& id : step.removed_task_ids()) {
    const auto it = tasks_.find(id);
    if (it == tasks_.end()) continue;
    if (!to_stop(it->second)) it->second.told_to_stop = deps_.world.now();
    it->second.removed = true;
  }
}

void SimHost::apply_network(const v1::FeedUpdate& step) {
  v1::NetworkFeed feed;
  if (!feed.ParseFromString(step.network())) return deps_.broken("a network feed does not parse");
  std::set<std::string>& members = members_[step.feed().network_id()];
  if (step.complete()) members.clear();
  for (const auto& endpoint : feed.endpoints()) members.insert(endpoint.task_id());
  for (const auto& id : feed.removed_task_ids()) members.erase(id);
}

void SimHost::apply_secrets(const v1::FeedUpdate& step) {
  for (const v1::SecretAssignment& piece : step.secrets()) {
    if (deps_.entitled(*this, piece.id())) continue;
    deps_.broken(
        fmt::format("{} is given payload {}, which none of its tasks uses (M7)", id_, piece.id()));
  }
  const Status status = payloads_.apply(step);
  if (!status.ok()) deps_.broken("a payload came in pieces that do not fit: " + status.message());
}

// What the task refers to, once all of it is here.
bool SimHost::take_payloads(Container& container) {
  const v1::Task& task = container.task;
  const auto revision =
      revisions_.find(manager::store::revision_id(task.service_id(), task.revision()));
  if (revision == revisions_.end()) return false;
  const v1::ContainerSpec& spec = revision->second.spec().container();
  agent::PayloadSet taken;
  for (const auto& secret : spec.secrets()) {
    taken[secret.secret_id()] = payloads_.find(secret.secret_id());
  }
  for (const auto& config : spec.configs()) {
    taken[config.config_id()] = payloads_.find(config.config_id());
  }
  for (const auto& [id, payload] : taken) {
    if (payload == nullptr) return false;
  }
  container.payloads = std::move(taken);
  return true;
}

// ---------------------------------------------------------------- the worker

void SimHost::tick() {
  for (auto it = tasks_.begin(); it != tasks_.end();) {
    work(it->second);
    const bool forget = it->second.removed && it->second.state > v1::TASK_RUNNING;
    it = forget ? tasks_.erase(it) : std::next(it);
  }
  const auto pause = Duration(1ms) * static_cast<int64_t>(5 + deps_.rng.below(60));
  agent_->strand.after(pause, [this] { tick(); });
}

void SimHost::work(Container& container) {
  if (container.state > v1::TASK_RUNNING) return;
  if (container.exit_code) {
    const bool failed = *container.exit_code != 0;
    move(container, failed ? v1::TASK_FAILED : v1::TASK_COMPLETE,
         failed ? fmt::format("exit code {}", *container.exit_code) : "");
    return;
  }
  if (to_stop(container)) return stop(container);
  switch (container.state) {
    case v1::TASK_ASSIGNED: return move(container, v1::TASK_ACCEPTED);
    case v1::TASK_ACCEPTED: return move(container, v1::TASK_PREPARING);
    case v1::TASK_PREPARING:
      if (chance(40)) return move(container, v1::TASK_REJECTED, "no such image");
      if (!take_payloads(container)) return;
      return move(container, v1::TASK_READY);
    case v1::TASK_READY:
      if (container.task.desired_state() < v1::TASK_RUNNING) return;
      container.alive = true;
      deps_.on_start(*this, container);
      return move(container, v1::TASK_STARTING);
    case v1::TASK_STARTING:
      if (chance(40)) {
        container.alive = false;
        return move(container, v1::TASK_FAILED, "the command was not found");
      }
      // What a job does comes to an end, well or not.
      if (container.task.job_iteration() != 0) {
        container.ends_at =
            deps_.world.now() + Duration(1ms) * static_cast<int64_t>(deps_.rng.below(4'000));
      }
      return move(container, v1::TASK_RUNNING);
    case v1::TASK_RUNNING:
      if (!container.alive || !container.ends_at || deps_.world.now() < *container.ends_at) return;
      container.alive = false;
      container.exit_code = chance(3) ? 1 : 0;
      return;
    default: return;
  }
}

void SimHost::stop(Container& container) {
  const TimePoint now = deps_.world.now();
  if (container.alive && !container.stops_at) {
    const bool stubborn = chance(20);  // ends only by the kill after its grace
    container.stops_at =
        now +
        (stubborn ? Duration(10s) : Duration(1ms) * static_cast<int64_t>(deps_.rng.below(1'500)));
  }
  if (container.alive && now < *container.stops_at) return;
  container.alive = false;
  move(container, v1::TASK_SHUTDOWN);
}

void SimHost::move(Container& container, v1::TaskState state, std::string error) {
  container.state = state;
  if (state > v1::TASK_RUNNING) container.payloads.clear();
  container.error = std::move(error);
  report(container);
}

void SimHost::report(const Container& container) {
  v1::TaskStatusUpdate update;
  update.set_task_id(container.task.id());
  update.mutable_status()->set_state(container.state);
  update.mutable_status()->set_timestamp_ns(deps_.world.wall_now().unix_ns);
  update.mutable_status()->set_error(container.error);
  if (container.state == v1::TASK_RUNNING) update.set_endpoint_state(v1::ENDPOINT_READY);
  agent_->session.report(std::move(update));
}

}  // namespace muster::sim
