#include "deploy/eval/jobs_suite.h"

#include <algorithm>
#include <memory>
#include <string>

#include "deploy/eval/case_values.h"
#include "deploy/eval/restart_suite.h"
#include "manager/orchestrator/job_plan.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;
using manager::orchestrator::JobAttempt;
using manager::orchestrator::JobSlot;
using manager::orchestrator::JobVerdict;
using manager::orchestrator::JobView;

constexpr uint64_t kIteration = 2;  // so that there is an earlier one
// When the iteration began; the times of a case count from here.
constexpr WallTime kBegan{1'700'000'000'000'000'000};
constexpr size_t kChangesMax = 10'000;

struct Attempt {
  uint64_t slot = 0;
  std::string node;
  bool earlier = false;
  JobAttempt attempt;
};

const std::map<std::string, v1::TaskState> kStates = {
    {"pending", v1::TASK_PENDING},   {"preparing", v1::TASK_PREPARING},
    {"ready", v1::TASK_READY},       {"starting", v1::TASK_STARTING},
    {"running", v1::TASK_RUNNING},   {"complete", v1::TASK_COMPLETE},
    {"failed", v1::TASK_FAILED},     {"rejected", v1::TASK_REJECTED},
    {"shutdown", v1::TASK_SHUTDOWN}, {"orphaned", v1::TASK_ORPHANED}};

Result<Attempt> attempt_from_json(const json::value& value, size_t index, bool global) {
  ObjectReader in(value, fmt::format("attempts[{}]", index));
  Attempt out;
  out.slot = static_cast<uint64_t>(in.number("slot"));
  out.node = in.text("node", global ? "" : "n1");
  if (out.node.empty()) in.complain("node", "one of the nodes");
  auto task = std::make_shared<v1::Task>();
  v1::TaskStatus& status = *task->mutable_status();
  task->set_id(in.text("id", fmt::format("attempt{}", index + 1)));
  task->set_slot(global ? 0 : out.slot);
  task->set_name(global ? fmt::format("job.{}", out.node) : fmt::format("job.{}", out.slot));
  task->set_node_id(out.node);
  task->set_revision(1);
  MUSTER_ASSIGN(const Duration created, duration_at(in, "created", Duration(0)));
  task->mutable_meta()->set_created_at_ns((kBegan + created).unix_ns);
  MUSTER_ASSIGN(const auto state, one_of<v1::TaskState>(in, "state", "running", kStates));
  status.set_state(state);
  MUSTER_ASSIGN(const Duration since, duration_at(in, "since", created));
  status.set_timestamp_ns((kBegan + since).unix_ns);
  task->mutable_meta()->set_updated_at_ns((kBegan + since).unix_ns);
  status.set_error(in.text("error"));
  const bool over = state > v1::TASK_RUNNING;
  const char* usual = over && state != v1::TASK_COMPLETE ? "shutdown" : "complete";
  MUSTER_ASSIGN(const auto desired, (one_of<v1::TaskState>(in, "desired", usual,
                                                           {{"ready", v1::TASK_READY},
                                                            {"complete", v1::TASK_COMPLETE},
                                                            {"shutdown", v1::TASK_SHUTDOWN},
                                                            {"remove", v1::TASK_REMOVE}})));
  task->set_desired_state(desired);
  MUSTER_ASSIGN(const Duration after, duration_at(in, "start_after", Duration(0)));
  if (after.count() > 0) task->set_start_after_ns((kBegan + after).unix_ns);
  MUSTER_ASSIGN(const int place,
                (one_of<int>(in, "place", "fine", {{"fine", 0}, {"drained", 1}, {"lost", 2}})));
  const json::value* earlier = in.child("earlier");
  if (earlier != nullptr && !earlier->is_bool()) in.complain("earlier", "true or false");
  out.earlier = earlier != nullptr && earlier->is_bool() && earlier->get_bool();
  MUSTER_TRY(in.finish());
  out.attempt.moved = place != 0;
  out.attempt.stopped = over || state < v1::TASK_ASSIGNED || place == 2;
  out.attempt.forgettable = over || state < v1::TASK_ASSIGNED;
  out.attempt.task = std::move(task);
  return out;
}

JobSlot* slot_of(JobView& view, const Attempt& attempt) {
  const auto found = std::find_if(view.slots.begin(), view.slots.end(), [&](const JobSlot& slot) {
    return view.global ? slot.node_id == attempt.node : slot.number == attempt.slot;
  });
  if (found != view.slots.end()) return &*found;
  if (view.global) return nullptr;
  view.slots.push_back({attempt.slot, {}, true, {}});
  return &view.slots.back();
}

std::string since_begin(WallTime t) {
  return format_duration(t - kBegan);
}

json::value to_json(const JobView& view, const JobVerdict& verdict, WallTime now) {
  json::object out;
  const auto state = verdict.status.state();
  out["state"] = state == v1::JobStatus::RUNNING     ? "running"
                 : state == v1::JobStatus::COMPLETED ? "completed"
                                                     : "failed";
  if (!verdict.status.message().empty()) out["message"] = verdict.status.message();
  out["active"] = verdict.active;
  out["completed"] = verdict.completed;
  out["failed"] = verdict.failed;
  json::array start;
  for (const auto& item : verdict.starts) {
    json::object one;
    if (view.global)
      one["node"] = item.node_id;
    else
      one["slot"] = item.slot;
    one["at"] = since_begin(item.after.unix_ns != 0 ? item.after : now);
    if (item.waits) one["waits"] = true;
    start.push_back(std::move(one));
  }
  out["start"] = std::move(start);
  json::array run;
  json::array stop;
  for (const v1::Task& task : verdict.update)
    (task.desired_state() == v1::TASK_COMPLETE ? run : stop).emplace_back(task.id());
  json::array remove;
  for (const auto& task : verdict.remove) remove.emplace_back(task->id());
  out["run"] = std::move(run);
  out["stop"] = std::move(stop);
  out["remove"] = std::move(remove);
  if (verdict.wake) out["next_look"] = since_begin(*verdict.wake);
  return json::value(std::move(out));
}

}  // namespace

Result<json::value> eval_jobs(const json::value& input) {
  ObjectReader in(input, "input");
  JobView view;
  view.status.set_iteration(kIteration);
  const bool global = in.child("nodes") != nullptr;
  view.global = global;
  const int64_t concurrent = in.number("max_concurrent", global ? 0 : 1);
  const int64_t total = in.number("total", concurrent);
  if (total > INT32_MAX) in.complain("total", "a number from 0 to 2147483647");
  if (global && (in.child("total") != nullptr || in.child("max_concurrent") != nullptr))
    in.complain("nodes", "given without total and max_concurrent");
  view.concurrent = static_cast<uint64_t>(concurrent);
  view.total = static_cast<uint64_t>(total);
  MUSTER_ASSIGN(view.restart, restart_rules_from_json(in.child("policy")));
  if (view.restart.condition == v1::RestartPolicy::ANY)
    view.restart.condition = v1::RestartPolicy::ON_FAILURE;
  view.history_slots = in.number("history", 5);
  view.history = manager::orchestrator::history_limit(view.restart, view.history_slots);
  for (const std::string& node : in.texts("nodes")) view.slots.push_back({0, node, true, {}});
  MUSTER_ASSIGN(const Duration now, duration_at(in, "now", Duration(0)));
  const json::array& list = in.list("attempts");
  for (size_t i = 0; i < list.size(); ++i) {
    MUSTER_ASSIGN(const Attempt attempt, attempt_from_json(list[i], i, global));
    JobSlot* slot = attempt.earlier ? nullptr : slot_of(view, attempt);
    auto& attempts = slot == nullptr ? view.earlier : slot->attempts;
    attempts.push_back(attempt.attempt);
  }
  MUSTER_TRY(in.finish());
  std::stable_sort(view.slots.begin(), view.slots.end(),
                   [](const JobSlot& a, const JobSlot& b) { return a.number < b.number; });
  const JobVerdict verdict = manager::orchestrator::judge_job(view, kBegan + now, kChangesMax);
  return to_json(view, verdict, kBegan + now);
}

}  // namespace muster::deploy::eval
