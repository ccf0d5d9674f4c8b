// What a node says of itself.
#include <algorithm>

#include "deploy/daemon/daemon.h"
#include "deploy/daemon/host.h"

namespace muster::daemon {
namespace {

void describe_group(const ManagerRole& manager, v1::GetInfoResponse* out) {
  manager.snapshot().each<v1::Node>([&](const manager::store::Ptr<v1::Node>&) {
    out->set_nodes(out->nodes() + 1);
    return true;
  });
  const raft::GroupView view = manager.group();
  for (const raft::MemberView& member : view.members) {
    out->set_managers(out->managers() + 1);
    const bool self = member.member.id == view.self;
    // A follower without a leader knows of nobody but itself.
    if (self || (view.leader && member.reachable)) {
      out->set_managers_reachable(out->managers_reachable() + 1);
    }
    if (member.member.id == view.leader) out->set_leader_node_id(member.member.node_id);
  }
}

}  // namespace

void Daemon::get_info(manager::control::Callback<v1::GetInfoResponse> done) {
  // Asks other strands, so it waits elsewhere.
  auto shared = std::make_shared<manager::control::Callback<v1::GetInfoResponse>>(std::move(done));
  const bool queued = local_calls_->post([this, shared] {
    main_loop_.post([shared, answer = info()]() mutable { (*shared)(std::move(answer)); });
  });
  if (!queued) (*shared)(fail(resource_exhausted("too many requests wait on this node")));
}

v1::GetInfoResponse Daemon::info() {
  v1::GetInfoResponse out;
  std::shared_ptr<ManagerRole> manager;
  std::shared_ptr<security::TlsIdentity> tls;
  Membership membership_here;  // empty outside of a swarm
  {
    std::lock_guard lock(mutex_);
    manager = manager_;
    tls = tls_;
    if (state_.membership) {
      const Membership& membership = *state_.membership;
      out.set_local_state(locked_ ? "locked" : faulty_ ? "error" : "active");
      out.set_node_id(membership.node_id);
      out.set_cluster_id(membership.cluster_id);
      const std::string& address = membership.advertise_addr;
      out.set_node_addr(address.substr(0, address.rfind(':')));
      membership_here = membership;
      for (const auto& known : membership.managers) out.add_manager_addrs(known);
    } else {
      out.set_local_state("inactive");
    }
    if (faulty_) {
      out.set_error(role_error_);
    } else if (state_.membership && !locked_ && !alone_.empty()) {
      out.set_error(
          fmt::format("No manager serves this node, its containers keep running; {}", alone_));
    }
  }
  out.set_control_available(manager != nullptr);
  if (manager != nullptr) describe_group(*manager, &out);
  if (tls != nullptr) *out.mutable_tls() = describe_identity(*tls->current());
  *out.mutable_description() = describe(membership_here);
  const auto runtime = parts_->runtime->info();
  out.set_runtime(runtime.name);
  out.set_cgroup_version(runtime.cgroup_version);
  out.set_balancer(out.description().balancer());
  out.set_kernel(kernel_release());
  out.set_os(os_name());
  out.set_data_dir(options_.data_dir.string());
  out.set_version(MUSTER_VERSION);
  if (const auto images = parts_->images->list()) {
    out.set_images(static_cast<uint32_t>(images->size()));
  }
  if (const auto role = agent()) {
    const auto tasks = role->tasks();
    out.set_containers_running(
        static_cast<uint32_t>(std::count_if(tasks.begin(), tasks.end(), [](const auto& task) {
          return task.status().state() == v1::TASK_RUNNING;
        })));
  }
  return out;
}

}  // namespace muster::daemon
