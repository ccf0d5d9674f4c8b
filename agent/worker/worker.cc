#include "agent/worker/worker.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <set>
#include <utility>

#include "agent/logs/log_plan.h"
#include "agent/logs/log_rotation.h"
#include "agent/runtime/signals.h"
#include "agent/worker/log_view.h"
#include "agent/worker/mutant.h"
#include "agent/worker/worker_entry.h"
#include "base/check.h"

namespace muster::agent {
namespace {

constexpr Duration kProgressPeriod = 500ms;
constexpr Duration kLogCheckPeriod = 5s;

std::string new_container_id(Rng& rng) {
  std::string id;
  for (int i = 0; i < 4; ++i) id += fmt::format("{:016x}", rng.next());
  return id;
}

TaskTimes times_of(const v1::LocalTask& task) {
  const v1::ContainerSpec& spec = task.revision().spec().container();
  TaskTimes times;
  if (spec.has_stop_grace_period_ns()) times.stop_grace = Duration(spec.stop_grace_period_ns());
  times.has_healthcheck =
      plan_health(spec.healthcheck(), task.image_healthcheck(), task.image_shell()).has_value();
  return times;
}

}  // namespace

Worker::Worker(WorkerDeps deps, WorkerOptions options)
    : deps_(std::move(deps)),
      options_(std::move(options)),
      paths_{options_.data_dir, options_.run_dir},
      steps_(options_.instance_id, paths_,
             {deps_.runtime, deps_.images, deps_.volumes, deps_.network, deps_.files,
              deps_.payload_files, deps_.names}),
      files_(deps_.files, paths_.tasks()),
      routes_(route_deps(), options_.node.node_id),
      self_(std::make_shared<Worker*>(this)) {}

Worker::~Worker() {
  *self_ = nullptr;
  deps_.strand.cancel(ports_timer_);
  deps_.strand.cancel(log_timer_);
  for (auto& [id, entry] : entries_) {
    entry->cancelled->store(true);
    deps_.strand.cancel(entry->timer);
    deps_.strand.cancel(entry->flow_timer);
    deps_.strand.cancel(entry->payload_timer);
    deps_.strand.cancel(entry->health_timer);
    deps_.strand.cancel(entry->reconnect_timer);
  }
}

void Worker::post(UniqueFunction<void()> f) {
  deps_.strand.post([self = self_, f = std::move(f)]() mutable {
    if (*self != nullptr) f();
  });
}

Worker::Entry* Worker::find(const Id& task_id) {
  const auto found = entries_.find(task_id);
  return found == entries_.end() ? nullptr : found->second.get();
}

Worker::Entry& Worker::add(v1::LocalTask task) {
  const TaskTimes times = times_of(task);
  const Id id = task.assignment().task().id();
  auto& slot = entries_[id];
  slot = std::make_unique<Entry>(std::move(task), times);
  routes_.set_task(slot->machine.task());
  return *slot;
}

Status Worker::start() {
  MUSTER_CHECK(deps_.strand.is_current());
  MUSTER_TRY(deps_.files.make_directory(paths_.containers(), 0700));
  MUSTER_ASSIGN(const bool host_restarted, host_was_restarted());
  std::vector<std::string> damaged;
  MUSTER_ASSIGN(auto records, files_.load(&damaged));
  if (deps_.names != nullptr) deps_.names->begin(options_.node.node_id);
  // Tunnels at another port than theirs would be made anew, and nobody may be there to correct it.
  if (options_.data_path_port != 0) tell_local_node();
  for (const std::string& id : damaged) {
    deps_.log->error("the record of task {} cannot be read; its container will be removed", id);
  }
  // Ports are set once it is known again what they led to on other nodes.
  ports_busy_ = true;
  for (auto& [id, task] : records) {
    MUSTER_TRY(adopt(add(std::move(task)), host_restarted));
  }
  // All that was of before the restart has ended by now, and its records say so.
  if (host_restarted || !deps_.files.exists(paths_.boot())) {
    MUSTER_TRY(deps_.files.write(paths_.boot(), options_.boot_id, 0600, Durability::kFsync));
  }
  routes_.start();
  routes_.after_all([this] {
    ports_busy_ = false;
    ports_changed();
  });
  adopt_names();
  if (deps_.names != nullptr) deps_.names->serve();
  collect_garbage();
  adopt_networks();
  check_logs();
  return {};
}

// Records are not synced: after a power cut they may be of any time before it. What had begun to
// run since would run once more if such a record were believed.
Result<bool> Worker::host_was_restarted() {
  if (!deps_.files.exists(paths_.boot())) return false;
  MUSTER_ASSIGN(const std::string boot, deps_.files.read(paths_.boot(), 4096));
  return boot != options_.boot_id && !fault(WorkerMutant::kOldRecordsTrusted);
}

Status Worker::adopt(Entry& entry, bool host_restarted) {
  const std::string& container = entry.machine.task().container_id();
  ContainerState found;
  if (!entry.machine.ended()) {
    auto state = deps_.runtime.inspect(container, paths_.container(container));
    if (!state) return state.error().with_context("container " + container);
    found = *std::move(state);
  }
  if (fault(WorkerMutant::kForgetsToAdopt)) found = {};
  run(entry, entry.machine.adopt(found, host_restarted, now()));
  return {};
}

void Worker::check_logs() {
  std::vector<LogLimit> limits;
  for (const auto& [id, entry] : entries_) {
    const v1::LocalTask& task = entry->machine.task();
    if (entry->machine.ended() || !task.started()) continue;
    const LogPlan plan = plan_log(log_driver_of(task, options_.node));
    if (plan.bytes_max > 0) {
      limits.push_back({paths_.container(task.container_id()), plan.bytes_max, plan.files_max});
    }
  }
  if (!limits.empty()) {
    deps_.step_pool.post([limits = std::move(limits), log = deps_.log] {
      for (const LogLimit& limit : limits) {
        const Status status = rotate_log(limit);
        if (!status.ok()) log->warn("rotating a container's log: {}", status.message());
      }
    });
  }
  log_timer_ = deps_.strand.after(kLogCheckPeriod, [this] { check_logs(); });
}

bool Worker::any_forwarded() const {
  return std::any_of(entries_.begin(), entries_.end(), [this](const auto& item) {
    const v1::LocalTask& task = item.second->machine.task();
    return task.started() && is_forwarded(log_driver_of(task, options_.node));
  });
}

void Worker::collect_garbage() {
  std::vector<std::string> live;
  std::vector<std::string> known;
  for (const auto& [id, entry] : entries_) {
    const v1::LocalTask& task = entry->machine.task();
    known.push_back(task.container_id());
    if (!task.cleaned()) live.push_back(task.container_id());
  }
  // Done before the first feed is applied: no container may appear meanwhile.
  const Status status = steps_.collect_garbage(live, known);
  if (!status.ok()) deps_.log->warn("removing left-overs: {}", status.message());
}

// ---------------------------------------------------------------- feeds

void Worker::apply(const v1::FeedUpdate& step) {
  MUSTER_CHECK(deps_.strand.is_current());
  switch (step.feed().kind()) {
    case v1::FeedId::TASKS: apply_tasks(step); break;
    case v1::FeedId::SECRETS: apply_secrets(step); break;
    case v1::FeedId::CLUSTER: apply_cluster(step.cluster(), step.version()); break;
    case v1::FeedId::NETWORK: routes_.apply(step); break;
    default: break;
  }
}

void Worker::apply_tasks(const v1::FeedUpdate& step) {
  for (const v1::Revision& revision : step.revisions()) revisions_[revision.id()] = revision;
  std::set<std::string> named;
  routes_.hold();
  for (const v1::TaskAssignment& assignment : step.tasks()) {
    named.insert(assignment.task().id());
    assign(assignment);
  }
  std::vector<Id> gone(step.removed_task_ids().begin(), step.removed_task_ids().end());
  if (step.complete()) {
    for (const auto& [id, entry] : entries_) {
      if (named.count(id) == 0) gone.push_back(id);
    }
  }
  for (const Id& id : gone) remove(id);
  routes_.release();
  // Revisions nobody uses any more are sent again when they are needed.
  std::set<std::string> used;
  for (const auto& [id, entry] : entries_) used.insert(entry->machine.task().revision().id());
  if (step.complete()) {
    std::erase_if(revisions_, [&](const auto& item) { return used.count(item.first) == 0; });
  }
  tasks_unsaid_ = step.version();
  tell_tasks_applied();
}

void Worker::assign(const v1::TaskAssignment& assignment) {
  const v1::Task& task = assignment.task();
  if (Entry* entry = find(task.id())) {
    networks_assigned(*entry, assignment);
    if (fault(WorkerMutant::kStopsUnreleased)) {
      v1::Task hasty = task;
      hasty.clear_drain();
      return run(*entry, entry->machine.assigned(hasty, now()));
    }
    run(*entry, entry->machine.assigned(task, now()));
    return;
  }
  v1::LocalTask local;
  *local.mutable_assignment() = assignment;
  local.set_container_id(new_container_id(deps_.rng));
  local.mutable_status()->set_state(v1::TASK_ASSIGNED);
  local.mutable_status()->mutable_container()->set_container_id(local.container_id());
  const auto revision = revisions_.find(fmt::format("{}.{}", task.service_id(), task.revision()));
  const bool known = revision != revisions_.end();
  if (known) *local.mutable_revision() = revision->second;
  // Finished tasks come with a complete feed too; of those there is nothing here to run.
  const bool over = task.status().state() >= v1::TASK_COMPLETE;
  // It ran here, or may have run, and its record is lost: so is the container, left-overs were
  // removed at the start.
  const bool lost = !over && task.status().state() >= v1::TASK_STARTING;
  if (over || lost) {
    *local.mutable_status() = task.status();
    local.set_cleaned(over);
  }
  Entry& entry = add(std::move(local));
  if (over || lost) {
    run(entry, entry.machine.adopt({}, lost, now()));
    return;
  }
  run(entry, entry.machine.begin(now()));
  if (!known && !entry.machine.ended()) {
    prepare_finished(task.id(), fail(internal_error("the manager did not send revision {} of "
                                                    "service {}",
                                                    task.revision(), task.service_id())));
  }
}

void Worker::remove(const Id& task_id) {
  if (Entry* entry = find(task_id)) run(*entry, entry->machine.removed(now()));
}

void Worker::apply_secrets(const v1::FeedUpdate& step) {
  const Status status = payloads_.apply(step);
  if (!status.ok()) deps_.log->error("a secret or config: {}", status.message());
  for (auto& [id, entry] : entries_) {
    if (entry->waits_for_payloads) prepare(*entry);
  }
}

void Worker::leave(UniqueFunction<void()> done) {
  left_ = std::move(done);
  routes_.leave();
  payloads_.clear();
  std::vector<Id> ids;
  for (const auto& [id, entry] : entries_) ids.push_back(id);
  for (const Id& id : ids) remove(id);
  finish_leaving();
}

// What is told to the kernel late would bring back what is about to be removed.
void Worker::finish_leaving() {
  if (!entries_.empty() || !left_) return;
  // The last step of the ingress network changes ports.
  routes_.when_quiet([this, done = std::exchange(left_, nullptr)]() mutable {
    after_ports([this, done = std::move(done)]() mutable {
      deps_.strand.cancel(std::exchange(ports_timer_, 0));
      done();
    });
  });
}

std::vector<v1::LocalTask> Worker::tasks() const {
  std::vector<v1::LocalTask> out;
  for (const auto& [id, entry] : entries_) out.push_back(entry->machine.task());
  return out;
}

// ---------------------------------------------------------------- actions

void Worker::run(Entry& entry, const TaskActions& actions) {
  // kForget destroys the entry; the machine never asks for anything after it.
  for (const TaskAction action : actions) run_one(entry, action);
}

void Worker::run_one(Entry& entry, TaskAction action) {
  switch (action) {
    case TaskAction::kSave: save(entry); break;
    case TaskAction::kReport: report(entry); break;
    case TaskAction::kPrepare: prepare(entry); break;
    case TaskAction::kCancelPrepare:
      entry.cancelled->store(true);
      if (std::exchange(entry.waits_for_payloads, false)) {
        deps_.strand.cancel(std::exchange(entry.payload_timer, 0));
        prepare_finished(entry.task_id(), fail(StatusCode::kCancelled, "the task was stopped"));
      }
      break;
    case TaskAction::kStart: start_container(entry); break;
    case TaskAction::kWatch: watch(entry); break;
    case TaskAction::kWatchHealth: watch_health(entry); break;
    case TaskAction::kPublishPorts:
      names_changed(entry);
      ports_changed();
      break;
    case TaskAction::kWatchFlows:
      after_routes([this, id = entry.task_id()] { watch_flows(id); });
      break;
    case TaskAction::kSignalStop: {
      deps_.strand.cancel(std::exchange(entry.timer, 0));  // what it bounded is over
      std::string name = entry.machine.task().revision().spec().container().stop_signal();
      if (name.empty()) name = entry.machine.task().stop_signal();
      const auto number = parse_signal(name);
      signal(entry, number ? *number : SIGTERM);
      break;
    }
    case TaskAction::kSignalKill: signal(entry, SIGKILL); break;
    case TaskAction::kArmTimer: arm(entry); break;
    case TaskAction::kCleanUp: clean_up(entry); break;
    case TaskAction::kForget: forget(entry); break;
  }
}

// Whatever is worth a record may be news to the networks.
void Worker::save(Entry& entry) {
  routes_.set_task(entry.machine.task());
  if (fault(WorkerMutant::kStartUnrecorded) &&
      entry.machine.task().status().state() == v1::TASK_STARTING) {
    return;
  }
  const Status status = files_.save(entry.machine.task());
  // A full disk must not stop containers: what is lost is adoption after a crash.
  if (!status.ok()) {
    deps_.log->error("cannot save task {}: {}", entry.task_id(), status.message());
  }
}

void Worker::report(const Entry& entry) {
  if (fault(WorkerMutant::kEndUntold) && entry.machine.ended()) return;
  v1::TaskStatusUpdate update;
  update.set_task_id(entry.task_id());
  *update.mutable_status() = entry.machine.task().status();
  update.set_endpoint_state(entry.machine.task().endpoint_state());
  deps_.report(std::move(update));
}

std::string Worker::gather_payloads(const v1::LocalTask& task, PayloadSet* out) const {
  const v1::ContainerSpec& spec = task.revision().spec().container();
  const auto take = [&](const std::string& id) {
    const PayloadPtr payload = payloads_.find(id);
    if (payload != nullptr) out->insert_or_assign(id, payload);
    return payload != nullptr;
  };
  for (const v1::SecretReference& secret : spec.secrets()) {
    if (!take(secret.secret_id())) return "secret " + secret.secret_name();
  }
  for (const v1::ConfigReference& config : spec.configs()) {
    if (!take(config.config_id())) return "config " + config.config_name();
  }
  return "";
}

void Worker::wait_for_payloads(Entry& entry, const std::string& missing) {
  if (!std::exchange(entry.waits_for_payloads, true)) {
    entry.payload_timer = deps_.strand.after(kPayloadLimit, [this, id = entry.task_id()] {
      Entry* found = find(id);
      if (found == nullptr) return;
      found->payload_timer = 0;
      if (!std::exchange(found->waits_for_payloads, false)) return;
      PayloadSet ignored;
      const std::string what = gather_payloads(found->machine.task(), &ignored);
      prepare_finished(id, fail(StatusCode::kDeadlineExceeded,
                                fmt::format("{} did not come from the manager within {} s", what,
                                            kPayloadLimit / 1s)));
    });
  }
  run(entry, entry.machine.progress("waiting for " + missing, now()));
}

void Worker::prepare(Entry& entry) {
  const v1::LocalTask& task = entry.machine.task();
  if (task.revision().id().empty()) return;  // the caller reports it
  PrepareInput input;
  if (const std::string missing = gather_payloads(task, &input.payloads); !missing.empty()) {
    return wait_for_payloads(entry, missing);
  }
  entry.waits_for_payloads = false;
  deps_.strand.cancel(std::exchange(entry.payload_timer, 0));
  input.task = task;
  input.node = options_.node;
  input.mesh = options_.mesh;
  input.cancelled = entry.cancelled;
  const Id id = entry.task_id();
  // Progress comes as often as the pull likes and is passed on twice a second.
  auto last = std::make_shared<std::pair<TimePoint, bool>>(TimePoint{}, false);
  input.progress = [this, self = self_, strand = &deps_.strand, id,
                    last](const std::string& message) {
    const TimePoint at = strand->clock().now();
    if (last->second && at - last->first < kProgressPeriod) return;
    *last = {at, true};
    strand->post([this, self, id, message] {
      if (*self == nullptr) return;
      if (Entry* found = find(id)) run(*found, found->machine.progress(message, now()));
    });
  };
  deps_.prepare_pool.post([this, self = self_, strand = &deps_.strand, steps = steps_, id,
                           input = std::move(input)]() mutable {
    auto result = steps.prepare(input);
    strand->post([this, self, id, result = std::move(result)]() mutable {
      if (*self != nullptr) prepare_finished(id, std::move(result));
    });
  });
}

void Worker::prepare_finished(const Id& task_id, Result<PreparedTask> prepared) {
  Entry* entry = find(task_id);
  if (entry == nullptr) return;
  if (!prepared) {
    run(*entry, entry->machine.prepare_failed(prepared.error(), now()));
    return;
  }
  v1::LocalTask& task = entry->machine.mutable_task();
  task.set_image_digest(prepared->image_digest);
  task.set_command(prepared->command);
  task.set_host_network(prepared->host_network);
  if (!prepared->host_network) {
    task.mutable_status()->mutable_container()->set_hostname(prepared->request.hostname);
  }
  *task.mutable_log_driver() = prepared->request.log_driver;
  task.set_stop_signal(prepared->request.image.stop_signal);
  task.mutable_status()->clear_host_ports();
  for (v1::PortConfig& port : prepared->host_ports) {
    *task.mutable_status()->add_host_ports() = std::move(port);
  }
  // An image may bring a health check of its own; only now is it known.
  *task.mutable_image_healthcheck() = prepared->request.image.healthcheck;
  const std::vector<std::string>& shell = prepared->request.image.shell;
  task.mutable_image_shell()->Assign(shell.begin(), shell.end());
  entry->machine.set_has_healthcheck(times_of(task).has_healthcheck);
  entry->prepared = *std::move(prepared);
  names_changed(*entry);
  run(*entry, entry->machine.prepared(now()));
}

// With its first instruction it finds its networks as they are.
void Worker::start_container(Entry& entry) {
  MUSTER_CHECK(entry.prepared.has_value(), "start of a task that was not prepared");
  routes_.before_start(entry.machine.task(), [this, id = entry.task_id()] {
    after_names([this, id] {
      if (Entry* found = find(id)) launch(*found);
    });
  });
}

void Worker::launch(Entry& entry) {
  deps_.step_pool.post([this, self = self_, strand = &deps_.strand, runtime = &deps_.runtime,
                        id = entry.task_id(),
                        request = std::move(entry.prepared->request)]() mutable {
    // A half-made container of an earlier process is in the way.
    auto found = runtime->inspect(request.container_id, request.bundle_dir);
    Status cleared;
    if (found && found->phase != ContainerState::Phase::kAbsent) {
      cleared = runtime->remove(request.container_id, request.bundle_dir);
    }
    if (cleared.ok() && fault(WorkerMutant::kStartsTwice)) (void)runtime->start(request);
    auto state =
        cleared.ok() ? runtime->start(request) : Result<ContainerState>(fail(std::move(cleared)));
    strand->post([this, self, id, state = std::move(state)] {
      if (*self == nullptr) return;
      Entry* entry = find(id);
      if (entry == nullptr) return;
      run(*entry, state ? entry->machine.started(state->pid, now())
                        : entry->machine.start_failed(state.error(), now()));
    });
  });
  entry.prepared.reset();
}

void Worker::watch(Entry& entry) {
  const std::string& container = entry.machine.task().container_id();
  const Id id = entry.task_id();
  const Status status = deps_.runtime.watch_exit(
      container, paths_.container(container),
      [this, self = self_, strand = &deps_.strand, id](ContainerExit exit) {
        strand->post([this, self, id, exit] {
          if (*self == nullptr) return;
          if (Entry* found = find(id)) {
            deps_.strand.cancel(std::exchange(found->timer, 0));
            deps_.strand.cancel(std::exchange(found->flow_timer, 0));
            deps_.strand.cancel(std::exchange(found->health_timer, 0));
            run(*found, found->machine.exited(exit, now()));
          }
        });
      });
  if (!status.ok()) {
    deps_.log->error("cannot watch container {}: {}", container, status.message());
  }
}

void Worker::signal(Entry& entry, int number) {
  if (fault(WorkerMutant::kRemovesBeforeStop)) return clean_up(entry);
  if (fault(WorkerMutant::kKillsAtOnce)) number = SIGKILL;
  // Nobody is sent to it any more by then. What that and a busy pool take is no part of the grace.
  after_routes([this, id = entry.task_id(), number] {
    Entry* entry = find(id);
    if (entry == nullptr) return;
    deps_.step_pool.post([this, self = self_, strand = &deps_.strand, runtime = &deps_.runtime,
                          log = deps_.log, id, number,
                          container = entry->machine.task().container_id()] {
      const Status status = runtime->kill(container, number);
      if (!status.ok()) log->warn("container {}: {}", container, status.message());
      if (number == SIGKILL) return;
      strand->post([this, self, id] {
        if (*self == nullptr) return;
        if (Entry* found = find(id)) run(*found, found->machine.signalled());
      });
    });
  });
}

void Worker::arm(Entry& entry) {
  deps_.strand.cancel(entry.timer);
  entry.timer = deps_.strand.after(entry.machine.timer_delay(), [this, id = entry.task_id()] {
    Entry* found = find(id);
    if (found == nullptr) return;
    found->timer = 0;
    if (found->machine.watches_flows()) tell_unended_flows(*found);
    run(*found, found->machine.timer(now()));
  });
}

void Worker::clean_up(Entry& entry) {
  deps_.strand.cancel(std::exchange(entry.timer, 0));
  deps_.strand.cancel(std::exchange(entry.flow_timer, 0));
  deps_.strand.cancel(std::exchange(entry.health_timer, 0));
  deps_.strand.cancel(std::exchange(entry.reconnect_timer, 0));
  tell_tasks_applied();
  entry.prepared.reset();
  if (deps_.names != nullptr) deps_.names->forget_task(entry.task_id());
  after_routes([this, id = entry.task_id()] {
    Entry* entry = find(id);
    if (entry == nullptr) return;
    entry->clean_up_waits = entry->reconnecting;
    if (!entry->reconnecting) clean_up_now(*entry);
  });
}

void Worker::clean_up_now(Entry& entry) {
  deps_.step_pool.post([this, self = self_, strand = &deps_.strand, steps = steps_, log = deps_.log,
                        id = entry.task_id(),
                        container = entry.machine.task().container_id()]() mutable {
    const Status status = steps.clean_up(container);
    // What could not be removed is tried again when musterd starts next.
    if (!status.ok()) log->warn("cleaning up container {}: {}", container, status.message());
    strand->post([this, self, id] {
      if (*self == nullptr) return;
      if (Entry* found = find(id)) run(*found, found->machine.cleaned_up(now()));
    });
  });
}

void Worker::forget(Entry& entry) {
  const Id id = entry.task_id();
  Status status = files_.remove(id);
  if (status.ok()) status = steps_.forget(entry.machine.task().container_id());
  if (!status.ok()) deps_.log->warn("forgetting task {}: {}", id, status.message());
  routes_.remove_task(id);
  entries_.erase(id);
  tell_tasks_applied();
  finish_leaving();
}

}  // namespace muster::agent
