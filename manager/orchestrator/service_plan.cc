#include "manager/orchestrator/service_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "manager/orchestrator/job_plan.h"
#include "manager/orchestrator/slot_plan.h"
#include "manager/store/job_status.h"
#include "manager/store/update_status.h"

namespace muster::manager::orchestrator {
namespace {

// One slot of either kind of service: `number` for replicated, `node_id` for global ones.
struct Slot {
  uint64_t number = 0;
  std::string node_id;
  std::vector<TaskPtr> tasks;
  SlotState state;
  bool takes = true;  // may get a new task
};

size_t size_of(const Plan& plan) {
  return plan.create.size() + plan.update.size() + plan.remove.size();
}

class ServicePlanner {
 public:
  ServicePlanner(const ServiceContext& context, size_t changes_max, Plan& plan)
      : context_(context), limit_(size_of(plan) + changes_max), plan_(plan) {}

  // True when everything was planned.
  bool run() {
    if (context_.service->spec().has_global()) {
      collect_global();
    } else {
      collect_replicated();
      scale_down();
    }
    if (!update()) return true;
    move();
    for (const Slot& slot : slots_) {
      if (full()) return false;
      plan_slot(context_, slot.tasks, slot.takes, plan_);
    }
    return context_.service->spec().has_global() ? create_global() : create_replicated();
  }

 private:
  bool full() const { return size_of(plan_) >= limit_; }
  uint64_t wanted() const { return context_.service->spec().replicated().replicas(); }

  void collect_global();
  void collect_replicated();
  void scale_down();
  bool update();
  void move();
  void begin(const std::vector<size_t>& which, uint64_t room, bool is_update);
  UpdatedSlot updated(const Slot& slot, const UpdateAttempts& attempts) const;
  bool create_global();
  bool create_replicated();
  void create(uint64_t number, const std::string& node_id, bool leaving);
  bool leaving(const std::vector<TaskPtr>& tasks) const {
    return std::any_of(tasks.begin(), tasks.end(),
                       [&](const TaskPtr& task) { return !context_.stopped(*task); });
  }

  const ServiceContext& context_;
  size_t limit_;
  Plan& plan_;
  std::vector<Slot> slots_;
  std::vector<uint64_t> vacant_;
  std::set<uint64_t> leaving_;  // vacant slots with a task that has not stopped yet
  uint64_t busy_ = 0;           // slots that are under way, for whatever reason
};

void ServicePlanner::collect_replicated() {
  std::map<uint64_t, Slot> slots;
  context_.state.tasks_of_service(context_.service->id(), [&](const TaskPtr& task) {
    slots[task->slot()].tasks.push_back(task);
    return true;
  });
  std::vector<Slot> dead;
  for (auto& [number, slot] : slots) {
    slot.number = number;
    slot.state = look_at_slot(context_, slot.tasks);
    (slot.state.filled ? slots_ : dead).push_back(std::move(slot));
  }
  // The lowest free numbers, dead slots among them: their history goes on.
  std::set<uint64_t> taken;
  for (const Slot& slot : slots_) taken.insert(slot.number);
  for (uint64_t number = 1; taken.size() + vacant_.size() < wanted(); ++number) {
    if (!taken.contains(number)) vacant_.push_back(number);
    if (vacant_.size() >= limit_) break;  // the rest in a later plan
  }
  const std::set<uint64_t> reused(vacant_.begin(), vacant_.end());
  for (Slot& slot : dead) {
    if (full()) return;
    if (reused.contains(slot.number)) {
      if (leaving(slot.tasks)) leaving_.insert(slot.number);
      plan_slot(context_, slot.tasks, false, plan_);
    } else {
      plan_removal(context_, slot.tasks, plan_);
    }
  }
}

void ServicePlanner::scale_down() {
  if (slots_.size() <= wanted()) return;
  // slots_ is in the order of numbers: a stable sort keeps low numbers in front.
  std::stable_sort(slots_.begin(), slots_.end(),
                   [](const Slot& a, const Slot& b) { return a.state.running > b.state.running; });
  std::map<std::string, size_t> copies;
  std::vector<std::pair<size_t, size_t>> order;  // (which copy on its node, index)
  for (size_t i = 0; i < slots_.size(); ++i) {
    order.emplace_back(copies[slots_[i].state.node_id]++, i);
  }
  std::stable_sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    const bool runs_a = slots_[a.second].state.running;
    const bool runs_b = slots_[b.second].state.running;
    return runs_a != runs_b ? runs_a : a.first < b.first;
  });
  std::vector<Slot> kept;
  for (size_t i = 0; i < order.size(); ++i) {
    Slot& slot = slots_[order[i].second];
    if (i < wanted()) {
      kept.push_back(std::move(slot));
    } else if (!full()) {
      plan_removal(context_, slot.tasks, plan_);
    }
  }
  slots_ = std::move(kept);
  std::sort(slots_.begin(), slots_.end(),
            [](const Slot& a, const Slot& b) { return a.number < b.number; });
}

void ServicePlanner::collect_global() {
  std::map<std::string, Slot> slots;
  context_.state.tasks_of_service(context_.service->id(), [&](const TaskPtr& task) {
    slots[task->node_id()].tasks.push_back(task);
    return true;
  });
  context_.state.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    Slot& slot = slots[node->id()];
    slot.takes = context_.node_takes(*node);
    slot.node_id = node->id();
    return true;
  });
  for (auto& [node_id, slot] : slots) {
    if (slot.node_id.empty()) {  // the node is gone for good
      plan_removal(context_, slot.tasks, plan_);
      continue;
    }
    slot.state = look_at_slot(context_, slot.tasks);
    if (!slot.tasks.empty() || slot.takes) slots_.push_back(std::move(slot));
  }
}

// Slots that the service's revision has reached, and how it took there.
UpdatedSlot ServicePlanner::updated(const Slot& slot, const UpdateAttempts& attempts) const {
  UpdatedSlot seen = look_at_updated_slot(attempts, slot.tasks);
  const SlotState& state = slot.state;
  const bool expected = seen.task == nullptr || seen.stage == UpdatedSlot::Stage::kUnderWay;
  if (expected && (state.done || state.occupant == nullptr)) {
    seen.stage = UpdatedSlot::Stage::kDone;  // given up: nothing to wait for
  } else if (seen.task == nullptr) {         // there since before the update began
    seen.task = state.occupant;
    if (state.running) seen.stage = UpdatedSlot::Stage::kRuns;
    seen.since = state.running ? WallTime{state.running_since_ns}
                               : WallTime{state.occupant->meta().created_at_ns()};
  }
  return seen;
}

// The update's step, and with it the slots that are begun now. False: the spec changes, and nothing
// else is planned before it has.
bool ServicePlanner::update() {
  std::vector<size_t> outdated;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.state.filled && slot.takes && slot.state.outdated) outdated.push_back(i);
  }
  const v1::UpdateStatus& before = context_.service->update_status();
  const bool begins = store::is_updating(before) ? !before.has_slots()
                                                 : !store::is_paused(before) && !outdated.empty();
  if (begins) {
    plan_.service = with_update_begun(*context_.service, outdated.size(), context_.now);
  }
  const v1::Service& service = plan_.service ? *plan_.service : *context_.service;
  busy_ = static_cast<uint64_t>(std::count_if(slots_.begin(), slots_.end(),
                                              [](const Slot& slot) { return slot.state.moving; }));
  if (!store::is_updating(service.update_status())) return true;
  std::vector<UpdatedSlot> reached;
  // But for what the update counts itself, or replaces without taking anything away.
  uint64_t moving = 0;
  const UpdateAttempts attempts = update_attempts(service, context_.update, context_.restart);
  for (const Slot& slot : slots_) {
    if (!slot.state.filled || !slot.takes || slot.state.outdated) continue;
    reached.push_back(updated(slot, attempts));
    const bool counted = reached.back().stage == UpdatedSlot::Stage::kUnderWay;
    if (!counted && slot.state.moving) ++moving;
  }
  const UpdateVerdict verdict = judge_update(context_.update, service.update_status(),
                                             outdated.size(), reached, context_.now, moving);
  if (verdict.wake) plan_.wake_at(*verdict.wake);
  if (verdict.step != UpdateVerdict::Step::kGoOn) {
    plan_.service = with_step(service, verdict, context_.now);
    return plan_.service->revision() == context_.service->revision();
  }
  // Nothing is lost by replacing first what does not run.
  std::stable_sort(outdated.begin(), outdated.end(), [&](size_t a, size_t b) {
    return slots_[a].state.running < slots_[b].state.running;
  });
  begin(outdated, verdict.room, true);
  return true;
}

// Tasks that may not stay where they are, as many at a time as an update may take, together with
// what is under way already. What does not run goes first, then what the nodes have no room for,
// newest first, then the rest in the order of slots.
void ServicePlanner::move() {
  std::vector<size_t> leaving;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const SlotState& state = slots_[i].state;
    if (state.moving && state.unsettled) plan_.wake_at(state.moving_until);
    plan_.moves_left |= state.unsettled;
    // What an update is going to replace moves with it.
    const bool updates =
        state.outdated && store::is_updating(plan_.service ? plan_.service->update_status()
                                                           : context_.service->update_status());
    if (state.leaving && !updates) leaving.push_back(i);
  }
  if (leaving.empty()) return;
  const auto key = [&](size_t i) {
    const SlotState& state = slots_[i].state;
    const bool crowded = context_.place(*state.occupant) == ServiceContext::Place::kUnable;
    const int64_t age = crowded ? -state.occupant->meta().created_at_ns() : 0;
    return std::tuple(state.running, !crowded, age, i);
  };
  std::sort(leaving.begin(), leaving.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
  const uint64_t most = context_.update.parallelism;
  const uint64_t room = most == 0 ? leaving.size() : most > busy_ ? most - busy_ : 0;
  // Without room there is something under way, whose time may end without an event.
  for (const Slot& slot : slots_) {
    if (room < leaving.size() && slot.state.moving) plan_.wake_at(slot.state.moving_until);
  }
  begin(leaving, room, false);
}

// Begins the first `room` of the slots, which are then out of the way of later steps.
void ServicePlanner::begin(const std::vector<size_t>& which, uint64_t room, bool is_update) {
  std::set<size_t> begun;
  for (const size_t i : which) {
    if (begun.size() >= room || full()) break;
    if (is_update) {
      plan_slot_update(context_, slots_[i].tasks, plan_);
    } else {
      plan_slot_move(context_, slots_[i].tasks, slots_[i].takes, plan_);
    }
    begun.insert(i);
  }
  busy_ += begun.size();
  if (begun.empty()) return;
  std::vector<Slot> rest;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!begun.contains(i)) rest.push_back(std::move(slots_[i]));
  }
  slots_ = std::move(rest);
}

// Fills a vacant slot. What is on its way out there goes first: it may hold the same ports and
// volumes.
void ServicePlanner::create(uint64_t number, const std::string& node_id, bool leaving) {
  const v1::TaskState desired = leaving ? v1::TASK_READY : v1::TASK_RUNNING;
  plan_.create.push_back(context_.new_task(number, node_id, desired));
  if (leaving) plan_.wake_at(context_.now + context_.stop_wait());
}

bool ServicePlanner::create_replicated() {
  for (const uint64_t number : vacant_) {
    if (full()) return false;
    create(number, {}, leaving_.contains(number));
  }
  return !full();
}

bool ServicePlanner::create_global() {
  for (const Slot& slot : slots_) {
    if (full()) return false;
    if (!slot.takes || slot.state.filled) continue;
    create(0, slot.node_id, leaving(slot.tasks));
  }
  return !full();
}

// Revisions that no task and no service refers to.
void plan_revisions(const store::Snapshot& state, std::string_view service_id, Plan& plan) {
  std::vector<store::Ptr<v1::Revision>> revisions;
  state.revisions_of_service(service_id, [&](const store::Ptr<v1::Revision>& revision) {
    revisions.push_back(revision);
    return true;
  });
  const auto service = state.get<v1::Service>(service_id);
  const size_t own = service == nullptr ? 0 : 1;
  if (revisions.size() <= own) return;
  std::set<uint64_t> used;
  if (service != nullptr) {
    used.insert(service->revision());
    // What a rollback would go back to.
    if (service->has_previous_spec()) used.insert(service->previous_revision());
  }
  state.tasks_of_service(service_id, [&](const TaskPtr& task) {
    used.insert(task->revision());
    return true;
  });
  for (const auto& revision : revisions) {
    if (!used.contains(revision->number())) plan.remove_revisions.push_back(revision->id());
  }
}

}  // namespace

ServicePlanResult plan_service(const store::Snapshot& state, std::string_view service_id,
                               WallTime now, size_t changes_max, Plan& plan,
                               const Crowded* crowded) {
  ServicePlanResult result;
  if (state.get<v1::Service>(service_id) == nullptr) {
    std::vector<TaskPtr> tasks;
    state.tasks_of_service(service_id, [&](const TaskPtr& task) {
      // A few more than fit: those that already wait for their end give nothing to do.
      if (size_of(plan) + tasks.size() >= changes_max) {
        plan_end(tasks, state, now, plan);
        tasks.clear();
        result.complete = size_of(plan) < changes_max;
      }
      if (result.complete) tasks.push_back(task);
      return result.complete;
    });
    plan_end(tasks, state, now, plan);
    plan_revisions(state, service_id, plan);
    return result;
  }
  const ServiceContext context = ServiceContext::load(state, service_id, now, crowded);
  if (context.service == nullptr) return result;  // its revision is missing: nothing to go by
  result.complete = store::is_job(context.service->spec())
                        ? plan_job(context, changes_max, plan)
                        : ServicePlanner(context, changes_max, plan).run();
  plan_revisions(state, service_id, plan);
  return result;
}

void plan_one_slot(const ServiceContext& context, uint64_t slot, const std::string& node_id,
                   Plan& plan) {
  std::vector<TaskPtr> tasks;
  bool takes = true;
  if (context.service->spec().has_global()) {
    const auto node = context.state.get<v1::Node>(node_id);
    takes = node != nullptr && context.node_takes(*node);
    context.state.tasks_of_node(node_id, [&](const TaskPtr& task) {
      if (task->service_id() == context.service->id()) tasks.push_back(task);
      return true;
    });
  } else {
    context.state.tasks_of_slot(context.service->id(), slot, [&](const TaskPtr& task) {
      tasks.push_back(task);
      return true;
    });
  }
  plan_slot(context, tasks, takes, plan);
}

}  // namespace muster::manager::orchestrator
