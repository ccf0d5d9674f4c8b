#include "deploy/eval/update_suite.h"

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "deploy/eval/case_values.h"
#include "manager/orchestrator/update_plan.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;
namespace orchestrator = manager::orchestrator;
using orchestrator::UpdatedSlot;
using orchestrator::UpdateVerdict;

// When the update began; the times of a case count from here.
constexpr WallTime kBegan{1'700'000'000'000'000'000};

Result<v1::UpdateConfig> config_from_json(const json::value& value) {
  ObjectReader in(value, "config");
  v1::UpdateConfig config;
  const int64_t parallelism = in.number("parallelism", 1);
  config.set_parallelism(static_cast<uint64_t>(parallelism));
  MUSTER_ASSIGN(const Duration delay, duration_at(in, "delay", Duration(0)));
  config.set_delay_ns(delay.count());
  MUSTER_ASSIGN(const Duration monitor, duration_at(in, "monitor", 5s));
  config.set_monitor_ns(monitor.count());
  MUSTER_ASSIGN(const Duration deadline, duration_at(in, "progress_deadline", 10min));
  config.set_progress_deadline_ns(deadline.count());
  MUSTER_ASSIGN(const auto action, (one_of<v1::UpdateConfig::FailureAction>(
                                       in, "failure_action", "pause",
                                       {{"pause", v1::UpdateConfig::PAUSE},
                                        {"continue", v1::UpdateConfig::CONTINUE},
                                        {"rollback", v1::UpdateConfig::ROLLBACK}})));
  config.set_failure_action(action);
  if (const json::value* ratio = in.child("max_failure_ratio")) {
    const bool number = ratio->is_number();
    const double share = number ? ratio->to_number<double>() : -1;
    if (!(share >= 0 && share <= 1))
      in.complain("max_failure_ratio", "a number from 0 to 1");
    else
      config.set_max_failure_ratio_ppm(static_cast<uint32_t>(std::lround(share * 1e6)));
  }
  MUSTER_TRY(in.finish());
  return config;
}

struct Attempt {
  uint64_t slot = 0;
  std::shared_ptr<v1::Task> task;
};

Result<Attempt> attempt_from_json(const json::value& value, size_t index) {
  ObjectReader in(value, fmt::format("attempts[{}]", index));
  Attempt attempt;
  attempt.slot = static_cast<uint64_t>(in.number("slot"));
  if (attempt.slot == 0) in.complain("slot", "a number from 1");
  attempt.task = std::make_shared<v1::Task>();
  v1::Task& task = *attempt.task;
  v1::TaskStatus& status = *task.mutable_status();
  task.set_id(in.text("id", fmt::format("attempt{}", index + 1)));
  task.set_name(fmt::format("web.{}", attempt.slot));
  task.set_revision(1);
  MUSTER_ASSIGN(const Duration created, duration_at(in, "created", Duration(0)));
  task.mutable_meta()->set_created_at_ns((kBegan + created).unix_ns);
  MUSTER_ASSIGN(const auto state, (one_of<v1::TaskState>(in, "state", "running",
                                                         {{"pending", v1::TASK_PENDING},
                                                          {"preparing", v1::TASK_PREPARING},
                                                          {"starting", v1::TASK_STARTING},
                                                          {"running", v1::TASK_RUNNING},
                                                          {"complete", v1::TASK_COMPLETE},
                                                          {"failed", v1::TASK_FAILED},
                                                          {"rejected", v1::TASK_REJECTED},
                                                          {"shutdown", v1::TASK_SHUTDOWN}})));
  status.set_state(state);
  task.set_desired_state(state > v1::TASK_RUNNING ? v1::TASK_SHUTDOWN : v1::TASK_RUNNING);
  const bool came_up = in.child("running") != nullptr;
  MUSTER_ASSIGN(const Duration up, duration_at(in, "running", created));
  if (came_up || state == v1::TASK_RUNNING) status.set_running_since_ns((kBegan + up).unix_ns);
  MUSTER_ASSIGN(const Duration ended, duration_at(in, "ended", up));
  status.set_timestamp_ns((kBegan + ended).unix_ns);
  status.set_error(in.text("error"));
  MUSTER_TRY(in.finish());
  return attempt;
}

const char* name_of(UpdatedSlot::Stage stage) {
  switch (stage) {
    case UpdatedSlot::Stage::kUnderWay: return "under-way";
    case UpdatedSlot::Stage::kRuns: return "runs";
    case UpdatedSlot::Stage::kFailed: return "failed";
    case UpdatedSlot::Stage::kDone: return "done";
  }
  return "";
}

const char* name_of(UpdateVerdict::Step step) {
  switch (step) {
    case UpdateVerdict::Step::kGoOn: return "go-on";
    case UpdateVerdict::Step::kPause: return "pause";
    case UpdateVerdict::Step::kRollBack: return "roll-back";
    case UpdateVerdict::Step::kComplete: return "complete";
  }
  return "";
}

}  // namespace

Result<json::value> eval_update(const json::value& input) {
  ObjectReader in(input, "input");
  v1::UpdateConfig config;
  config.set_parallelism(1);
  if (const json::value* given = in.child("config")) {
    MUSTER_ASSIGN(config, config_from_json(*given));
  }
  MUSTER_ASSIGN(const auto restart, (one_of<v1::RestartPolicy::Condition>(
                                        in, "restart_condition", "any",
                                        {{"any", v1::RestartPolicy::ANY},
                                         {"on-failure", v1::RestartPolicy::ON_FAILURE},
                                         {"none", v1::RestartPolicy::NONE}})));
  MUSTER_ASSIGN(const auto state, (one_of<v1::UpdateStatus::State>(
                                      in, "state", "updating",
                                      {{"updating", v1::UpdateStatus::UPDATING},
                                       {"rollback_started", v1::UpdateStatus::ROLLBACK_STARTED}})));
  MUSTER_ASSIGN(const Duration now, duration_at(in, "now", Duration(0)));
  const auto slots = static_cast<uint64_t>(in.number("slots", 1));
  std::map<uint64_t, std::vector<orchestrator::TaskPtr>> tasks;
  const json::array& list = in.list("attempts");
  for (size_t i = 0; i < list.size(); ++i) {
    MUSTER_ASSIGN(const Attempt attempt, attempt_from_json(list[i], i));
    tasks[attempt.slot].push_back(attempt.task);
  }
  MUSTER_TRY(in.finish());

  const orchestrator::UpdateRules rules = orchestrator::UpdateRules::of(config);
  v1::UpdateStatus status;
  status.set_state(state);
  status.set_started_at_ns(kBegan.unix_ns);
  status.set_slots(slots);
  std::vector<UpdatedSlot> reached;
  json::array seen;
  for (const auto& [number, attempts] : tasks) {
    reached.push_back(
        orchestrator::look_at_updated_slot({1, kBegan, rules.monitor, restart}, attempts));
    seen.push_back(json::object{{"slot", number},
                                {"stage", name_of(reached.back().stage)},
                                {"since", format_duration(reached.back().since - kBegan)}});
  }
  const uint64_t outdated = slots > reached.size() ? slots - reached.size() : 0;
  const UpdateVerdict verdict =
      orchestrator::judge_update(rules, status, outdated, reached, kBegan + now);
  json::object out;
  out["decision"] = name_of(verdict.step);
  if (!verdict.reason.empty()) out["reason"] = verdict.reason;
  out["failures"] = verdict.failures;
  out["may_begin"] = verdict.room;
  if (verdict.wake) out["next_look"] = format_duration(*verdict.wake - kBegan);
  out["slots"] = std::move(seen);
  return json::value(std::move(out));
}

}  // namespace muster::deploy::eval
