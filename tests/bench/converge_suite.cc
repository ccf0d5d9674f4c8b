#include "tests/bench/converge_suite.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <optional>

#include "base/unique_fd.h"
#include "tests/bench/converge_probes.h"
#include "tests/bench/lab_cluster.h"

namespace muster::bench {
namespace {

constexpr Duration kPatience = 30s;
constexpr int kPollMs = 2;
constexpr uint16_t kTargetPort = 80;

// What each question of a node is about, in their order.
constexpr const char* kKinds[] = {"name", "vip", "mesh"};

struct Target {
  std::string virtual_ip;
  std::string task_ip;  // in the network of the virtual address
  uint16_t published = 0;
};

class ConvergeRun {
 public:
  explicit ConvergeRun(LabCluster& cluster) : cluster_(cluster) {}

  // A container on every node to ask from.
  Status set_up() {
    MUSTER_TRY(cluster_.push_images({"busybox"}));
    MUSTER_TRY(cluster_.muster({"network", "create", "bench"}));
    MUSTER_TRY(cluster_.muster({"service", "create", "--detach=false", "--monitor", "0s", "--mode",
                                "global", "--name", "asker", "--network", "bench",
                                "registry:5000/busybox:1", "sleep", "infinity"}));
    for (const auto& node : cluster_.lab.state().plan.nodes) {
      if (node.role == deploy::lab::Role::kRegistry) continue;
      MUSTER_ASSIGN(const auto process, cluster_.lab.need_process(node));
      MUSTER_TRY(find_asker(node, process.view.pid));
    }
    return ok_status();
  }

  Status measure(int number) {
    const std::string name = fmt::format("target{}", number);
    MUSTER_TRY(
        cluster_.muster({"service", "create", "--detach", "--name", name, "--network", "bench",
                         "--publish", std::to_string(kTargetPort), "registry:5000/busybox:1", "nc",
                         "-ll", "-p", std::to_string(kTargetPort), "-e", "echo", "m"}));
    MUSTER_ASSIGN(const Target target, await_target(name));
    std::vector<Question> questions;
    for (const Node& node : nodes_) {
      // The service's own name means its virtual address as soon as there is a service: what a
      // task's start changes is which tasks there are.
      questions.push_back(
          {Question::Kind::kName, node.inside.get(), target.task_ip, 0, "tasks." + name});
      questions.push_back(
          {Question::Kind::kConnection, node.inside.get(), target.virtual_ip, kTargetPort, {}});
      questions.push_back({Question::Kind::kConnection, -1, node.address, target.published, {}});
    }
    std::vector<WallTime> answered;
    {
      Probes probes(std::move(questions));
      MUSTER_ASSIGN(answered, probes.await(kPatience));
    }
    MUSTER_ASSIGN(const WallTime running, running_since(name));
    for (size_t i = 0; i < answered.size(); ++i) {
      const double took = std::chrono::duration<double>(answered[i] - running).count();
      took_[kKinds[i % std::size(kKinds)]].push_back(std::max(took, 0.0));
    }
    return cluster_.muster({"service", "rm", name});
  }

  void report_to(Report& report) {
    std::vector<double> all;
    for (auto& [kind, took] : took_) {
      all.insert(all.end(), took.begin(), took.end());
      add(report, kind, took);
    }
    add(report, "endpoint_visible", all);
    took_.clear();
  }

 private:
  struct Node {
    std::string address;
    UniqueFd inside;  // the namespace of the container to ask from
  };

  static void add(Report& report, const std::string& name, std::vector<double>& took) {
    std::sort(took.begin(), took.end());
    report.add(name + "_p50_s", "s", took[took.size() / 2]);
    report.add(name + "_p99_s", "s", took[took.size() * 99 / 100]);
  }

  // The pins of namespaces are mounts that only the node sees.
  Status find_asker(const deploy::lab::NodePlan& plan, int64_t pid) {
    const std::filesystem::path run =
        fmt::format("/proc/{}/root{}", pid, cluster_.lab.files().run(plan.name));
    for (const auto& instance : std::filesystem::directory_iterator(run)) {
      std::error_code none;
      for (const auto& pin : std::filesystem::directory_iterator(instance.path() / "netns", none)) {
        if (pin.path().filename().string().starts_with("net-")) continue;
        UniqueFd fd(::open(pin.path().c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd) return errno_status(errno, pin.path().string());
        nodes_.push_back({plan.address.str(), std::move(fd)});
        return ok_status();
      }
    }
    return not_found("node {} has no container to ask from", plan.name);
  }

  Result<v1::Service> service(const std::string& name) const {
    v1::GetServiceRequest request;
    request.set_service(name);
    MUSTER_ASSIGN(auto answer, cluster_.ask<v1::GetServiceResponse>(
                                   [&](auto& stub, auto* context, auto* response) {
                                     return stub.GetService(context, request, response);
                                   }));
    return *answer.mutable_service();
  }

  // Its task; nullopt: it has none yet.
  Result<std::optional<v1::Task>> task_of(const v1::Service& service) const {
    MUSTER_ASSIGN(const auto tasks, cluster_.ask<v1::ListTasksResponse>(
                                        [](auto& stub, auto* context, auto* response) {
                                          return stub.ListTasks(context, {}, response);
                                        }));
    for (const v1::Task& task : tasks.tasks()) {
      if (task.service_id() == service.id()) return std::optional(task);
    }
    return std::optional<v1::Task>();
  }

  static std::string without_prefix(const std::string& cidr) {
    return cidr.substr(0, cidr.find('/'));
  }

  // What the managers have given it.
  Result<Target> await_target(const std::string& name) const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      MUSTER_ASSIGN(const v1::Service now, service(name));
      MUSTER_ASSIGN(const auto task, task_of(now));
      for (const auto& ip : now.endpoint().virtual_ips()) {
        if (ip.address().empty() || now.endpoint().ports_size() == 0 || !task) continue;
        for (const auto& network : task->networks()) {
          if (network.network_id() != ip.network_id() || network.addresses().empty()) continue;
          return Target{without_prefix(ip.address()), without_prefix(network.addresses(0)),
                        static_cast<uint16_t>(now.endpoint().ports(0).published_port())};
        }
      }
      poll(nullptr, 0, kPollMs);
    }
    return fail(unavailable("{} has no virtual address, or no task with an address", name));
  }

  Result<WallTime> running_since(const std::string& name) const {
    MUSTER_ASSIGN(const v1::Service about, service(name));
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      MUSTER_ASSIGN(const auto task, task_of(about));
      if (task && task->status().running_since_ns() != 0) {
        return WallTime{task->status().running_since_ns()};
      }
      poll(nullptr, 0, kPollMs);
    }
    return fail(unavailable("{} does not run", name));
  }

  LabCluster& cluster_;
  std::vector<Node> nodes_;
  std::map<std::string, std::vector<double>> took_;  // seconds, by kind
};

}  // namespace

Status run_converge_suite(const SuiteOptions& options, Report& report) {
  if (geteuid() != 0) return permission_denied("needs root, for a lab");
  MUSTER_ASSIGN(const auto cluster,
                LabCluster::up("converge", options.smoke ? 1 : 3, options.smoke ? 1 : 7));
  ConvergeRun bench(*cluster);
  MUSTER_TRY(bench.set_up());
  const int rounds = options.smoke ? 1 : 10;
  int number = 0;
  for (int run = 0; run < options.runs; ++run) {
    for (int round = 0; round < rounds; ++round) MUSTER_TRY(bench.measure(++number));
    bench.report_to(report);
  }
  return ok_status();
}

}  // namespace muster::bench
