#include "manager/orchestrator/job_plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "manager/store/job_status.h"

namespace muster::manager::orchestrator {
namespace {

// Seconds after the iteration began at 1000 s.
WallTime at(double seconds) {
  return {static_cast<int64_t>((1000 + seconds) * 1e9)};
}

double seconds(WallTime t) {
  return static_cast<double>((t - at(0)).count()) / 1e9;
}

// A job in the making: attempts in the order in which they were created.
class Job {
 public:
  Job(uint64_t total, uint64_t concurrent) {
    view_.total = total;
    view_.concurrent = concurrent;
    view_.status.set_iteration(1);
  }
  // Made at `made`, in its state since `since`.
  Job& with(uint64_t slot, v1::TaskState state, double made = 0, double since = 1,
            v1::TaskState desired = v1::TASK_COMPLETE) {
    auto task = std::make_shared<v1::Task>();
    task->set_id(fmt::format("t{}", ++count_));
    task->set_slot(slot);
    task->set_name(fmt::format("job.{}", slot));
    task->set_revision(1);
    task->set_node_id("n1");
    task->set_desired_state(desired);
    task->mutable_meta()->set_created_at_ns(at(made).unix_ns);
    task->mutable_meta()->set_updated_at_ns(at(since).unix_ns);
    task->mutable_status()->set_state(state);
    task->mutable_status()->set_timestamp_ns(at(since).unix_ns);
    if (state == v1::TASK_FAILED) task->mutable_status()->set_error("exit code 1");
    JobAttempt attempt;
    attempt.forgettable = state < v1::TASK_ASSIGNED || state >= v1::TASK_COMPLETE;
    attempt.stopped = state > v1::TASK_RUNNING || state < v1::TASK_ASSIGNED;
    attempt.task = std::move(task);
    auto found = std::find_if(view_.slots.begin(), view_.slots.end(),
                              [&](const JobSlot& s) { return s.number == slot; });
    if (found == view_.slots.end()) {
      found = view_.slots.insert(view_.slots.end(), JobSlot{slot, {}, true, {}});
    }
    found->attempts.push_back(attempt);
    last_ = &found->attempts.back();
    return *this;
  }
  // What the last attempt's node has become.
  Job& moved(bool lost = false) {
    last_->moved = true;
    last_->stopped = last_->stopped || lost;
    return *this;
  }
  Job& start_after(double t) {
    v1::Task task = *last_->task;
    task.set_start_after_ns(at(t).unix_ns);
    last_->task = std::make_shared<v1::Task>(task);
    return *this;
  }
  // The last attempt is of an iteration before.
  Job& earlier() {
    for (auto slot = view_.slots.begin(); slot != view_.slots.end(); ++slot) {
      if (&slot->attempts.back() != last_) continue;
      view_.earlier.push_back(*last_);
      slot->attempts.pop_back();
      if (slot->attempts.empty()) view_.slots.erase(slot);
      break;
    }
    return *this;
  }
  JobView& view() { return view_; }
  JobVerdict judge(double now, size_t most = 1000) const { return judge_job(view_, at(now), most); }
  // The verdict in words.
  std::string operator()(double now) const {
    const JobVerdict verdict = judge(now);
    std::string out;
    const auto say = [&](const std::string& text) { out += (out.empty() ? "" : ", ") + text; };
    for (const auto& start : verdict.starts) {
      std::string text = fmt::format(
          "start {}", start.node_id.empty() ? std::to_string(start.slot) : start.node_id);
      if (start.after.unix_ns != 0) text += fmt::format(" at {}", seconds(start.after));
      if (start.waits) text += " when free";
      say(text);
    }
    for (const v1::Task& task : verdict.update) {
      if (task.desired_state() == v1::TASK_SHUTDOWN) say("stop " + task.id());
      if (task.desired_state() == v1::TASK_COMPLETE) say("run " + task.id());
      if (task.desired_state() == v1::TASK_REMOVE) say("retire " + task.id());
    }
    for (const TaskPtr& task : verdict.remove) say("remove " + task->id());
    const auto state = verdict.status.state();
    say(state == v1::JobStatus::RUNNING     ? "goes on"
        : state == v1::JobStatus::COMPLETED ? "completed"
                                            : "failed");
    return out;
  }

 private:
  JobView view_;
  JobAttempt* last_ = nullptr;
  int count_ = 0;
};

constexpr auto kRunning = v1::TASK_RUNNING;
constexpr auto kComplete = v1::TASK_COMPLETE;
constexpr auto kFailed = v1::TASK_FAILED;
constexpr auto kRejected = v1::TASK_REJECTED;
constexpr auto kShutdown = v1::TASK_SHUTDOWN;
constexpr auto kReady = v1::TASK_READY;

TEST(JobPlan, FillsSlotsFromZeroUpToTheConcurrency) {
  EXPECT_EQ(Job(5, 2)(0), "start 0, start 1, goes on");
  EXPECT_EQ(Job(1, 2)(0), "start 0, goes on");
  EXPECT_EQ(Job(3, 0)(0), "start 0, start 1, start 2, goes on") << "0 is all at once";
  EXPECT_EQ(Job(0, 2)(0), "completed") << "nothing to do";
  EXPECT_EQ(Job(5, 2).with(0, kRunning)(2), "start 1, goes on");
  EXPECT_EQ(Job(5, 2).with(0, v1::TASK_PENDING).with(1, kRunning)(2), "goes on");
}

TEST(JobPlan, CountsNearTheEnd) {
  // Completions that are missing bound what is begun, not the concurrency alone.
  Job job(4, 3);
  job.with(0, kComplete).with(1, kComplete).with(2, kRunning);
  EXPECT_EQ(job(2), "start 3, goes on");
  job.with(3, kRunning);
  EXPECT_EQ(job(2), "goes on");
  Job last(4, 3);
  last.with(0, kComplete).with(1, kComplete).with(2, kComplete).with(3, kRunning);
  EXPECT_EQ(last(2), "goes on");
  EXPECT_EQ(last.judge(2).completed, 3u);
  Job done(2, 3);
  done.with(0, kComplete).with(1, kComplete);
  EXPECT_EQ(done(2), "completed");
  EXPECT_EQ(done.judge(2).status.ended_at_ns(), at(2).unix_ns);
}

TEST(JobPlan, AFailedAttemptIsRepeatedAfterTheDelay) {
  Job job(3, 1);
  job.with(0, kFailed, 0, 4);
  EXPECT_EQ(job(4), "start 0 at 9, stop t1, goes on");
  EXPECT_EQ(seconds(*job.judge(4).wake), 9);
  EXPECT_EQ(job(6), "start 0 at 9, stop t1, goes on") << "a new leader counts from the same end";
  EXPECT_EQ(job(20), "start 0, stop t1, goes on") << "nobody looked for long";
  // Its successor holds the place, also while it waits.
  job.with(0, kReady, 4, 4, kReady).start_after(9);
  EXPECT_EQ(job(5), "stop t1, goes on");
  EXPECT_EQ(seconds(*job.judge(5).wake), 9);
  EXPECT_EQ(job(9), "stop t1, run t2, goes on");
  // What fails before it was to start does not bring the next attempt nearer.
  Job early(1, 1);
  early.with(0, kRejected, 4, 5).start_after(9);
  EXPECT_EQ(early(5), "start 0 at 14, stop t1, goes on");
}

TEST(JobPlan, RepeatsComeBeforeWhatWasNeverTried) {
  Job job(9, 2);
  job.with(0, kRunning).with(3, kFailed, 0, 1);
  EXPECT_EQ(job(10), "start 3, stop t2, goes on");
}

TEST(JobPlan, TheRestartPolicyDecidesHowOften) {
  const struct {
    v1::RestartPolicy::Condition condition;
    uint64_t attempts;
    int failures;
    bool again;
  } kCases[] = {
      {v1::RestartPolicy::ANY, 0, 7, true},        {v1::RestartPolicy::ON_FAILURE, 0, 7, true},
      {v1::RestartPolicy::NONE, 0, 1, false},      {v1::RestartPolicy::ON_FAILURE, 2, 1, true},
      {v1::RestartPolicy::ON_FAILURE, 2, 2, true}, {v1::RestartPolicy::ON_FAILURE, 2, 3, false},
  };
  for (const auto& c : kCases) {
    Job job(1, 1);
    job.view().restart.condition = c.condition;
    if (c.condition == v1::RestartPolicy::ANY) {
      job.view().restart.condition = v1::RestartPolicy::ON_FAILURE;  // as the view is built
    }
    job.view().restart.max_attempts = c.attempts;
    job.view().history = 10;
    for (int i = 0; i < c.failures; ++i) job.with(0, kFailed, i, i + 0.5, kShutdown);
    const JobVerdict verdict = job.judge(30);
    EXPECT_EQ(verdict.starts.size(), c.again ? 1u : 0u) << c.attempts << " " << c.failures;
    EXPECT_EQ(verdict.status.state(), c.again ? v1::JobStatus::RUNNING : v1::JobStatus::FAILED);
  }
}

TEST(JobPlan, AttemptsOutsideTheWindowDoNotCount) {
  Job job(1, 1);
  job.view().restart.max_attempts = 1;
  job.view().restart.window = 10s;
  job.with(0, kFailed, 0, 1, kShutdown).with(0, kFailed, 6, 20, kShutdown);
  EXPECT_EQ(job(30), "start 0, goes on");
  job.with(0, kFailed, 25, 28, kShutdown);
  EXPECT_EQ(job(40), "stop t3, failed");
}

TEST(JobPlan, AFailedSlotSaysWhyAndTheOthersGoOn) {
  Job job(3, 1);
  job.view().restart.max_attempts = 1;
  job.with(0, kFailed, 0, 1, kShutdown).with(0, kFailed, 6, 7);
  JobVerdict verdict = job.judge(8);
  EXPECT_EQ(job(8), "start 1, stop t2, goes on");
  ASSERT_EQ(verdict.update.size(), 1u);
  EXPECT_EQ(verdict.update[0].status().error(),
            "exit code 1; not tried again: 1 of 1 restarts are used up");
  EXPECT_EQ(verdict.status.failed(), 1u);
  EXPECT_EQ(verdict.status.message(),
            "a task of the job cannot complete: task job.0 (t2): exit code 1; not tried again: 1 "
            "of 1 restarts are used up");
  // Told once.
  Job told(3, 1);
  told.view().restart.max_attempts = 1;
  told.view().status = verdict.status;
  told.with(0, kFailed, 0, 1, kShutdown).with(0, kFailed, 6, 7, kShutdown);
  told.view().slots[0].attempts[1].task = std::make_shared<v1::Task>(verdict.update[0]);
  told.with(1, kComplete).with(2, kComplete);
  EXPECT_EQ(told(9), "failed");
  EXPECT_EQ(told.judge(9).status.message(), verdict.status.message());
  EXPECT_EQ(told.judge(9).completed, 2u);
}

TEST(JobPlan, WhatWasInterruptedIsRepeatedAtOnceAndIsNoFailure) {
  Job drained(1, 1);
  drained.view().restart.max_attempts = 1;
  drained.with(0, kRunning).moved();
  EXPECT_EQ(drained(2), "start 0 when free, stop t1, goes on");
  Job lost(1, 1);
  lost.with(0, kRunning).moved(true);
  EXPECT_EQ(lost(2), "start 0, stop t1, goes on");
  Job often(1, 1);
  often.view().restart.max_attempts = 1;
  for (int i = 0; i < 5; ++i) often.with(0, kShutdown, i, i, kShutdown);
  EXPECT_EQ(often(6), "start 0, goes on");
  Job none(1, 1);
  none.view().restart.condition = v1::RestartPolicy::NONE;
  none.with(0, kRunning).moved(true);
  EXPECT_EQ(none(2), "stop t1, failed");
  EXPECT_EQ(none.judge(2).status.message(),
            "a task of the job cannot complete: task job.0 (t1): its node was lost; not tried "
            "again: the restart condition is none");
}

TEST(JobPlan, ASuccessorWaitsForItsPredecessorButNotForever) {
  Job job(1, 1);
  job.with(0, kRunning, 0, 2, kShutdown).with(0, kReady, 2, 2, kReady);
  EXPECT_EQ(job(3), "goes on");
  EXPECT_EQ(seconds(*job.judge(3).wake), 62);
  EXPECT_EQ(job(62), "run t2, goes on");
  Job free(1, 1);
  free.with(0, kShutdown, 0, 2, kShutdown).with(0, kReady, 2, 2, kReady);
  EXPECT_EQ(free(3), "run t2, goes on");
}

TEST(JobPlan, ALateCompletionCounts) {
  // Of a node that was taken for lost; its replacement is not needed any more.
  Job job(1, 1);
  job.with(0, kComplete, 0, 9, kShutdown).with(0, kRunning, 5, 6);
  EXPECT_EQ(job(10), "stop t2, completed");
  Job failed(1, 1);
  failed.view().status.set_state(v1::JobStatus::FAILED);
  failed.view().status.set_failed(1);
  failed.view().status.set_message("a task of the job cannot complete: ...");
  failed.with(0, kComplete, 0, 9, kShutdown);
  EXPECT_EQ(failed(10), "completed");
  EXPECT_EQ(failed.judge(10).status.message(), "");
}

TEST(JobPlan, TheNextIterationWaitsForPlacesOfTheLast) {
  Job job(3, 2);
  job.with(0, kRunning, 0, 0).earlier().with(1, kRunning, 0, 0).earlier();
  job.with(2, kComplete, 0, 0).earlier();
  EXPECT_EQ(job(1), "retire t1, retire t2, remove t3, goes on");
  // One has stopped: its place and its slot are free.
  Job half(3, 2);
  half.with(0, kRunning, 0, 1, v1::TASK_REMOVE).earlier();
  half.with(1, kShutdown, 0, 1, v1::TASK_REMOVE).earlier();
  EXPECT_EQ(half(2), "start 1, remove t2, goes on");
  EXPECT_EQ(half(61), "start 0, start 1, remove t2, goes on") << "not waited for any longer";
}

TEST(JobPlan, HistoryOfASlotIsTrimmed) {
  Job job(2, 1);
  job.view().history = 2;
  for (int i = 0; i < 4; ++i) job.with(0, kFailed, i, i + 0.5, kShutdown);
  job.with(0, kRunning, 5, 5);
  EXPECT_EQ(job(6), "remove t2, remove t1, goes on");
  Job done(2, 1);
  done.view().history = 0;
  done.with(0, kFailed, 0, 0.5, kShutdown).with(0, kComplete, 1, 2).with(1, kRunning, 2, 3);
  EXPECT_EQ(done(4), "goes on") << "the last failure stays beside the completion";
  // Nothing is kept, but what tells when the next attempt may begin.
  Job failing(1, 1);
  failing.view().history = 0;
  failing.with(0, kFailed, 0, 1, kShutdown).with(0, kFailed, 2, 3, kShutdown);
  EXPECT_EQ(failing(4), "start 0 at 8, remove t1, goes on");
}

TEST(JobPlan, CollectedCompletionsStillCount) {
  Job job(200, 1);
  job.view().history_slots = 2;  // 40 slots
  for (uint64_t i = 0; i < 51; ++i) job.with(i, kComplete);
  const JobVerdict verdict = job.judge(5);
  EXPECT_EQ(verdict.remove.size(), 11u);
  ASSERT_EQ(verdict.status.collected_completed_size(), 1);
  EXPECT_EQ(verdict.status.collected_completed(0).last(), 10u);
  EXPECT_EQ(verdict.completed, 51u);
  // The next look: the tasks are gone, the count is not.
  Job next(200, 1);
  next.view().history_slots = 2;
  next.view().status = verdict.status;
  for (uint64_t i = 11; i < 51; ++i) next.with(i, kComplete);
  EXPECT_EQ(next(6), "start 51, goes on");
  EXPECT_EQ(next.judge(6).completed, 51u);
  Job all(51, 1);
  all.view().status = verdict.status;
  for (uint64_t i = 11; i < 51; ++i) all.with(i, kComplete);
  EXPECT_EQ(all(6), "completed");
}

TEST(JobPlan, CollectedFailuresStillCount) {
  Job job(60, 1);
  job.view().history_slots = 0;
  job.view().restart.condition = v1::RestartPolicy::NONE;
  job.with(0, kFailed, 0, 1, kShutdown).with(1, kComplete);
  JobVerdict verdict = job.judge(2);
  EXPECT_EQ(verdict.update.size(), 1u) << "told why before it goes";
  EXPECT_EQ(verdict.status.collected_failed_size(), 0);
  EXPECT_EQ(verdict.status.collected_completed_size(), 1);
  EXPECT_FALSE(verdict.status.message().empty());
  const std::string message = verdict.status.message();
  Job next(60, 1);
  next.view() = job.view();
  next.view().status = verdict.status;
  next.view().slots.pop_back();
  next.view().slots[0].attempts[0].task = std::make_shared<v1::Task>(verdict.update[0]);
  verdict = next.judge(3);
  EXPECT_EQ(verdict.status.collected_failed_size(), 1);
  EXPECT_EQ(verdict.remove.size(), 1u);
  Job last(2, 1);
  last.view().status = verdict.status;
  EXPECT_EQ(last(4), "failed");
  EXPECT_EQ(last.judge(4).status.message(), message);
}

TEST(JobPlan, PlansNoMoreThanFits) {
  Job job(1'000'000, 0);
  const JobVerdict verdict = job.judge(0, 10);
  EXPECT_EQ(verdict.starts.size(), 10u);
  EXPECT_FALSE(verdict.complete);
  EXPECT_EQ(verdict.status.state(), v1::JobStatus::RUNNING);
}

// ---------------------------------------------------------------- global jobs

Job global(std::vector<std::pair<const char*, bool>> nodes) {
  Job job(0, 0);
  job.view().global = true;
  for (const auto& [id, takes] : nodes) job.view().slots.push_back({0, id, takes, {}});
  return job;
}

TaskPtr on_node(const char* node, v1::TaskState state, v1::TaskState desired = v1::TASK_COMPLETE) {
  Job job(1, 1);
  job.with(0, state, 0, 1, desired);
  v1::Task task = *job.view().slots[0].attempts[0].task;
  task.set_node_id(node);
  task.set_name(fmt::format("job.{}", node));
  return std::make_shared<v1::Task>(task);
}

void put(Job& job, size_t node, v1::TaskState state, bool moved = false,
         v1::TaskState desired = v1::TASK_COMPLETE) {
  JobSlot& slot = job.view().slots[node];
  const bool over = state > v1::TASK_RUNNING;
  slot.attempts.push_back({on_node(slot.node_id.c_str(), state, desired), moved, over, over});
}

TEST(JobPlan, GlobalJobsRunOnceOnEveryNodeThatTakesThem) {
  Job job = global({{"n1", true}, {"n2", true}, {"n3", false}});
  EXPECT_EQ(job(0), "start n1, start n2, goes on");
  put(job, 0, kComplete);
  put(job, 1, kRunning);
  EXPECT_EQ(job(2), "goes on");
  // One that is paused in the middle goes on; one that is drained is done with.
  job.view().slots[1].takes = false;
  EXPECT_EQ(job(2), "goes on");
  job.view().slots[1].attempts[0].moved = true;
  EXPECT_EQ(job(2), "stop t1, completed");
  // A node that joins later runs it, too.
  job.view().slots.push_back({0, "n4", true, {}});
  EXPECT_EQ(job(3), "start n4, stop t1, goes on");
}

TEST(JobPlan, GlobalJobsRunAgainWhereTheyWereInterrupted) {
  Job job = global({{"n1", true}});
  put(job, 0, kShutdown, false, kShutdown);
  EXPECT_EQ(job(3), "start n1, goes on");
}

TEST(JobPlan, GlobalJobsHonourMaxAttempts) {
  Job job = global({{"n1", true}, {"n2", true}});
  job.view().restart.max_attempts = 1;
  put(job, 0, kFailed);
  EXPECT_EQ(job(1), "start n1 at 6, start n2, stop t1, goes on");
  v1::Task second = *on_node("n1", kFailed);
  second.set_id("t9");
  second.mutable_status()->set_timestamp_ns(at(7).unix_ns);
  second.mutable_meta()->set_created_at_ns(at(6).unix_ns);
  job.view().slots[0].attempts.push_back({std::make_shared<v1::Task>(second), false, true, true});
  put(job, 1, kComplete);
  EXPECT_EQ(job(20), "stop t9, stop t1, failed");
}

TEST(JobPlan, AGlobalJobWithoutANodeSaysSo) {
  Job job = global({{"n1", false}});
  EXPECT_EQ(job(0), "goes on");
  EXPECT_EQ(job.judge(0).status.message(),
            "no suitable node: none is ready, active and satisfies the placement constraints");
}

// ---------------------------------------------------------------- ranges

TEST(JobStatus, SlotsJoinToRanges) {
  google::protobuf::RepeatedPtrField<v1::SlotRange> ranges;
  const auto text = [&] {
    std::string out;
    for (const auto& r : ranges) out += fmt::format("[{}-{}]", r.first(), r.last());
    return out;
  };
  const std::pair<uint64_t, const char*> kSteps[] = {
      {5, "[5-5]"}, {7, "[5-5][7-7]"}, {3, "[3-3][5-5][7-7]"}, {4, "[3-5][7-7]"}, {6, "[3-7]"},
      {6, "[3-7]"}, {0, "[0-0][3-7]"}, {8, "[0-0][3-8]"},      {2, "[0-0][2-8]"}, {1, "[0-8]"},
  };
  for (const auto& [slot, expected] : kSteps) {
    store::add_slot(ranges, slot);
    EXPECT_EQ(text(), expected);
  }
  EXPECT_EQ(store::slots_in(ranges), 9u);
  EXPECT_EQ(store::range_of(ranges, 9), nullptr);
  ASSERT_NE(store::range_of(ranges, 8), nullptr);
  EXPECT_EQ(store::range_of(ranges, 8)->first(), 0u);
}

}  // namespace
}  // namespace muster::manager::orchestrator
