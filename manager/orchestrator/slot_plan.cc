#include "manager/orchestrator/slot_plan.h"
#include "manager/store/update_status.h"

#include <algorithm>
#include <optional>
#include <set>

namespace muster::manager::orchestrator {
namespace {

bool meant_to_run(const v1::Task& task) {
  return task.desired_state() <= v1::TASK_RUNNING;
}

std::vector<const v1::Task*> raw(const std::vector<TaskPtr>& tasks) {
  std::vector<const v1::Task*> out;
  out.reserve(tasks.size());
  for (const TaskPtr& task : tasks) out.push_back(task.get());
  return out;
}

// Whether a task had come to an end of its own before `next` was made, which therefore is another
// attempt; not whether it came to one while it was being stopped.
bool ended_before(const v1::Task& task, const v1::Task& next) {
  return ended_by_itself(task.status().state()) &&
         reached_at_ns(task) <= next.meta().created_at_ns();
}

// Whether a task was told to stop and had not stopped yet when `next` was made, which came in its
// place: also when failed attempts at something else stand between the two.
bool made_way(const v1::Task& task, const v1::Task& next) {
  return task.desired_state() == v1::TASK_SHUTDOWN && task.status().state() > v1::TASK_RUNNING &&
         reached_at_ns(task) > next.meta().created_at_ns();
}

// One evaluation of a slot; tasks it has decided about are out of the way of later steps.
class SlotPlanner {
 public:
  SlotPlanner(const ServiceContext& context, const std::vector<TaskPtr>& tasks, Plan& plan)
      : context_(context), tasks_(tasks), plan_(plan) {
    std::sort(tasks_.begin(), tasks_.end(), newer);
  }

  void replace_ended(bool replace);
  void drop_surplus();
  void let_run();
  void forget();
  void update();
  void move(bool replace);

 private:
  using Place = ServiceContext::Place;

  bool global() const { return context_.service->spec().has_global(); }
  void shut_down(const TaskPtr& task, const std::string& why = {}) {
    plan_.update.push_back(context_.told_to_stop(*task, v1::TASK_SHUTDOWN, why));
    touched_.insert(task->id());
  }
  bool live(const TaskPtr& task) const {
    return meant_to_run(*task) && !touched_.contains(task->id());
  }
  // Whether any task of the slot, not only the last one, was told to stop and has not stopped.
  bool leaving() const {
    return std::any_of(tasks_.begin(), tasks_.end(), [&](const TaskPtr& task) {
      const bool told = !meant_to_run(*task) || touched_.contains(task->id());
      return told && !context_.stopped(*task);
    });
  }
  // Whether a task that has to leave may stay until its successor runs.
  bool stays_meanwhile(const v1::Task& task) const {
    return context_.update.start_first && !global() && task.status().state() == v1::TASK_RUNNING &&
           wants_restart(context_.restart, task, raw(tasks_));
  }
  void add_successor(const v1::Task& old, Duration delay);
  void add_beside(const v1::Task& old);
  bool replace_drained(const TaskPtr& task);
  TaskPtr telling() const;
  std::set<std::string> counted_attempts() const;
  void stop_leavers();

  const ServiceContext& context_;
  std::vector<TaskPtr> tasks_;
  Plan& plan_;
  std::set<std::string> touched_;
  bool added_ = false;
};

void SlotPlanner::add_successor(const v1::Task& old, Duration delay) {
  const bool at_once = delay.count() <= 0 && !leaving();
  v1::Task task = context_.new_task(old.slot(), global() ? old.node_id() : std::string(),
                                    at_once ? v1::TASK_RUNNING : v1::TASK_READY);
  if (delay.count() > 0) {
    const WallTime start = context_.now + delay;
    task.set_start_after_ns(start.unix_ns);
    plan_.wake_at(start);
  }
  if (!at_once) plan_.wake_at(context_.now + context_.stop_wait());
  plan_.create.push_back(std::move(task));
  added_ = true;
}

void SlotPlanner::add_beside(const v1::Task& old) {
  plan_.create.push_back(
      context_.new_task(old.slot(), global() ? old.node_id() : std::string(), v1::TASK_RUNNING));
  added_ = true;
}

// The successor of a task on a drained node comes up before the task is stopped, if the service's
// order is start-first. False: it is not that way.
bool SlotPlanner::replace_drained(const TaskPtr& task) {
  if (!stays_meanwhile(*task)) return false;
  const bool other = added_ || std::any_of(tasks_.begin(), tasks_.end(),
                                           [&](const TaskPtr& t) { return t != task && live(t); });
  if (!other) add_beside(*task);
  return true;
}

// The first attempt at replacing what has to leave has failed: that does not wait for another.
void SlotPlanner::stop_leavers() {
  for (const TaskPtr& task : tasks_) {
    if (!live(task) || task->status().state() > v1::TASK_RUNNING) continue;
    if (context_.leaves(*task)) shut_down(task, context_.why_leaves(*task));
  }
}

void SlotPlanner::replace_ended(bool replace) {
  const auto history = raw(tasks_);
  for (const TaskPtr& task : tasks_) {
    if (!live(task)) continue;
    const bool ended = task->status().state() > v1::TASK_RUNNING;
    const Place place = context_.place(*task);
    const bool moved = context_.left_at_once(place);
    if (!ended && !moved) continue;
    // An attempt that fails while it is prepared ends before its delay has passed. Its successor
    // waits for that, or a service that cannot start would be tried in a tight loop.
    if (!moved && waits_for_start(context_.restart, *task, context_.now)) {
      plan_.wake_at(WallTime{task->start_after_ns()});
      continue;
    }
    if (place == Place::kDrained && replace && replace_drained(task)) continue;
    shut_down(task, ended ? std::string() : context_.why_leaves(*task));
    if (ended && !moved) stop_leavers();
    // The node is the slot of a global service: where it takes no task there is nothing to do.
    if (!replace || (global() && moved)) continue;
    // The policy is about attempts at what is wanted now. An outdated task that has ended, perhaps
    // before it ever had a node, leaves its slot to the service's revision.
    const bool current = context_.up_to_date(*task);
    if (current && !wants_restart(context_.restart, *task, history)) continue;
    // An outdated task that runs until this slot's new one does is no reason not to try again.
    const bool other = added_ || std::any_of(tasks_.begin(), tasks_.end(), [&](const TaskPtr& t) {
                         return live(t) && (!current || context_.up_to_date(*t));
                       });
    if (other) continue;
    const bool attempt = !moved && ended_by_itself(task->status().state());
    add_successor(*task, attempt ? context_.restart.delay : Duration(0));
  }
}

void SlotPlanner::drop_surplus() {
  std::vector<TaskPtr> meant;
  for (const TaskPtr& task : tasks_) {
    if (live(task)) meant.push_back(task);
  }
  if (meant.size() < 2) return;
  // The one to keep: up to date where it may stay, then running, then the newest.
  const auto outgoing = [&](const TaskPtr& task) {
    return !context_.up_to_date(*task) || context_.leaves(*task);
  };
  const auto rank = [&](const TaskPtr& task) {
    return std::pair(outgoing(task), task->status().state() != v1::TASK_RUNNING);
  };
  std::stable_sort(meant.begin(), meant.end(),
                   [&](const TaskPtr& a, const TaskPtr& b) { return rank(a) < rank(b); });
  const bool keeper_runs = meant[0]->status().state() == v1::TASK_RUNNING;
  const bool beside = context_.update.start_first && !outgoing(meant[0]) && !keeper_runs;
  const Handover handover = beside ? look_at_handover(context_, tasks_) : Handover();
  for (size_t i = 1; i < meant.size(); ++i) {
    // Start-first: what runs stays until its successor does. An update waits for that; a node that
    // is to be left, only while there is something to wait for.
    const bool leaves = context_.leaves(*meant[i]);
    const bool wait = beside && (leaves ? handover.fresh == meant[0] : outgoing(meant[i]));
    if (!wait) shut_down(meant[i], leaves ? context_.why_leaves(*meant[i]) : std::string());
    if (wait && leaves) plan_.wake_at(handover.until);
  }
}

void SlotPlanner::let_run() {
  const WallTime now = context_.now;
  for (const TaskPtr& task : tasks_) {
    if (!live(task) || task->desired_state() >= v1::TASK_RUNNING) continue;
    if (waits_for_start(context_.restart, *task, now)) {
      plan_.wake_at(WallTime{task->start_after_ns()});
      continue;
    }
    const WallTime patience = WallTime{task->meta().created_at_ns()} + context_.stop_wait();
    if (leaving() && now < patience && !made_ahead(*task, now)) {
      plan_.wake_at(patience);
      continue;
    }
    plan_.update.push_back(with_desired(*task, v1::TASK_RUNNING, now));
  }
}

// Of the tasks that are over the one that says something of the slot: that it was given up, or that
// the task on its way takes the place of one told to leave. It is the newest, or what made way for
// the task on its way: after a rollback that may be older than the attempts that failed. It is kept
// whatever the limit, or the slot would look vacant and be tried again, or undisturbed.
TaskPtr SlotPlanner::telling() const {
  TaskPtr over;
  TaskPtr fresh;
  for (const TaskPtr& task : tasks_) {
    if (!live(task)) {
      if (over == nullptr) over = task;
    } else if (context_.up_to_date(*task)) {
      if (task->status().state() == v1::TASK_RUNNING) return nullptr;
      if (fresh == nullptr) fresh = task;
    }
  }
  if (over == nullptr) return nullptr;
  if (fresh == nullptr) return !added_ || !ended_by_itself(over->status().state()) ? over : nullptr;
  if (!ended_before(*over, *fresh)) return over;
  const auto older = std::find_if(tasks_.begin(), tasks_.end(), [&](const TaskPtr& task) {
    return !live(task) && made_way(*task, *fresh);
  });
  return older == tasks_.end() ? nullptr : *older;
}

void SlotPlanner::forget() {
  const int64_t history = context_.history < 0 ? INT64_MAX : context_.history;
  // An update counts its failures from the tasks there are.
  const v1::Service& service = *context_.service;
  TaskPtr deciding;
  if (store::is_updating(service.update_status())) {
    deciding = deciding_task(update_attempts(service, context_.update, context_.restart), tasks_);
  }
  const std::set<std::string> counted = counted_attempts();
  // What the policy counts goes before what it does not, such as tasks that were moved.
  const TaskPtr tells = telling();
  const bool besides = tells != nullptr && !counted.contains(tells->id());
  const int64_t others =
      std::max<int64_t>(history - static_cast<int64_t>(counted.size()), besides ? 1 : 0);
  std::vector<TaskPtr> order = tasks_;
  std::stable_partition(order.begin(), order.end(),
                        [&](const TaskPtr& task) { return task == tells; });
  int64_t kept = 0;
  for (const TaskPtr& task : order) {
    if (task == deciding || counted.contains(task->id())) continue;
    if (meant_to_run(*task) || !forgettable(*task, context_.state)) continue;
    const bool removed = task->desired_state() >= v1::TASK_REMOVE;
    if (!removed && kept < others) {
      ++kept;
    } else {
      plan_.remove.push_back(task->id());
    }
  }
}

// The attempts that max_attempts is counted from, as many as it takes: the one under way, or the
// last one, is one of them.
std::set<std::string> SlotPlanner::counted_attempts() const {
  std::set<std::string> counted;
  const uint64_t most = context_.restart.max_attempts;
  if (most == 0) return counted;
  const bool under_way =
      added_ || std::any_of(tasks_.begin(), tasks_.end(), [&](const auto& t) { return live(t); });
  for (const TaskPtr& task : tasks_) {
    if (counted.size() >= (under_way ? most : most + 1)) break;
    if (meant_to_run(*task) || task->desired_state() >= v1::TASK_REMOVE) continue;
    if (task->revision() != tasks_.front()->revision()) continue;
    if (ended_by_itself(task->status().state())) counted.insert(task->id());
  }
  return counted;
}

void SlotPlanner::update() {
  // What runs stays until its successor does. Whatever else was on its way here, of an update that
  // this one overtakes, goes.
  TaskPtr kept;
  if (context_.update.start_first) {
    for (const TaskPtr& task : tasks_) {
      const bool runs = live(task) && task->status().state() == v1::TASK_RUNNING;
      if (runs && kept == nullptr) kept = task;
    }
  }
  TaskPtr last;
  for (const TaskPtr& task : tasks_) {
    if (!live(task)) continue;
    if (last == nullptr) last = task;
    if (task != kept) shut_down(task);
  }
  if (last == nullptr) last = tasks_.front();
  if (kept == nullptr) {
    add_successor(*last, Duration(0));
    return;
  }
  add_beside(*last);
}

void SlotPlanner::move(bool replace) {
  TaskPtr last;
  bool stays = false;
  for (const TaskPtr& task : tasks_) {
    if (!live(task)) continue;
    if (last == nullptr) last = task;
    if (!stays && stays_meanwhile(*task)) {
      stays = true;
    } else {
      shut_down(task, context_.why_leaves(*task));
    }
  }
  if (last == nullptr) return;
  if (stays) {
    add_beside(*last);
  } else if (replace && wants_restart(context_.restart, *last, raw(tasks_))) {
    add_successor(*last, Duration(0));
  }
}

}  // namespace

bool newer(const TaskPtr& a, const TaskPtr& b) {
  if (a->meta().created_at_ns() != b->meta().created_at_ns()) {
    return a->meta().created_at_ns() > b->meta().created_at_ns();
  }
  return a->id() > b->id();
}

bool forgettable(const v1::Task& task, const store::Snapshot& state) {
  const v1::TaskState observed = task.status().state();
  if (observed < v1::TASK_ASSIGNED || observed >= v1::TASK_COMPLETE) return true;
  return !task.node_id().empty() && state.get<v1::Node>(task.node_id()) == nullptr;
}

Handover look_at_handover(const ServiceContext& context, const std::vector<TaskPtr>& tasks) {
  // Of the tasks that are wanted where they are, the newest.
  TaskPtr fresh;
  for (const TaskPtr& task : tasks) {
    if (!meant_to_run(*task) || task->status().state() >= v1::TASK_RUNNING) continue;
    // From a node that is left at once it only changes places.
    if (context.leaves(*task) && !context.left_at_once(context.place(*task))) continue;
    if (fresh == nullptr || newer(task, fresh)) fresh = task;
  }
  if (fresh == nullptr) return {};
  const v1::TaskStatus& status = fresh->status();
  if (status.state() <= v1::TASK_PENDING && !status.error().empty()) return {};  // finds no place
  const Duration patience =
      context.update.deadline.count() > 0 ? context.update.deadline : UpdateRules().deadline;
  const WallTime until = WallTime{fresh->meta().created_at_ns()} + patience;
  if (context.now >= until) return {};
  TaskPtr before;
  for (const TaskPtr& task : tasks) {
    if (!newer(fresh, task) || task == fresh) continue;
    if (before == nullptr || newer(task, before)) before = task;
  }
  // A failed attempt may stand between it and what was stopped for that.
  const bool stopping = std::any_of(tasks.begin(), tasks.end(), [&](const TaskPtr& task) {
    if (task == fresh || task->desired_state() != v1::TASK_SHUTDOWN) return false;
    return made_way(*task, *fresh) || !context.stopped(*task);
  });
  if (stopping) return {fresh, until};
  if (before == nullptr || ended_before(*before, *fresh)) return {};
  const bool told =
      before->desired_state() == v1::TASK_SHUTDOWN ||
      (meant_to_run(*before) && (context.leaves(*before) || !context.up_to_date(*before)));
  return told ? Handover{fresh, until} : Handover();
}

namespace {

// When an attempt that has failed is dealt with: now, or once the delay before its start has
// passed. Nothing when there is none.
std::optional<WallTime> failed_attempt_ends(const ServiceContext& context,
                                            const std::vector<TaskPtr>& tasks) {
  std::optional<WallTime> ends;
  for (const TaskPtr& task : tasks) {
    if (!meant_to_run(*task) || task->status().state() <= v1::TASK_RUNNING) continue;
    const bool waits = waits_for_start(context.restart, *task, context.now);
    const WallTime end = waits ? WallTime{task->start_after_ns()} : context.now;
    ends = std::max(ends.value_or(end), end);
  }
  return ends;
}

}  // namespace

SlotState look_at_slot(const ServiceContext& context, const std::vector<TaskPtr>& tasks) {
  SlotState slot;
  TaskPtr newest;
  TaskPtr best;
  bool best_current = false;
  bool one_stays = false;
  int meant = 0;
  for (const TaskPtr& task : tasks) {
    if (task->desired_state() >= v1::TASK_REMOVE) continue;
    if (newest == nullptr || newer(task, newest)) newest = task;
    const bool current = context.up_to_date(*task);
    if (!meant_to_run(*task)) continue;
    ++meant;
    const bool runs = task->status().state() == v1::TASK_RUNNING;
    const auto place = task->status().state() > v1::TASK_RUNNING ? ServiceContext::Place::kFine
                                                                 : context.place(*task);
    const bool at_once = context.left_at_once(place);
    const bool leaves = place >= ServiceContext::Place::kLost;
    if (leaves && !at_once) slot.unsettled = true;
    one_stays |= !leaves;
    const bool better =
        best == nullptr || std::pair(current, runs) >
                               std::pair(best_current, best->status().state() == v1::TASK_RUNNING);
    if (better) {
      best = task;
      best_current = current;
    }
  }
  if (best != nullptr) {
    slot.filled = true;
    // Start-first: the policy has given up the attempts at replacing what runs. Until the service
    // changes there is nothing more to be done.
    const bool given_up = !best_current && newest != best && !meant_to_run(*newest) &&
                          ended_by_itself(newest->status().state()) &&
                          context.up_to_date(*newest) &&
                          !wants_restart(context.restart, *newest, raw(tasks));
    slot.outdated = !best_current && !given_up;
    slot.running = best->status().state() == v1::TASK_RUNNING;
    slot.running_since_ns = reached_at_ns(*best);
    slot.node_id = best->node_id();
    slot.occupant = best;
    slot.leaving = slot.unsettled && !one_stays;
    if (!slot.running || meant > 1) {
      const Handover handover = look_at_handover(context, tasks);
      slot.moving = handover.fresh != nullptr;
      slot.moving_until = handover.until;
      // What a failed attempt was to replace is stopped with it, which must not come on top of
      // another slot's step.
      const auto fallback = failed_attempt_ends(context, tasks);
      if (!slot.moving && slot.unsettled && fallback) {
        slot.moving = true;
        slot.moving_until = *fallback;
      }
    }
  } else if (newest != nullptr && context.up_to_date(*newest)) {
    // Given up: the policy wants no further attempt until the service changes.
    slot.filled = !wants_restart(context.restart, *newest, raw(tasks));
    slot.done = slot.filled && newest->status().state() == v1::TASK_COMPLETE;
  }
  return slot;
}

void plan_slot(const ServiceContext& context, const std::vector<TaskPtr>& tasks, bool replace,
               Plan& plan) {
  SlotPlanner planner(context, tasks, plan);
  planner.replace_ended(replace);
  planner.drop_surplus();
  planner.let_run();
  planner.forget();
}

void plan_slot_update(const ServiceContext& context, const std::vector<TaskPtr>& tasks,
                      Plan& plan) {
  SlotPlanner planner(context, tasks, plan);
  planner.update();
  planner.forget();
}

void plan_slot_move(const ServiceContext& context, const std::vector<TaskPtr>& tasks, bool replace,
                    Plan& plan) {
  SlotPlanner planner(context, tasks, plan);
  planner.move(replace);
  planner.forget();
}

void plan_removal(const ServiceContext& context, const std::vector<TaskPtr>& tasks, Plan& plan) {
  for (const TaskPtr& task : tasks) {
    if (forgettable(*task, context.state)) {
      plan.remove.push_back(task->id());
    } else if (task->desired_state() < v1::TASK_REMOVE) {
      plan.update.push_back(context.told_to_stop(*task, v1::TASK_REMOVE));
    }
  }
}

void plan_end(const std::vector<TaskPtr>& tasks, const store::Snapshot& state, WallTime now,
              Plan& plan) {
  for (const TaskPtr& task : tasks) {
    if (forgettable(*task, state)) {
      plan.remove.push_back(task->id());
    } else if (task->desired_state() < v1::TASK_REMOVE || task->has_drain()) {
      v1::Task changed = with_desired(*task, v1::TASK_REMOVE, now);
      changed.clear_drain();
      if (task->endpoint_state() == v1::ENDPOINT_DRAINING) {
        changed.set_endpoint_state(v1::ENDPOINT_RELEASED);
      }
      plan.update.push_back(std::move(changed));
    }
  }
}

}  // namespace muster::manager::orchestrator
