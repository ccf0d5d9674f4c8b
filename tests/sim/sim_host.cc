#include "tests/sim/sim_host.h"

#include <fmt/format.h>
#include <signal.h>

#include <utility>
#include <vector>

namespace muster::sim {
namespace {

constexpr size_t kPrepareThreads = 8;
constexpr size_t kStepThreads = 4;
constexpr size_t kHealthThreads = 64;
const agent::TaskPaths kPaths{"/data", "/run"};

std::string data_path_of(const std::string& id) {
  return "address of " + id;
}

v1::NodeDescription description_of(const std::string& id, int64_t memory_bytes) {
  v1::NodeDescription description;
  description.set_hostname(id);
  description.mutable_platform()->set_os("linux");
  description.mutable_platform()->set_architecture("amd64");
  description.mutable_resources()->set_nano_cpus(4'000'000'000);
  description.mutable_resources()->set_memory_bytes(memory_bytes);
  description.mutable_data_path()->set_address(data_path_of(id));
  description.mutable_data_path()->set_mtu(1500);
  return description;
}

bool to_stop(const SimHost::Container& c) {
  return c.removed || c.task.desired_state() >= v1::TASK_SHUTDOWN;
}

}  // namespace

// One life of musterd.
struct SimHost::Agent final : agent::FeedSink, agent::LinkFactory {
  explicit Agent(SimHost& the_host)
      : host(the_host),
        strand(host.deps_.world),
        prepare_pool(host.deps_.world, host.machine_.stacks, kPrepareThreads),
        step_pool(host.deps_.world, host.machine_.stacks, kStepThreads),
        health_pool(host.deps_.world, host.machine_.stacks, kHealthThreads),
        worker(deps(), options()),
        session({strand, *this, *this, host.rng_, null_log()}, host.describe(), {"the manager"}) {}

  agent::WorkerDeps deps() {
    agent::WorkerDeps out{strand,
                          prepare_pool,
                          step_pool,
                          health_pool,
                          host.runtime_,
                          host.images_,
                          host.volumes_,
                          host.network_,
                          host.health_,
                          host.files_,
                          host.payload_files_,
                          host.rng_,
                          [this](v1::TaskStatusUpdate update) { host.reported(std::move(update)); },
                          null_log()};
    out.names = &host.names_;
    out.flows = &host.flows_;
    out.applied = [this](const v1::FeedId& feed, uint64_t version) {
      session.applied(feed, version);
    };
    out.forgotten = [this](const v1::FeedId& feed) { session.forgotten(feed); };
    return out;
  }
  agent::WorkerOptions options() const {
    agent::WorkerOptions out;
    out.instance_id = host.id_;
    out.data_dir = kPaths.data_dir;
    out.run_dir = kPaths.run_dir;
    out.boot_id = fmt::format("{}", host.boots_);
    out.mesh = true;
    out.node.node_id = host.id_;
    out.node.hostname = host.id_;
    out.node.architecture = "x86_64";
    out.data_path_addr = data_path_of(host.id_);
    return out;
  }
  void start() {
    const Status status = worker.start();
    if (!host.machine_.process.alive()) return;
    if (!status.ok()) return host.broken("the worker does not start: " + status.message());
    host.forget_unknown();  // a record that cannot be read is none
    for (const auto& [id, c] : host.runtime_.containers()) {
      if (c.runs()) host.machine_.met("container adopted");
    }
    if (const Status left = host.check_left_over(); !left.ok()) host.deps_.broken(left.message());
    if (host.deps_.identity != nullptr) {
      host.deps_.identity->started(strand, [this] {
        // Not inside what the session has just told.
        strand.post([this] {
          session.describe(host.describe());
          session.renew();
        });
      });
    }
    session.start();
  }
  void pause(bool on) {
    on ? strand.pause() : strand.resume();
    for (SimPool* pool : {&prepare_pool, &step_pool, &health_pool}) {
      on ? pool->pause() : pool->resume();
    }
  }

  void apply(const v1::FeedUpdate& step) override {
    if (!host.machine_.process.alive()) return;
    host.apply(step);
    worker.apply(step);
    if (step.has_cluster() && host.deps_.identity != nullptr) {
      host.deps_.identity->heard(step.cluster());
    }
  }
  void node_removed(const std::string& why) override { host.broken("removed: " + why); }
  void certificate_outdated(const std::string& why) override {
    if (host.deps_.identity != nullptr) host.deps_.identity->outdated(why);
  }
  std::unique_ptr<agent::ManagerLink> open(const std::string&, agent::LinkEvents events) override {
    ++host.links_;
    return host.deps_.network.open(host.id_, strand, std::move(events));
  }

  SimHost& host;
  SimExecutor strand;
  SimPool prepare_pool;
  SimPool step_pool;
  SimPool health_pool;
  agent::Worker worker;
  agent::Session session;
};

SimHost::SimHost(Deps deps, std::string id, uint64_t seed)
    : deps_(std::move(deps)),
      id_(std::move(id)),
      rng_(seed),
      strand_(deps_.world),
      machine_{deps_.world,
               strand_,
               rng_,
               deps_.troubles,
               [this](std::string what) { broken(what); },
               [this](std::string_view probe) { deps_.probes.hit(probe); },
               {},
               {}},
      runtime_(machine_,
               {[this](const auto& c) { started(c); }, [this](const auto& c) { ended(c); },
                [this](const auto& c, int signal) { signalled(c, signal); }}) {
  network_.on_passed_by = [this](const std::string& network_id, const std::string& task_id) {
    if (deps_.on_passed_by) deps_.on_passed_by(*this, network_id, task_id);
  };
  network_.on_port_closed = [this](const overlay::PublishedPort& port) {
    if (deps_.on_port_closed) deps_.on_port_closed(*this, port);
  };
  files_.on_removed = [this](const std::string& path) { removed_file(path); };
  machine_.process.died = [this] {
    machine_.met("agent killed in the middle of a step");
    agent_->pause(true);  // it says nothing any more
    strand_.post([this] {
      if (machine_.process.alive()) return;  // there is another one
      kill_agent();
      strand_.after(away_, [this] { start_agent(); });
    });
  };
}

SimHost::~SimHost() {
  kill_agent();
}

v1::NodeDescription SimHost::describe() const {
  v1::NodeDescription description = description_of(id_, memory_bytes_);
  if (deps_.identity != nullptr) *description.mutable_tls() = deps_.identity->tls();
  return description;
}

bool SimHost::established() const {
  return agent_ != nullptr && agent_->session.established();
}

// ---------------------------------------------------------------- lives

void SimHost::start_agent() {
  if (agent_ != nullptr) return;
  if (deps_.identity != nullptr && !deps_.identity->has_certificate()) return;
  machine_.process.begin();
  machine_.process.die_at(std::exchange(die_next_, 0));
  agent_ = std::make_unique<Agent>(*this);
  agent_->strand.post([this] { agent_->start(); });
}

void SimHost::kill_agent() {
  ++freezes_;
  machine_.process.end();
  if (deps_.identity != nullptr) deps_.identity->ended();
  agent_.reset();
  runtime_.process_ended();
  names_.process_ended();
  network_.process_ended();
  payloads_.clear();
  forget_unknown();
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

void SimHost::reboot() {
  kill_agent();
  runtime_.power_off();
  network_.power_off();
  names_.power_off();
  flows_.power_off();
  payload_files_.power_off();
  files_.power_off();
  ++boots_;
  // What nobody was told of may be forgotten; what the managers know may not begin again.
  for (auto at = reported_.begin(); at != reported_.end();) {
    const v1::TaskState known = deps_.stored_state(at->first);
    const bool running = known >= v1::TASK_STARTING && known <= v1::TASK_RUNNING;
    if (!running) began_.erase(at->first);
    at->second = known;
    at = running ? std::next(at) : reported_.erase(at);
  }
  const size_t known = tasks_.size();
  forget_unknown();
  if (tasks_.size() < known) machine_.met("agent lost a record in a power cut");
}

void SimHost::freeze(Duration d) {
  if (agent_ == nullptr) return;
  agent_->pause(true);
  strand_.after(d, [this, frozen = ++freezes_] {
    if (frozen == freezes_ && agent_ != nullptr) agent_->pause(false);
  });
}

void SimHost::kill_midway(uint64_t effects, Duration away) {
  away_ = away;
  // At times its successor does not get through its start either.
  if (agent_ == nullptr || rng_.below(3) == 0) die_next_ = 1 + rng_.below(20);
  if (agent_ != nullptr) machine_.process.die_at(effects);
}

void SimHost::heal() {
  die_next_ = 0;
  machine_.process.die_at(0);
}

void SimHost::resize(int64_t memory_bytes) {
  memory_bytes_ = memory_bytes;
  if (agent_ == nullptr) return;
  agent_->strand.post([this] { agent_->session.describe(describe()); });
}

void SimHost::end_a_container() {
  std::vector<std::string> alive;
  for (const auto& [id, c] : runtime_.containers()) {
    if (c.runs()) alive.push_back(id);
  }
  if (alive.empty()) return;
  runtime_.end_after(alive[rng_.below(alive.size())], Duration(0), static_cast<int>(rng_.below(2)));
}

bool SimHost::has_record(const std::string& task_id) {
  return files_.exists(kPaths.tasks() + "/" + task_id);
}

// What an agent has not written down it does not know any more when it is back.
void SimHost::forget_unknown() {
  std::erase_if(tasks_,
                [this](const auto& item) { return !item.second.alive && !has_record(item.first); });
}

// ---------------------------------------------------------------- what the manager says

void SimHost::apply(const v1::FeedUpdate& step) {
  switch (step.feed().kind()) {
    case v1::FeedId::TASKS: return told_tasks(step);
    case v1::FeedId::NETWORK: return told_network(step);
    case v1::FeedId::SECRETS: return told_secrets(step);
    default: return;
  }
}

void SimHost::told_tasks(const v1::FeedUpdate& step) {
  std::set<std::string> told;
  for (const auto& revision : step.revisions()) revisions_[revision.id()] = revision;
  for (const auto& assignment : step.tasks()) {
    const v1::Task& task = assignment.task();
    told.insert(task.id());
    if (!revisions_.contains(manager::store::revision_id(task.service_id(), task.revision()))) {
      broken("a task came without its revision");
    }
    if (task.node_id() != id_) broken("a task came to the wrong node");
    Container& container = tasks_[task.id()];
    const bool before = to_stop(container);
    container.task = task;
    container.removed = false;
    if (!before && to_stop(container)) container.told_to_stop = deps_.world.now();
  }
  const auto remove = [this](Container& container) {
    if (!to_stop(container)) container.told_to_stop = deps_.world.now();
    container.removed = true;
  };
  for (auto& [id, container] : tasks_) {
    if (step.complete() && !told.contains(id)) remove(container);
  }
  for (const std::string& id : step.removed_task_ids()) {
    if (const auto it = tasks_.find(id); it != tasks_.end()) remove(it->second);
  }
}

void SimHost::told_network(const v1::FeedUpdate& step) {
  v1::NetworkFeed feed;
  if (!feed.ParseFromString(step.network())) return broken("a network feed does not parse");
  std::set<std::string>& members = members_[step.feed().network_id()];
  if (step.complete()) members.clear();
  for (const auto& endpoint : feed.endpoints()) members.insert(endpoint.task_id());
  for (const auto& id : feed.removed_task_ids()) members.erase(id);
}

void SimHost::told_secrets(const v1::FeedUpdate& step) {
  for (const v1::SecretAssignment& piece : step.secrets()) {
    if (deps_.entitled(*this, piece.id())) continue;
    broken(fmt::format("is given payload {}, which none of its tasks uses (M7)", piece.id()));
  }
  const Status status = payloads_.apply(step);
  if (!status.ok()) broken("a payload came in pieces that do not fit: " + status.message());
}

// ---------------------------------------------------------------- what the worker does

void SimHost::reported(v1::TaskStatusUpdate update) {
  if (!machine_.process.alive()) return;
  const std::string& id = update.task_id();
  const v1::TaskState state = update.status().state();
  const auto [last, fresh] = reported_.try_emplace(id, state);
  const bool ended = last->second > v1::TASK_RUNNING;
  if (!fresh && (state < last->second || (ended && state != last->second))) {
    broken(fmt::format("{} is reported as {} after {} (W4)", id, v1::TaskState_Name(state),
                       v1::TaskState_Name(last->second)));
  }
  last->second = state;
  if (const auto at = tasks_.find(id); at != tasks_.end()) at->second.state = state;
  agent_->session.report(std::move(update));
}

void SimHost::started(const SimRuntime::Container& c) {
  const auto at = tasks_.find(c.task_id());
  if (at == tasks_.end()) return broken("a container of an unknown task starts: " + c.request.name);
  Container& container = at->second;
  if (!began_.insert(c.task_id()).second) broken(c.request.name + " has a second container (W1)");
  const v1::ContainerSpec& spec = c.request.spec.container();
  std::vector<std::string> ids;
  for (const auto& secret : spec.secrets()) ids.push_back(secret.secret_id());
  for (const auto& config : spec.configs()) ids.push_back(config.config_id());
  container.files.clear();
  auto id = ids.begin();
  for (const agent::PreparedMount& mount : c.request.mounts) {
    const std::string* data = payload_files_.find(c.request.container_id, mount.source);
    if (data != nullptr && id != ids.end()) container.files[*id++] = *data;
  }
  if (network_.attached().count(c.request.container_id) == 0) {
    broken(c.request.name + " starts without a network");
  }
  deps_.on_start(*this, container);
  container.alive = true;
  // What a job does comes to an end, well or not.
  if (container.task.job_iteration() == 0) return;
  const int exit_code = machine_.troubles.task_fails && machine_.one_in(3) ? 1 : 0;
  runtime_.end_after(c.request.container_id, machine_.up_to(4s), exit_code);
}

void SimHost::ended(const SimRuntime::Container& c) {
  if (const auto at = tasks_.find(c.task_id()); at != tasks_.end()) at->second.alive = false;
}

bool SimHost::seen_ill(const std::string& task_id) const {
  const auto& containers = runtime_.containers();
  return std::any_of(containers.begin(), containers.end(), [&](const auto& item) {
    return item.second.task_id() == task_id && item.second.seen_ill;
  });
}

void SimHost::signalled(const SimRuntime::Container& c, int signal) {
  const std::string& name = c.request.name;
  const auto at = tasks_.find(c.task_id());
  const bool wanted = at == tasks_.end() || !to_stop(at->second);
  if (wanted && !c.seen_ill) {
    return broken(fmt::format("{} is wanted and is stopped (W3)", name));
  }
  if (wanted) machine_.met("container found ill");
  std::set<std::string> owners{c.task_id()};
  if (at != tasks_.end()) owners.insert(at->second.task.service_id());
  if (network_.leads_to(c.request.container_id, owners)) {
    broken(fmt::format("{} is stopped while a published port leads to it (W6)", name));
  }
  if (names_.leads_to(c.task_id())) {
    broken(fmt::format("{} is stopped while its names lead to it (W6)", name));
  }
  if (network_.balances_to(c.task_id())) {
    broken(fmt::format("{} is stopped while its host's containers are led to it (W6)", name));
  }
  if (at != tasks_.end() && !c.seen_ill && deps_.on_stop) deps_.on_stop(*this, at->second);
  if (signal == 0) return broken(fmt::format("{} is removed while it runs (W5)", name));
  if (signal != SIGKILL || c.grace() <= Duration(0)) return;
  machine_.met("container killed after its grace");
  if (!c.asked || deps_.world.now() - *c.asked < c.grace()) {
    broken(fmt::format("{} is killed before its grace has passed (W5)", name));
  }
}

void SimHost::removed_file(const std::string& path) {
  const std::string prefix = kPaths.tasks() + "/";
  if (!path.starts_with(prefix)) return;
  const auto at = tasks_.find(path.substr(prefix.size()));
  if (at == tasks_.end()) return;
  if (at->second.alive) broken(at->second.task.name() + " is forgotten while it runs (W2)");
  reported_.erase(at->first);
  tasks_.erase(at);
}

Status SimHost::check_left_over() const {
  std::set<std::string> known;  // containers
  std::set<std::string> live;   // of those, not cleaned up
  for (const v1::LocalTask& task : agent_->worker.tasks()) {
    known.insert(task.container_id());
    if (!task.cleaned()) live.insert(task.container_id());
  }
  const auto check = [this](const char* what, const std::set<std::string>& owners,
                            const std::string& id) -> Status {
    if (owners.contains(id)) return ok_status();
    return internal_error("{} keeps {} of {}, which no task has (W2)", id_, what, id.substr(0, 6));
  };
  for (const auto& [id, c] : runtime_.containers()) {
    MUSTER_TRY(check("the container", live, id));
  }
  for (const auto& [id, addresses] : network_.attached()) MUSTER_TRY(check("a network", live, id));
  for (const std::string& id : names_.resolvers()) MUSTER_TRY(check("a resolver", live, id));
  for (const std::string& id : images_.roots()) MUSTER_TRY(check("the root", live, id));
  for (const auto& [id, names] : volumes_.uses()) MUSTER_TRY(check("volumes", live, id));
  for (const std::string& id : payload_files_.ids()) MUSTER_TRY(check("secrets", live, id));
  for (const std::string& id : files_.names(kPaths.containers())) {
    MUSTER_TRY(check("the folder", known, id));
  }
  return ok_status();
}

Status SimHost::check_settled() const {
  MUSTER_TRY(check_left_over());
  std::map<std::string, std::string> containers;  // of tasks
  for (const v1::LocalTask& task : agent_->worker.tasks()) {
    const std::string& id = task.assignment().task().id();
    containers[id] = task.container_id();
    if (!tasks_.contains(id)) return internal_error("{} has a task it was not told of", id_);
    if (task.status().state() > v1::TASK_RUNNING && !task.cleaned()) {
      return internal_error("{} does not clean up {} (W2)", id_, id);
    }
  }
  for (const auto& [id, container] : tasks_) {
    const auto at = containers.find(id);
    if (at == containers.end()) return internal_error("{} does not have task {}", id_, id);
    if (!container.alive) continue;
    const auto found = runtime_.containers().find(at->second);
    if (found == runtime_.containers().end() || !found->second.runs()) {
      return internal_error("another container of {} runs on {} (W1)", id, id_);
    }
    const bool joins = !container.task.networks().empty();
    if (joins && !names_.resolvers().contains(at->second)) {
      return internal_error("{} has no resolver on {}", container.task.name(), id_);
    }
    const auto& joined = container.task.networks();
    const bool named = std::any_of(joined.begin(), joined.end(), [&](const auto& attachment) {
      const auto route = network_.routes().find(attachment.network_id());
      return route == network_.routes().end() || !route->second.network.spec().ingress();
    });
    if (named && !names_.leads_to(id)) {
      return internal_error("no name leads to {} on {}", container.task.name(), id_);
    }
  }
  if (containers.empty() && network_.publishes_own()) {
    return internal_error("{} publishes ports of nothing (W2)", id_);
  }
  return ok_status();
}

}  // namespace muster::sim
