#include "tests/bench/lab_cluster.h"

#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "base/process.h"

namespace muster::bench {
namespace {

constexpr Duration kPatience = 60s;
constexpr int kPollMs = 20;

std::filesystem::path programs() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

}  // namespace

Result<std::unique_ptr<LabCluster>> LabCluster::up(const std::string& name, uint32_t managers,
                                                   uint32_t workers) {
  deploy::lab::LabContext context;
  context.base = fmt::format("/var/lib/muster-bench-lab-{}", getpid());
  context.muster = programs() / "muster";
  deploy::lab::LabWish wish;
  wish.name = name;
  wish.managers = managers;
  wish.workers = workers;
  wish.musterd = programs() / "musterd";
  wish.log_level = "warn";
  MUSTER_ASSIGN(auto lab, deploy::lab::Lab::create(context, wish));
  auto cluster = std::make_unique<LabCluster>(std::move(lab));
  MUSTER_TRY(cluster->lab.bring_up());
  return cluster;
}

std::vector<std::string> LabCluster::sockets() const {
  std::vector<std::string> out;
  for (const auto& node : lab.state().plan.nodes) {
    if (node.role == deploy::lab::Role::kManager) out.push_back(lab.files().socket(node.name));
  }
  return out;
}

Result<std::string> LabCluster::await_health() const {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::string trouble;
  while (std::chrono::steady_clock::now() < deadline) {
    std::string leader;
    size_t ready = 0;
    const auto nodes = ask<v1::ListNodesResponse>([](auto& stub, auto* context, auto* response) {
      return stub.ListNodes(context, {}, response);
    });
    if (nodes) {
      for (const v1::Node& node : nodes->nodes()) {
        const bool well = node.status().state() == v1::NodeStatus::READY &&
                          (!node.has_manager_status() || node.manager_status().reachable());
        if (well) ++ready;
        if (!well) trouble = node.description().hostname() + " is not ready";
        if (node.manager_status().leader()) leader = node.description().hostname();
      }
    } else {
      trouble = nodes.error().message();
    }
    if (ready + 1 == lab.state().plan.nodes.size() && !leader.empty()) return leader;
    poll(nullptr, 0, kPollMs);
  }
  return fail(unavailable("the lab does not recover: {}", trouble));
}

Status LabCluster::muster(const std::vector<std::string>& words) const {
  const auto done = deploy::lab::call_muster(programs() / "muster", sockets()[0], words, kPatience);
  return done ? ok_status() : done.error();
}

Status LabCluster::push_images(const std::vector<std::string>& images) const {
  ProcessOptions build;
  build.argv = {"deploy/packaging/images/build.sh", "--out", lab.files().dir() + "/images",
                "--push", lab.state().plan.registry()};
  build.argv.insert(build.argv.end(), images.begin(), images.end());
  MUSTER_ASSIGN(const RunResult built, run_process(build));
  if (!built.exit.success()) return internal_error("{}: {}", build.argv[0], built.err);
  return ok_status();
}

}  // namespace muster::bench
