#include "manager/orchestrator/job_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "manager/orchestrator/slot_plan.h"
#include "manager/store/job_status.h"

namespace muster::manager::orchestrator {
namespace {

constexpr int64_t kSlotsPerHistory = 20;
// Ranges are few, since slots finish about in their order. Should they not be, tasks are kept
// instead: the status is written and sent with the service.
constexpr int kRangesMax = 1'000;

bool ended(const v1::Task& task) {
  return task.status().state() > v1::TASK_RUNNING;
}

bool is_complete(const v1::Task& task) {
  return task.status().state() == v1::TASK_COMPLETE;
}

bool meant(const v1::Task& task) {
  return task.desired_state() <= v1::TASK_COMPLETE;
}

std::vector<const v1::Task*> raw(const std::vector<JobAttempt>& attempts) {
  std::vector<const v1::Task*> out;
  out.reserve(attempts.size());
  for (const JobAttempt& attempt : attempts) out.push_back(attempt.task.get());
  return out;
}

// Why there is no further attempt.
std::string given_up(const RestartRules& rules) {
  if (rules.condition == v1::RestartPolicy::NONE) {
    return "not tried again: the restart condition is none";
  }
  return fmt::format("not tried again: {} of {} restarts are used up", rules.max_attempts,
                     rules.max_attempts);
}

std::string why(const v1::Task& task, const RestartRules& rules) {
  const std::string reason = given_up(rules);
  const std::string& error = task.status().error();
  if (error.ends_with(reason)) return error;
  if (!error.empty()) return fmt::format("{}; {}", error, reason);
  if (!ended(task)) return fmt::format("its node was lost; {}", reason);
  if (task.status().state() == v1::TASK_SHUTDOWN) return fmt::format("stopped; {}", reason);
  return reason;
}

enum class Stage {
  kVacant,   // an attempt may begin
  kActive,   // one is under way, or waits for its start
  kDone,     // has completed
  kGivenUp,  // the restart policy wants no further attempt
  kIdle      // a node that takes none
};

struct Looked {
  const JobSlot* slot = nullptr;  // attempts newest first
  Stage stage = Stage::kVacant;
  const JobAttempt* live = nullptr;  // of kActive
};

class JobPlanner {
 public:
  JobPlanner(JobView view, WallTime now, size_t changes_max)
      : view_(std::move(view)), now_(now), changes_max_(changes_max) {
    verdict_.status = view_.status;
  }

  JobVerdict run() {
    looked_.reserve(view_.slots.size());
    for (JobSlot& slot : view_.slots) looked_.push_back(look(slot));
    count();
    retire_earlier();
    for (const Looked& looked : looked_) tend(looked);
    repeat();
    if (!view_.global) begin_fresh();
    if (!view_.global) collect();
    judge_end();
    return std::move(verdict_);
  }

 private:
  bool full() {
    if (verdict_.size() < changes_max_) return false;
    verdict_.complete = false;
    return true;
  }
  void wake_at(WallTime t) {
    if (t > now_ && (!verdict_.wake || t < *verdict_.wake)) verdict_.wake = t;
  }
  // Whether an attempt that is to end still runs, so that its place is not free. One that does not
  // react for long enough holds nobody up.
  bool holds(const JobAttempt& attempt) {
    if (attempt.stopped) return false;
    const bool told = !meant(*attempt.task);
    const WallTime since = told ? WallTime{attempt.task->meta().updated_at_ns()} : now_;
    if (since + view_.stop_wait <= now_) return false;
    wake_at(since + view_.stop_wait);
    return true;
  }
  bool leaving(const Looked& looked) {
    return std::any_of(looked.slot->attempts.begin(), looked.slot->attempts.end(),
                       [&](const JobAttempt& a) { return &a != looked.live && holds(a); });
  }
  Looked look(JobSlot& slot) const;
  void count();
  void retire_earlier();
  void tend(const Looked& looked);
  void end(const JobAttempt& attempt);
  void explain(const Looked& looked);
  void let_run(const Looked& looked);
  void forget(const Looked& looked);
  void repeat();
  void begin_fresh();
  void collect();
  void collect(std::vector<const Looked*> finished, store::SlotRanges& ranges);
  void judge_end();
  uint64_t room() const {
    const uint64_t begun = occupied_ + verdict_.starts.size();
    if (view_.global || view_.concurrent == 0) return UINT64_MAX;
    return view_.concurrent > begun ? view_.concurrent - begun : 0;
  }

  JobView view_;
  WallTime now_;
  size_t changes_max_;
  JobVerdict verdict_;
  std::vector<Looked> looked_;
  uint64_t occupied_ = 0;
  std::set<uint64_t> held_slots_;     // by earlier iterations
  std::set<std::string> held_nodes_;  // of a global job
  std::set<std::string> updated_;     // tasks
  std::set<std::string> removed_;     // tasks
  bool pending_ = false;              // something is still to be begun
};

Looked JobPlanner::look(JobSlot& slot) const {
  Looked looked;
  looked.slot = &slot;
  auto& attempts = slot.attempts;
  std::sort(attempts.begin(), attempts.end(),
            [](const JobAttempt& a, const JobAttempt& b) { return newer(a.task, b.task); });
  if (std::any_of(attempts.begin(), attempts.end(),
                  [](const JobAttempt& a) { return is_complete(*a.task); })) {
    looked.stage = Stage::kDone;
    return looked;
  }
  for (const JobAttempt& attempt : attempts) {
    if (!meant(*attempt.task) || ended(*attempt.task) || attempt.moved) continue;
    looked.stage = Stage::kActive;
    looked.live = &attempt;
    return looked;
  }
  if (attempts.empty()) {
    looked.stage = slot.takes ? Stage::kVacant : Stage::kIdle;
    return looked;
  }
  const v1::Task& last = *attempts.front().task;
  if (!wants_restart(view_.restart, last, raw(attempts))) {
    // What was interrupted on a node that takes nothing is not judged before the node is back.
    const bool judged = slot.takes || ended_by_itself(last.status().state());
    looked.stage = judged ? Stage::kGivenUp : Stage::kIdle;
  } else {
    looked.stage = slot.takes ? Stage::kVacant : Stage::kIdle;
  }
  return looked;
}

void JobPlanner::count() {
  for (const Looked& looked : looked_) {
    switch (looked.stage) {
      case Stage::kActive: ++verdict_.active; break;
      case Stage::kDone: ++verdict_.completed; break;
      case Stage::kGivenUp: ++verdict_.failed; break;
      case Stage::kVacant: pending_ = true; break;
      case Stage::kIdle: break;
    }
    // A vacant slot that has to wait for an attempt to stop is worked on by its next one.
    const bool finished = looked.stage == Stage::kDone || looked.stage == Stage::kGivenUp;
    if (looked.stage == Stage::kActive || (finished && leaving(looked))) ++occupied_;
  }
  verdict_.completed += store::slots_in(view_.status.collected_completed());
  verdict_.failed += store::slots_in(view_.status.collected_failed());
  for (const JobAttempt& attempt : view_.earlier) {
    if (!holds(attempt)) continue;
    ++occupied_;
    held_slots_.insert(attempt.task->slot());
    held_nodes_.insert(attempt.task->node_id());
  }
}

void JobPlanner::retire_earlier() {
  for (const JobAttempt& attempt : view_.earlier) {
    if (full()) return;
    if (attempt.forgettable) {
      verdict_.remove.push_back(attempt.task);
    } else if (attempt.task->desired_state() < v1::TASK_REMOVE) {
      verdict_.update.push_back(with_desired(*attempt.task, v1::TASK_REMOVE, now_));
    }
  }
}

void JobPlanner::tend(const Looked& looked) {
  if (full()) return;
  explain(looked);
  for (const JobAttempt& attempt : looked.slot->attempts) {
    if (&attempt != looked.live) end(attempt);
  }
  let_run(looked);
  forget(looked);
}

// Tells an attempt that has no future that it is over. One that has completed has come to what was
// desired of it.
void JobPlanner::end(const JobAttempt& attempt) {
  if (!meant(*attempt.task) || is_complete(*attempt.task)) return;
  if (updated_.insert(attempt.task->id()).second) {
    const std::string why = ended(*attempt.task) ? std::string() : attempt.why;
    verdict_.update.push_back(with_desired(*attempt.task, v1::TASK_SHUTDOWN, now_, why));
  }
}

// The reason goes into the task, where `service ps` shows it. An agent that reports the task's end
// once more takes it away again; then this is told anew.
void JobPlanner::explain(const Looked& looked) {
  if (looked.stage != Stage::kGivenUp) return;
  const v1::Task& last = *looked.slot->attempts.front().task;
  if (!ended(last)) return;
  std::string text = why(last, view_.restart);
  if (text == last.status().error()) return;
  v1::Task changed = with_desired(last, v1::TASK_SHUTDOWN, now_);
  changed.mutable_status()->set_error(std::move(text));
  updated_.insert(last.id());
  verdict_.update.push_back(std::move(changed));
}

void JobPlanner::let_run(const Looked& looked) {
  if (looked.live == nullptr) return;
  const v1::Task& task = *looked.live->task;
  if (task.desired_state() >= v1::TASK_COMPLETE) return;
  if (waits_for_start(view_.restart, task, now_)) return wake_at(WallTime{task.start_after_ns()});
  const WallTime patience = WallTime{task.meta().created_at_ns()} + view_.stop_wait;
  if (leaving(looked) && now_ < patience && !made_ahead(task, now_)) return wake_at(patience);
  verdict_.update.push_back(with_desired(task, v1::TASK_COMPLETE, now_));
}

void JobPlanner::forget(const Looked& looked) {
  // What says that the slot failed, or when it may be tried again, is kept whatever the limit; what
  // says that it has completed goes only with the slot.
  const int64_t least = looked.live == nullptr ? 1 : 0;
  const int64_t most = view_.history < 0 ? INT64_MAX : std::max(view_.history, least);
  int64_t kept = 0;
  for (const JobAttempt& attempt : looked.slot->attempts) {
    if (&attempt == looked.live || is_complete(*attempt.task)) continue;
    if (!attempt.forgettable) continue;
    if (attempt.task->desired_state() < v1::TASK_REMOVE && kept < most) {
      ++kept;
    } else if (!updated_.contains(attempt.task->id())) {
      removed_.insert(attempt.task->id());
      verdict_.remove.push_back(attempt.task);
    }
  }
}

// Slots whose attempt failed or was interrupted come before those that were never tried.
void JobPlanner::repeat() {
  for (const Looked& looked : looked_) {
    if (looked.stage != Stage::kVacant) continue;
    if (view_.global && held_nodes_.contains(looked.slot->node_id)) continue;
    if (room() == 0 || full()) return;
    JobVerdict::Start start{looked.slot->number, looked.slot->node_id, WallTime{0}, false};
    if (!looked.slot->attempts.empty()) {
      const v1::Task& last = *looked.slot->attempts.front().task;
      if (ended_by_itself(last.status().state())) {
        // An attempt that fails while it is prepared may end before its own delay has passed.
        // It did not end in the time to come, whatever a clock said that was ahead.
        const WallTime end =
            std::min(WallTime{std::max(reached_at_ns(last), last.start_after_ns())},
                     now_ + view_.restart.delay);
        if (end + view_.restart.delay > now_) start.after = end + view_.restart.delay;
      }
      start.waits = leaving(looked);
    }
    if (start.after.unix_ns != 0) wake_at(start.after);
    if (start.waits) wake_at(now_ + view_.stop_wait);
    verdict_.starts.push_back(std::move(start));
  }
}

void JobPlanner::begin_fresh() {
  std::set<uint64_t> known;
  for (const Looked& looked : looked_) known.insert(looked.slot->number);
  for (uint64_t number = 0; number < view_.total; ++number) {
    const v1::SlotRange* range = store::range_of(view_.status.collected_completed(), number);
    if (range == nullptr) range = store::range_of(view_.status.collected_failed(), number);
    if (range != nullptr) {
      number = range->last();
      continue;
    }
    if (known.contains(number)) continue;
    pending_ = true;
    if (room() == 0 || full()) return;
    if (held_slots_.contains(number)) continue;
    verdict_.starts.push_back({number, {}, WallTime{0}, false});
  }
}

void JobPlanner::collect() {
  std::vector<const Looked*> done;
  std::vector<const Looked*> failed;
  for (const Looked& looked : looked_) {
    const auto& attempts = looked.slot->attempts;
    const bool gone = std::all_of(attempts.begin(), attempts.end(),
                                  [](const JobAttempt& a) { return a.forgettable; });
    if (!gone) continue;
    if (looked.stage == Stage::kDone) done.push_back(&looked);
    if (looked.stage == Stage::kGivenUp) failed.push_back(&looked);
  }
  collect(std::move(done), *verdict_.status.mutable_collected_completed());
  collect(std::move(failed), *verdict_.status.mutable_collected_failed());
}

void JobPlanner::collect(std::vector<const Looked*> finished, store::SlotRanges& ranges) {
  if (view_.history_slots < 0) return;
  const auto kept =
      static_cast<size_t>(std::min<int64_t>(view_.history_slots, INT32_MAX) * kSlotsPerHistory);
  // Not one by one: each time the service is written anew.
  if (finished.size() <= kept + kept / 4) return;
  for (size_t i = 0; i + kept < finished.size(); ++i) {
    if (full()) return;
    const Looked& looked = *finished[i];
    // Told just now why it has failed: it goes with the next look.
    if (updated_.contains(looked.slot->attempts.front().task->id())) continue;
    const uint64_t number = looked.slot->number;
    const bool adjoins = number > 0 && store::range_of(ranges, number - 1) != nullptr;
    if (!adjoins && ranges.size() >= kRangesMax) return;
    store::add_slot(ranges, number);
    for (const JobAttempt& attempt : looked.slot->attempts) {
      if (removed_.insert(attempt.task->id()).second) verdict_.remove.push_back(attempt.task);
    }
    std::erase_if(verdict_.update,
                  [&](const v1::Task& task) { return removed_.contains(task.id()); });
  }
}

void JobPlanner::judge_end() {
  v1::JobStatus& status = verdict_.status;
  const TaskPtr* last = nullptr;
  for (const Looked& looked : looked_) {
    if (looked.stage != Stage::kGivenUp) continue;
    const TaskPtr& task = looked.slot->attempts.front().task;
    if (last == nullptr || reached_at_ns(*task) > reached_at_ns(**last)) last = &task;
  }
  if (verdict_.failed == 0) status.clear_message();
  // As it was told once: the tasks it is about may be collected.
  if (last != nullptr && (status.failed() != verdict_.failed || status.message().empty())) {
    status.set_message(fmt::format(
        "{} of the job cannot complete: task {} ({}): {}",
        verdict_.failed == 1 ? std::string("a task") : fmt::format("{} tasks", verdict_.failed),
        (*last)->name(), (*last)->id(), why(**last, view_.restart)));
  }
  status.set_failed(verdict_.failed);
  const bool nowhere = view_.global && verdict_.active + verdict_.completed + verdict_.failed == 0;
  if (nowhere && !pending_) {
    status.set_message(
        "no suitable node: none is ready, active and satisfies the placement constraints");
  }
  const bool over = verdict_.active == 0 && !pending_ && verdict_.starts.empty() && !nowhere;
  const auto state = !over                  ? v1::JobStatus::RUNNING
                     : verdict_.failed == 0 ? v1::JobStatus::COMPLETED
                                            : v1::JobStatus::FAILED;
  if (state == status.state()) return;
  status.set_state(state);
  status.set_ended_at_ns(over ? now_.unix_ns : 0);
}

}  // namespace

JobVerdict judge_job(JobView view, WallTime now, size_t changes_max) {
  return JobPlanner(std::move(view), now, changes_max).run();
}

}  // namespace muster::manager::orchestrator
