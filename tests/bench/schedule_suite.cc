#include "tests/bench/schedule_suite.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/rng.h"
#include "base/sim_executor.h"
#include "manager/orchestrator/scheduling_loop.h"
#include "manager/store/store.h"
#include "scheduler/placement.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::bench {
namespace {

constexpr int64_t kNodeMemory = int64_t{64} << 30;
constexpr uint32_t kZones = 4;

struct Problem {
  std::vector<v1::Node> nodes;
  std::vector<v1::Revision> revisions;
  std::vector<v1::Task> tasks;
};

void add_label(v1::Node& node, std::string key, std::string value) {
  auto& label = *node.mutable_spec()->mutable_annotations()->add_labels();
  label.set_key(std::move(key));
  label.set_value(std::move(value));
}

v1::Node make_node(Rng& rng, uint32_t number) {
  v1::Node node;
  node.set_id(rng.id());
  node.mutable_status()->set_state(v1::NodeStatus::READY);
  auto& description = *node.mutable_description();
  description.set_hostname(fmt::format("host{:06}", number));
  description.mutable_resources()->set_nano_cpus(16'000'000'000);
  description.mutable_resources()->set_memory_bytes(kNodeMemory);
  for (uint32_t i = 0; i < 8; ++i) {
    add_label(node, fmt::format("label{}", i), fmt::format("value{}", rng.below(8)));
  }
  add_label(node, "rack", fmt::format("r{}", number % 50));
  add_label(node, "zone", fmt::format("z{}", number % kZones));
  return node;
}

v1::Revision make_revision(Rng& rng, const ScheduleCase& c, uint32_t number) {
  v1::Revision revision;
  revision.set_service_id(rng.id());
  revision.set_number(1);
  revision.set_id(revision.service_id() + ".1");
  if (!c.mixed) return revision;
  auto& spec = *revision.mutable_spec();
  if (number % 2 == 0) {
    spec.mutable_placement()->add_constraints(
        fmt::format("node.labels.label{} != value{}", rng.below(8), rng.below(8)));
    spec.mutable_placement()->add_constraints(
        fmt::format("node.labels.zone != z{}", rng.below(kZones)));
  }
  if (number % 3 == 0) {
    spec.mutable_placement()->add_preferences()->set_spread_descriptor("node.labels.rack");
  }
  if (number % 10 == 1) {
    const int64_t reserving_tasks = std::max<int64_t>(1, c.tasks / 10);
    spec.mutable_resources()->mutable_reservations()->set_memory_bytes(
        static_cast<int64_t>(c.nodes) * (kNodeMemory / 10) * 8 / reserving_tasks);
  }
  return revision;
}

v1::Task make_task(Rng& rng, const std::string& service, uint64_t slot) {
  v1::Task task;
  task.set_id(rng.id());
  task.set_service_id(service);
  task.set_slot(slot);
  task.set_name(fmt::format("service.{}", slot));
  task.set_revision(service.empty() ? 0 : 1);
  task.set_desired_state(v1::TASK_RUNNING);
  task.mutable_status()->set_state(v1::TASK_PENDING);
  task.mutable_status()->set_message("pending task scheduling");
  return task;
}

Problem make_problem(const ScheduleCase& c, uint64_t seed) {
  SeededRng rng(seed);
  Problem problem;
  for (uint32_t i = 0; i < c.nodes; ++i) problem.nodes.push_back(make_node(rng, i));
  for (uint32_t i = 0; i < c.services; ++i) problem.revisions.push_back(make_revision(rng, c, i));
  problem.tasks.reserve(c.tasks);
  const uint32_t per_service = c.services == 0 ? c.tasks : c.tasks / c.services;
  for (uint32_t i = 0; i < c.tasks; ++i) {
    const std::string service =
        c.services == 0 ? std::string() : problem.revisions[i / per_service].service_id();
    problem.tasks.push_back(make_task(rng, service, i % per_service + 1));
  }
  return problem;
}

// Processor time of this thread: there is nothing to wait for in here, and what else the machine
// does stays out of it.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

Result<double> time_decisions(const Problem& problem) {
  scheduler::ClusterState state;
  scheduler::PendingQueue queue(state);
  scheduler::Placer placer(state, queue);
  for (const auto& node : problem.nodes) state.put_node(node);
  for (const auto& revision : problem.revisions) state.put_revision(revision);
  for (const auto& task : problem.tasks) queue.put(std::make_shared<const v1::Task>(task));
  const double start = thread_seconds();
  placer.wake();
  const scheduler::Plan plan = placer.round({}, problem.tasks.size());
  const double seconds = thread_seconds() - start;
  if (!plan.unplaced.empty()) {
    return fail(
        internal_error("{} tasks found no node: {}", plan.unplaced.size(), plan.reasons.front()));
  }
  return seconds;
}

template <class T>
void fill(manager::store::Store& store, std::vector<T>& objects) {
  constexpr size_t kAtOnce = 1000;
  for (size_t at = 0; at < objects.size(); at += kAtOnce) {
    const size_t end = std::min(objects.size(), at + kAtOnce);
    store.update(
        [&objects, at, end](manager::store::Transaction& tx) -> Status {
          for (size_t i = at; i < end; ++i) MUSTER_TRY(tx.create(objects[i]));
          return ok_status();
        },
        [](const manager::store::Commit&) {});
  }
}

// Everything in one thread: what is measured is work, not the overlap of two cores.
Result<double> time_loop(Problem problem) {
  SimWorld world;
  SimExecutor strand(world);
  SimExecutor worker(world);
  manager::store::InstantProposer disk(strand);
  manager::store::Store store(strand, &disk, null_log());
  store.lead(1);
  fill(store, problem.nodes);
  fill(store, problem.revisions);
  world.settle();
  manager::orchestrator::SchedulingLoop loop(strand, worker, store, null_log());
  loop.start(store.snapshot());
  world.settle();
  loop.stop();
  fill(store, problem.tasks);
  world.settle(UINT64_MAX);
  const size_t tasks = problem.tasks.size();
  problem = {};

  const double start = thread_seconds();
  loop.start(store.snapshot());
  world.settle(UINT64_MAX);
  const double seconds = thread_seconds() - start;
  size_t assigned = 0;
  store.snapshot().tasks_in_state(v1::TASK_ASSIGNED, [&](const auto&) {
    ++assigned;
    return true;
  });
  if (assigned != tasks) return fail(internal_error("{} of {} tasks assigned", assigned, tasks));
  return seconds;
}

}  // namespace

std::vector<ScheduleCase> schedule_cases(bool large) {
  std::vector<ScheduleCase> cases{
      {"place_1k_100k_equal_s", 1'000, 1, 100'000, false},
      {"place_1k_100k_mixed_s", 1'000, 500, 100'000, true},
      {"swarmkit_shape_1k_1k_s", 1'000, 0, 1'000, false},
      {"swarmkit_shape_1k_10k_s", 1'000, 0, 10'000, false},
      {"swarmkit_shape_1k_100k_s", 1'000, 0, 100'000, false},
  };
  if (large) {
    cases.push_back({"swarmkit_shape_100k_100k_s", 100'000, 0, 100'000, false});
    cases.push_back({"place_10k_1m_mixed_s", 10'000, 5'000, 1'000'000, true});
  }
  return cases;
}

Result<ScheduleResult> run_schedule_case(const ScheduleCase& c, uint64_t seed) {
  Problem problem = make_problem(c, seed);
  ScheduleResult result;
  MUSTER_ASSIGN(result.decide_s, time_decisions(problem));
  MUSTER_ASSIGN(result.total_s, time_loop(std::move(problem)));
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  result.rss_peak_mib = static_cast<double>(usage.ru_maxrss) / 1024;
  return result;
}

}  // namespace muster::bench
