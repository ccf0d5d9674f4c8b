#include "manager/orchestrator/orchestrator.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <variant>
#include <vector>

#include "base/check.h"
#include "manager/orchestrator/context.h"
#include "manager/orchestrator/service_plan.h"
#include "manager/store/job_status.h"
#include "manager/store/update_status.h"

namespace muster::manager::orchestrator {
namespace {

// In changes of about a kilobyte: a service may be as large as hundreds of tasks.
size_t size_of(const Plan& plan) {
  const size_t service = plan.service ? 1 + plan.service->ByteSizeLong() / 1024 : 0;
  return plan.create.size() + plan.update.size() + plan.remove.size() +
         plan.remove_revisions.size() + service;
}

bool under_update(const store::Snapshot& state, const std::string& service_id) {
  const auto service = state.get<v1::Service>(service_id);
  return service != nullptr && store::is_updating(service->update_status());
}

// Whether a task on its way may be keeping another one of its slot waiting.
bool waits_beside(const store::Snapshot& state, const v1::Task& task) {
  const auto service = state.get<v1::Service>(task.service_id());
  return service != nullptr && UpdateRules::of(*service).start_first;
}

// Whether what the policies ask of a node changed; its address or manager status does not matter.
bool matters(const v1::Node& a, const v1::Node& b) {
  using google::protobuf::util::MessageDifferencer;
  return a.status().state() != b.status().state() || a.status().address() != b.status().address() ||
         a.role() != b.role() || !MessageDifferencer::Equals(a.spec(), b.spec()) ||
         !MessageDifferencer::Equals(a.description(), b.description());
}

}  // namespace

Orchestrator::Orchestrator(Executor& strand, store::Store& store, Rng& rng, Log log,
                           Options options)
    : strand_(strand),
      store_(store),
      rng_(rng),
      log_(std::move(log)),
      options_(options),
      changes_max_(options.changes_max),
      backoff_(options.retry_delay, kRetryDelayMax) {}

Orchestrator::~Orchestrator() {
  stop();
}

void Orchestrator::start(const store::Snapshot& snapshot) {
  MUSTER_CHECK(!running_, "started twice");
  running_ = true;
  alive_ = std::make_shared<Orchestrator*>(this);
  auto subscription = store_.watch(snapshot.version(),
                                   [this](const store::CommitEvent& event) { on_commit(event); });
  // A snapshot too old to follow from: begin with the present one.
  subscription_ = subscription ? *std::move(subscription)
                               : store_.watch([this](const auto& event) { on_commit(event); });
  const store::Snapshot& begin = subscription ? snapshot : store_.snapshot();
  mark_all(begin);
  begin.each<v1::Node>([&](const auto& node) {
    mark_crowded(begin, *node);
    return true;
  });
  pump();
}

void Orchestrator::stop() {
  if (!running_) return;
  running_ = false;
  subscription_ = {};
  alive_.reset();
  strand_.cancel(timer_);
  strand_.cancel(retry_);
  armed_for_.reset();
  dirt_.clear();
  moving_.clear();
  tight_nodes_.clear();
  in_work_.clear();
  found_wakes_.clear();
  wakes_.clear();
  wake_order_.clear();
  writing_ = false;
}

// ---------------------------------------------------------------- what a commit touches

void Orchestrator::mark_all(const store::Snapshot& state) {
  state.each<v1::Service>([&](const auto& service) {
    mark(service->id());
    return true;
  });
  // What removed services have left behind.
  state.each<v1::Task>([&](const auto& task) {
    mark(task->service_id());
    return true;
  });
  state.each<v1::Revision>([&](const auto& revision) {
    mark(revision->service_id());
    return true;
  });
}

void Orchestrator::mark_crowded(const store::Snapshot& state, const v1::Node& node) {
  for (const auto& [task_id, reason] : crowded_out(state, node)) {
    tight_nodes_.insert(node.id());
    if (const auto task = state.get<v1::Task>(task_id)) mark(task->service_id());
  }
}

Crowded Orchestrator::look_at_tight_nodes(const store::Snapshot& state) {
  Crowded all;
  for (auto at = tight_nodes_.begin(); at != tight_nodes_.end();) {
    const auto node = state.get<v1::Node>(*at);
    Crowded crowded = node == nullptr ? Crowded() : crowded_out(state, *node);
    at = crowded.empty() ? tight_nodes_.erase(at) : std::next(at);
    all.merge(crowded);
  }
  return all;
}

void Orchestrator::mark_slot(const v1::Task& task) {
  // Replicated slots count from 1, so 0 with a node is a node of a global service.
  const std::string node = task.slot() == 0 ? task.node_id() : std::string();
  dirt_[task.service_id()].slots.emplace(task.slot(), node);
}

void Orchestrator::on_task(const store::Change<v1::Task>& change, const store::Snapshot& state) {
  if (change.before == nullptr) return;  // only an evaluation creates tasks
  const v1::Task& before = *change.before;
  if (change.after == nullptr) {
    // The last task of a service or of a revision may have gone.
    const bool expected = before.desired_state() > v1::TASK_RUNNING;
    const auto service = state.get<v1::Service>(before.service_id());
    if (!expected || service == nullptr || service->revision() != before.revision()) {
      mark(before.service_id());
    }
    return;
  }
  const v1::Task& after = *change.after;
  const v1::TaskState was = before.status().state();
  const v1::TaskState is = after.status().state();
  const bool ended = is != was && is > v1::TASK_RUNNING;
  const bool runs = is != was && is == v1::TASK_RUNNING;
  // The end of a job's task, reported once more, lacks the reason why it is not tried again.
  const bool retold = after.job_iteration() != 0 && is > v1::TASK_RUNNING &&
                      before.status().error() != after.status().error();
  if (ended || retold || before.desired_state() != after.desired_state()) {
    mark_slot(after);
  } else if (runs) {
    // With start-first the predecessor's time has come.
    mark_slot(after);
  }
  // What is on its way to replace something else has found no place: that has its consequences.
  const bool stuck = is <= v1::TASK_PENDING && after.status().error() != before.status().error();
  if (stuck && waits_beside(state, after)) mark_slot(after);
  const bool told = before.desired_state() != after.desired_state();
  if ((ended || runs || told || stuck) && moving_.contains(after.service_id())) {
    mark(after.service_id());
  }
  if ((ended || runs) && under_update(state, after.service_id())) mark(after.service_id());
  if (ended && state.get<v1::Service>(after.service_id()) == nullptr) mark(after.service_id());
}

void Orchestrator::on_node(const store::Change<v1::Node>& change, const store::Snapshot& state) {
  if (change.before != nullptr && change.after != nullptr &&
      !matters(*change.before, *change.after)) {
    return;
  }
  const std::string& id = change.after != nullptr ? change.after->id() : change.before->id();
  std::map<std::string, ServiceContext> contexts;
  state.tasks_of_node(id, [&](const TaskPtr& task) {
    mark_slot(*task);
    const auto service = state.get<v1::Service>(task->service_id());
    if (service == nullptr) return true;
    // Of an older revision whose only difference is the placement: whether it may stay depends on
    // the node, and what is outdated is the whole service's business.
    if (service->revision() != task->revision()) mark(task->service_id());
    if (task->desired_state() > v1::TASK_RUNNING || dirt_[task->service_id()].whole) return true;
    const auto [context, fresh] = contexts.try_emplace(task->service_id());
    if (fresh) context->second = ServiceContext::load(state, task->service_id(), WallTime());
    if (context->second.service == nullptr) return true;
    // What has to leave does so in turn with the others of its service.
    const ServiceContext::Place place = context->second.place(*task);
    if (context->second.leaves(*task) && !context->second.left_at_once(place)) {
      mark(task->service_id());
    }
    return true;
  });
  if (change.after != nullptr) mark_crowded(state, *change.after);
  state.each<v1::Service>([&](const auto& service) {
    if (service->spec().has_global() || service->spec().has_global_job()) mark(service->id());
    return true;
  });
}

void Orchestrator::on_commit(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    if (const auto* task = std::get_if<store::Change<v1::Task>>(&any)) {
      on_task(*task, event.after);
    } else if (const auto* node = std::get_if<store::Change<v1::Node>>(&any)) {
      on_node(*node, event.after);
    } else if (const auto* service = std::get_if<store::Change<v1::Service>>(&any)) {
      mark(service->after != nullptr ? service->after->id() : service->before->id());
    } else if (const auto* cluster = std::get_if<store::Change<v1::Cluster>>(&any)) {
      if (cluster->before == nullptr || cluster->after == nullptr ||
          cluster->before->spec().task_history_limit() !=
              cluster->after->spec().task_history_limit()) {
        mark_all(event.after);
      }
    }
  }
  pump();
}

// ---------------------------------------------------------------- evaluation

void Orchestrator::pump() {
  if (!running_ || writing_ || dirt_.empty()) return;
  writing_ = true;
  const std::weak_ptr<Orchestrator*> weak = alive_;
  store_.update(
      [weak](store::Transaction& tx) -> Status {
        const auto self = weak.lock();
        return self == nullptr ? ok_status() : (*self)->evaluate(tx);
      },
      [weak](const store::Commit& commit) {
        if (const auto self = weak.lock()) (*self)->on_written(commit);
      });
}

Status Orchestrator::evaluate(store::Transaction& tx) {
  merge(std::move(in_work_));  // of a first run that did not fit the entry
  in_work_.clear();
  found_wakes_.clear();
  size_t changes = 0;
  const Crowded crowded = tight_nodes_.empty() ? Crowded() : look_at_tight_nodes(tx.view());
  // A service that is not done within the limit is looked at again after this write.
  while (!dirt_.empty() && changes < changes_max_) {
    auto node = dirt_.extract(dirt_.begin());
    const std::string service_id = node.key();
    const Dirt dirt = std::move(node.mapped());
    Plan plan;
    evaluate_service(tx.view(), service_id, dirt, crowded, tx.now(), changes_max_ - changes, plan);
    changes += size_of(plan);
    Dirt& work = in_work_[service_id];
    work.whole |= dirt.whole;
    work.slots.insert(dirt.slots.begin(), dirt.slots.end());
    MUSTER_TRY(write(tx, plan));
    if (changes >= changes_max_) mark(service_id);
  }
  return ok_status();
}

void Orchestrator::evaluate_service(const store::Snapshot& state, const std::string& service_id,
                                    const Dirt& dirt, const Crowded& crowded, WallTime now,
                                    size_t room, Plan& plan) {
  const auto service = state.get<v1::Service>(service_id);
  // How many slots of a job may be worked on is a matter of all of them.
  if (dirt.whole || service == nullptr || store::is_job(service->spec())) {
    plan_service(state, service_id, now, room, plan, &crowded);
    if (plan.moves_left) {
      moving_.insert(service_id);
    } else {
      moving_.erase(service_id);
    }
    if (plan.wake) note_wake({service_id, std::nullopt}, *plan.wake);
    return;
  }
  const ServiceContext context = ServiceContext::load(state, service_id, now, &crowded);
  if (context.service == nullptr) return;
  for (const SlotKey& slot : dirt.slots) {
    if (size_of(plan) >= room) break;
    plan.wake.reset();
    plan_one_slot(context, slot.first, slot.second, plan);
    if (plan.wake) note_wake({service_id, slot}, *plan.wake);
  }
}

Status Orchestrator::write(store::Transaction& tx, Plan& plan) {
  for (v1::Task& task : plan.update) MUSTER_TRY(tx.update(std::move(task)));
  for (const std::string& id : plan.remove) MUSTER_TRY(tx.remove<v1::Task>(id));
  for (v1::Task& task : plan.create) {
    task.set_id(rng_.id());
    MUSTER_TRY(tx.create(std::move(task)));
  }
  if (plan.service) MUSTER_TRY(tx.update(*std::move(plan.service)));
  for (const std::string& id : plan.remove_revisions) {
    MUSTER_TRY(tx.remove<v1::Revision>(id));
  }
  return ok_status();
}

void Orchestrator::on_written(const store::Commit& commit) {
  writing_ = false;
  if (commit.status.ok()) {
    in_work_.clear();
    changes_max_ = options_.changes_max;
    backoff_.reset();
    for (const auto& [wake, at] : found_wakes_) {
      const auto [known, fresh] = wakes_.try_emplace(wake, at);
      if (!fresh) {
        if (known->second <= at) continue;
        wake_order_.erase({known->second, wake});
        known->second = at;
      }
      wake_order_.emplace(at, wake);
    }
    found_wakes_.clear();
    arm();
    pump();
    return;
  }
  merge(std::move(in_work_));
  in_work_.clear();
  found_wakes_.clear();
  if (commit.status.code() == StatusCode::kResourceExhausted) {
    changes_max_ = std::max<size_t>(16, changes_max_ / 2);
  }
  if (backoff_.fresh()) {
    log_->warn("services were not reconciled, trying again: {}", commit.status.message());
  }
  strand_.cancel(retry_);
  const std::weak_ptr<Orchestrator*> weak = alive_;
  writing_ = true;  // nothing before the delay is over
  retry_ = strand_.after(backoff_.next(), [weak] {
    if (const auto self = weak.lock()) {
      (*self)->writing_ = false;
      (*self)->pump();
    }
  });
}

void Orchestrator::merge(DirtMap from) {
  for (auto& [service_id, dirt] : from) {
    Dirt& into = dirt_[service_id];
    into.whole |= dirt.whole;
    into.slots.merge(dirt.slots);
  }
}

// ---------------------------------------------------------------- time

void Orchestrator::note_wake(Wake wake, WallTime at) {
  const auto [known, fresh] = found_wakes_.try_emplace(std::move(wake), at);
  if (!fresh) known->second = std::min(known->second, at);
}

void Orchestrator::arm() {
  if (wake_order_.empty()) return;
  const WallTime first = wake_order_.begin()->first;
  if (armed_for_ && *armed_for_ <= first) return;
  strand_.cancel(timer_);
  armed_for_ = first;
  const Duration delay = std::max(Duration(0), first - strand_.clock().wall_now());
  const std::weak_ptr<Orchestrator*> weak = alive_;
  timer_ = strand_.after(delay, [weak] {
    if (const auto self = weak.lock()) (*self)->on_timer();
  });
}

void Orchestrator::on_timer() {
  armed_for_.reset();
  const WallTime now = strand_.clock().wall_now();
  while (!wake_order_.empty() && wake_order_.begin()->first <= now) {
    const Wake wake = wake_order_.begin()->second;
    wake_order_.erase(wake_order_.begin());
    wakes_.erase(wake);
    if (wake.slot) {
      dirt_[wake.service_id].slots.insert(*wake.slot);
    } else {
      mark(wake.service_id);
    }
  }
  arm();
  pump();
}

}  // namespace muster::manager::orchestrator
