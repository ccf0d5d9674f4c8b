#include "tests/bench/failover_suite.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>

#include "base/process.h"
#include "tests/bench/lab_cluster.h"
#include "tests/bench/write_stream.h"

namespace muster::bench {
namespace {

constexpr Duration kPatience = 60s;
constexpr int kPollMs = 20;
constexpr uint64_t kReplicas = 10;
constexpr const char* kService = "bench";

enum class Fault { kKill, kStop, kPause, kPartition };

double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}

struct Strike {
  TimePoint begun;
  TimePoint in_force;
};

// Does it to the leader.
Result<Strike> strike(LabCluster& cluster, Fault fault, const std::string& leader) {
  Strike strike{WriteStream::now(), {}};
  if (fault == Fault::kPartition) {
    MUSTER_TRY(cluster.lab.cut(leader, std::nullopt, false, deploy::lab::Cut::kSilent));
    strike.in_force = WriteStream::now();
    return strike;
  }
  MUSTER_ASSIGN(const auto node, cluster.lab.find(leader));
  MUSTER_ASSIGN(const auto process, cluster.lab.need_process(node));
  const int signal = fault == Fault::kKill ? SIGKILL : fault == Fault::kStop ? SIGTERM : SIGSTOP;
  strike.begun = WriteStream::now();
  MUSTER_TRY(signal_process(process, signal));
  strike.in_force = WriteStream::now();
  if (fault != Fault::kPause) MUSTER_TRY(await_end(process, kPatience));
  return strike;
}

Status repair(LabCluster& cluster, Fault fault, const std::string& leader) {
  switch (fault) {
    case Fault::kKill:
    case Fault::kStop: return cluster.lab.start({leader});
    case Fault::kPause: return cluster.lab.resume({leader});
    case Fault::kPartition: {
      const auto healed = cluster.lab.heal(std::nullopt, std::nullopt);
      return healed ? ok_status() : healed.error();
    }
  }
  return ok_status();
}

Status measure_fault(LabCluster& cluster, WriteStream& writes, Fault fault, const std::string& name,
                     int rounds, Report& report) {
  std::vector<double> gaps;
  for (int round = 0; round < rounds; ++round) {
    MUSTER_ASSIGN(const std::string leader, cluster.await_health());
    MUSTER_TRY(writes.await_flow(kPatience));
    MUSTER_ASSIGN(const Strike struck, strike(cluster, fault, leader));
    const auto answer = writes.first_answer(struck.in_force, kPatience);
    if (!answer) return answer.error().with_context(fmt::format("{} of {}", name, leader));
    gaps.push_back(seconds(*answer - struck.begun));
    MUSTER_TRY(repair(cluster, fault, leader));
  }
  std::sort(gaps.begin(), gaps.end());
  report.add(name + "_p50_s", "s", gaps[gaps.size() / 2]);
  report.add(name + "_max_s", "s", gaps.back());
  return ok_status();
}

// How many tasks of the service run on each node, by host name.
Result<std::map<std::string, uint64_t>> running_by_node(const LabCluster& cluster) {
  std::map<std::string, std::string> names;
  MUSTER_ASSIGN(const auto nodes,
                cluster.ask<v1::ListNodesResponse>([](auto& stub, auto* context, auto* response) {
                  return stub.ListNodes(context, {}, response);
                }));
  for (const v1::Node& node : nodes.nodes()) names[node.id()] = node.description().hostname();
  MUSTER_ASSIGN(const auto tasks,
                cluster.ask<v1::ListTasksResponse>([](auto& stub, auto* context, auto* response) {
                  return stub.ListTasks(context, {}, response);
                }));
  std::map<std::string, uint64_t> out;
  for (const v1::Task& task : tasks.tasks()) {
    if (task.status().state() == v1::TASK_RUNNING && task.desired_state() == v1::TASK_RUNNING)
      ++out[names[task.node_id()]];
  }
  return out;
}

Status await_running(const LabCluster& cluster,
                     const std::function<bool(std::map<std::string, uint64_t>&)>& enough) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    auto running = running_by_node(cluster);
    if (running && enough(*running)) return ok_status();
    poll(nullptr, 0, kPollMs);
  }
  return unavailable("the tasks do not run within {}", format_duration(kPatience));
}

Status create_service(const LabCluster& cluster) {
  MUSTER_TRY(cluster.push_images({"busybox"}));
  return cluster.muster({"service", "create", "--detach", "--name", kService, "--replicas",
                         std::to_string(kReplicas), "--constraint", "node.role==worker",
                         "registry:5000/busybox:1", "sh", "-c",
                         "trap 'exit 0' TERM; sleep 86400 & wait"});
}

Status measure_worker(LabCluster& cluster, int rounds, Report& report) {
  MUSTER_TRY(create_service(cluster));
  for (int round = 0; round < rounds; ++round) {
    MUSTER_ASSIGN(const std::string leader, cluster.await_health());
    // Whichever has more of the tasks is lost; a worker that was away at first has none.
    std::string lost;
    std::string left;
    MUSTER_TRY(await_running(cluster, [&](auto& running) {
      const bool first = running["worker1"] > running["worker2"];
      lost = first ? "worker1" : "worker2";
      left = first ? "worker2" : "worker1";
      return running[lost] + running[left] == kReplicas;
    }));
    const TimePoint begin = WriteStream::now();
    MUSTER_TRY(cluster.lab.kill({lost}, true));
    MUSTER_TRY(await_running(cluster, [&](auto& running) { return running[left] == kReplicas; }));
    report.add("worker_replaced_s", "s", seconds(WriteStream::now() - begin));
    MUSTER_TRY(cluster.lab.start({lost}));
  }
  return ok_status();
}

}  // namespace

Status run_failover_suite(const SuiteOptions& options, Report& report) {
  if (geteuid() != 0) return permission_denied("needs root, for a lab");
  const int often = options.smoke ? 1 : 40 * options.runs;
  const int seldom = options.smoke ? 1 : 10 * options.runs;
  MUSTER_ASSIGN(const auto cluster, LabCluster::up("failover", 3, 2));
  {
    WriteStream writes(cluster->sockets());
    MUSTER_TRY(measure_fault(*cluster, writes, Fault::kKill, "kill9", often, report));
    MUSTER_TRY(measure_fault(*cluster, writes, Fault::kStop, "stop", often, report));
    MUSTER_TRY(measure_fault(*cluster, writes, Fault::kPause, "pause", seldom, report));
    MUSTER_TRY(measure_fault(*cluster, writes, Fault::kPartition, "partition", seldom, report));
  }
  return measure_worker(*cluster, options.smoke ? 1 : options.runs, report);
}

}  // namespace muster::bench
