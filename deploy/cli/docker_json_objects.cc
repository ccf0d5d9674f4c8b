#include "deploy/cli/docker_json.h"
#include "deploy/cli/docker_json_parts.h"
#include "deploy/cli/names.h"

namespace muster::deploy::cli {
namespace {

using namespace internal;  // NOLINT: the parts are made for this file

void put_meta(boost::json::object& out, const std::string& id, const v1::Meta& meta) {
  out["ID"] = id;
  out["Version"] = {{"Index", meta.version()}};
  out["CreatedAt"] = time_json(meta.created_at_ns());
  out["UpdatedAt"] = time_json(meta.updated_at_ns());
}

boost::json::object endpoint_json(const v1::Endpoint& endpoint) {
  boost::json::object out;
  if (endpoint.has_spec()) out["Spec"] = endpoint_spec_json(endpoint.spec());
  put(out, "Ports", ports_json(endpoint.ports()));
  boost::json::array ips;
  for (const auto& ip : endpoint.virtual_ips())
    ips.push_back({{"NetworkID", ip.network_id()}, {"Addr", ip.address()}});
  put(out, "VirtualIPs", std::move(ips));
  return out;
}

boost::json::object health_json(const v1::Health& health) {
  boost::json::object out;
  out["Status"] = health_name(health.state());
  out["FailingStreak"] = health.failing_streak();
  boost::json::array log;
  for (const auto& probe : health.probes())
    log.push_back({{"Start", time_json(probe.started_at_ns())},
                   {"End", time_json(probe.ended_at_ns())},
                   {"ExitCode", probe.exit_code()},
                   {"Output", probe.output()}});
  out["Log"] = std::move(log);
  return out;
}

boost::json::object task_status_json(const v1::TaskStatus& status) {
  boost::json::object out;
  out["Timestamp"] = time_json(status.timestamp_ns());
  out["State"] = state_name(status.state());
  put(out, "Message", status.message());
  put(out, "Err", status.error());
  if (status.has_container()) {
    const auto& container = status.container();
    boost::json::object item;
    put(item, "ContainerID", container.container_id());
    item["PID"] = container.pid();
    item["ExitCode"] = container.exit_code();
    put_true(item, "OOMKilled", container.oom_killed());
    out["ContainerStatus"] = std::move(item);
  }
  if (status.health().state() != v1::Health::NONE) out["Health"] = health_json(status.health());
  boost::json::object ports;
  put(ports, "Ports", ports_json(status.host_ports()));
  out["PortStatus"] = std::move(ports);
  return out;
}

boost::json::array pools_json(const v1::Network& network) {
  const auto& pools =
      network.state().pools().empty() ? network.spec().pools() : network.state().pools();
  boost::json::array out;
  for (const auto& pool : pools) {
    boost::json::object item;
    put(item, "Subnet", pool.subnet());
    put(item, "IPRange", pool.ip_range());
    put(item, "Gateway", pool.gateway());
    put(item, "AuxiliaryAddresses", pairs_json(pool.aux_addresses()));
    out.push_back(std::move(item));
  }
  return out;
}

// Docker's two fields, and what muster knows beyond them.
boost::json::object job_status_json(const v1::JobStatus& status) {
  boost::json::object out;
  out["JobIteration"] = {{"Index", status.iteration()}};
  out["LastExecution"] = time_json(status.last_execution_ns());
  out["State"] = job_state_name(status.state());
  if (status.ended_at_ns() != 0) out["EndedAt"] = time_json(status.ended_at_ns());
  put_number(out, "FailedTasks", static_cast<int64_t>(status.failed()));
  put(out, "Message", status.message());
  return out;
}

}  // namespace

boost::json::object service_json(const v1::Service& service) {
  boost::json::object out;
  put_meta(out, service.id(), service.meta());
  out["Spec"] = service_spec_json(service.spec());
  if (service.has_previous_spec()) out["PreviousSpec"] = service_spec_json(service.previous_spec());
  out["Endpoint"] = endpoint_json(service.endpoint());
  if (service.has_update_status() && service.update_status().state() != 0) {
    const auto& update = service.update_status();
    boost::json::object status;
    status["State"] = update_state_name(update.state());
    status["StartedAt"] = time_json(update.started_at_ns());
    if (update.completed_at_ns() != 0) status["CompletedAt"] = time_json(update.completed_at_ns());
    put(status, "Message", update.message());
    out["UpdateStatus"] = std::move(status);
  }
  if (service.has_job_status()) out["JobStatus"] = job_status_json(service.job_status());
  put(out, "AllocationError", service.allocation_error());
  return out;
}

boost::json::object task_json(const v1::Task& task, const v1::Revision* revision) {
  boost::json::object out;
  put_meta(out, task.id(), task.meta());
  put(out, "Name", task.name());
  out["Labels"] = boost::json::object();
  if (revision != nullptr) out["Spec"] = task_spec_json(revision->spec());
  out["ServiceID"] = task.service_id();
  put_number(out, "Slot", static_cast<int64_t>(task.slot()));
  put(out, "NodeID", task.node_id());
  out["Status"] = task_status_json(task.status());
  out["DesiredState"] = state_name(task.desired_state());
  boost::json::array networks;
  for (const auto& network : task.networks())
    networks.push_back({{"Network", {{"ID", network.network_id()}}},
                        {"Addresses", strings_json(network.addresses())}});
  put(out, "NetworksAttachments", std::move(networks));
  put(out, "GenericResources", generic_json(task.assigned_generic()));
  if (task.job_iteration() != 0) out["JobIteration"] = {{"Index", task.job_iteration()}};
  return out;
}

boost::json::object node_json(const v1::Node& node) {
  boost::json::object out;
  put_meta(out, node.id(), node.meta());
  boost::json::object spec;
  put(spec, "Name", node.spec().annotations().name());
  spec["Labels"] = pairs_json(node.spec().annotations().labels());
  spec["Role"] = role_name(node.spec().desired_role());
  spec["Availability"] = availability_name(node.spec().availability());
  out["Spec"] = std::move(spec);

  const auto& about = node.description();
  boost::json::object resources;
  resources["NanoCPUs"] = about.resources().nano_cpus();
  resources["MemoryBytes"] = about.resources().memory_bytes();
  put(resources, "GenericResources", generic_json(about.resources().generic()));
  boost::json::object engine;
  engine["EngineVersion"] = about.engine().version();
  put(engine, "Labels", pairs_json(about.engine().labels()));
  boost::json::array plugins;
  for (const auto& plugin : about.engine().plugins())
    plugins.push_back({{"Type", plugin.type()}, {"Name", plugin.name()}});
  put(engine, "Plugins", std::move(plugins));
  boost::json::object description;
  description["Hostname"] = about.hostname();
  description["Platform"] = {{"Architecture", about.platform().architecture()},
                             {"OS", about.platform().os()}};
  description["Resources"] = std::move(resources);
  description["Engine"] = std::move(engine);
  put(description, "Limitations", strings_json(about.limitations()));
  put(description, "LocalRanges", strings_json(about.local_ranges()));
  if (!about.data_path().address().empty()) {
    description["DataPath"] = {{"Address", about.data_path().address()},
                               {"MTU", about.data_path().mtu()}};
  }
  put(description, "Balancer", about.balancer());
  put(description, "NoEncryption", about.no_encryption());
  if (about.has_network_repairs()) {
    const v1::NetworkRepairs& repairs = about.network_repairs();
    description["NetworkRepairs"] = {{"Differences", repairs.differences()},
                                     {"Last", strings_json(repairs.last())},
                                     {"At", time_json(repairs.at_ns())}};
  }
  if (about.has_tls()) {
    boost::json::object tls;
    tls["TrustRoot"] = about.tls().trust_root_pem();
    tls["CertIssuerSubject"] = base64(about.tls().issuer_subject_der());
    tls["CertIssuerPublicKey"] = base64(about.tls().issuer_public_key_der());
    tls["NotAfter"] = time_json(about.tls().not_after_ns());
    description["TLSInfo"] = std::move(tls);
  }
  out["Description"] = std::move(description);

  boost::json::object status;
  status["State"] = node_state_name(node.status().state());
  put(status, "Message", node.status().message());
  status["Addr"] = node.status().address();
  out["Status"] = std::move(status);
  if (node.has_manager_status()) {
    const auto& manager = node.manager_status();
    boost::json::object item;
    put_true(item, "Leader", manager.leader());
    put_true(item, "Learner", manager.learner());
    item["Reachability"] = manager.reachable() || manager.leader() ? "reachable" : "unreachable";
    item["Addr"] = manager.address();
    out["ManagerStatus"] = std::move(item);
  }
  if (!node.ingress().addresses().empty()) {
    out["Ingress"] = {{"Index", node.ingress().index()},
                      {"Addresses", strings_json(node.ingress().addresses())},
                      {"MacAddress", node.ingress().mac()}};
  }
  put(out, "Warnings", strings_json(node.warnings()));
  return out;
}

boost::json::object network_json(const v1::Network& network) {
  const auto& spec = network.spec();
  boost::json::object out;
  out["Name"] = spec.annotations().name();
  out["Id"] = network.id();
  out["ID"] = network.id();
  out["Created"] = time_json(network.meta().created_at_ns());
  out["Scope"] = "swarm";
  out["Driver"] = spec.driver();
  out["EnableIPv6"] = spec.ipv6();
  out["IPAM"] = {{"Driver", spec.ipam_driver().empty() ? "default" : spec.ipam_driver()},
                 {"Options", nullptr},
                 {"Config", pools_json(network)}};
  out["Internal"] = spec.internal();
  out["Attachable"] = spec.attachable();
  out["Ingress"] = spec.ingress();
  boost::json::object options = pairs_json(spec.driver_options());
  if (network.state().vni() != 0)
    options["com.docker.network.driver.overlay.vxlanid_list"] =
        std::to_string(network.state().vni());
  out["Options"] = std::move(options);
  put_number(out, "VNI", network.state().vni());
  put_number(out, "MTU", network.state().mtu());
  out["Labels"] = pairs_json(spec.annotations().labels());
  put(out, "AllocationError", network.allocation_error());
  put(out, "Warnings", strings_json(network.warnings()));
  return out;
}

boost::json::object cluster_json(const v1::Cluster& cluster) {
  const auto& spec = cluster.spec();
  boost::json::object out;
  put_meta(out, cluster.id(), cluster.meta());
  out["Spec"] = {
      {"Name", spec.annotations().name()},
      {"Labels", pairs_json(spec.annotations().labels())},
      {"Orchestration", {{"TaskHistoryRetentionLimit", spec.task_history_limit()}}},
      {"Dispatcher",
       {{"HeartbeatPeriod", spec.heartbeat_period_ns()},
        {"DrainAckTimeout", spec.drain_ack_timeout_ns()}}},
      {"CAConfig", {{"NodeCertExpiry", spec.node_cert_expiry_ns()}}},
      {"Raft",
       {{"SnapshotInterval", spec.raft().snapshot_interval()},
        {"KeepOldSnapshots", 0},
        {"LogEntriesForSlowFollowers", spec.raft().entries_for_slow_followers()},
        {"HeartbeatPeriod", spec.raft().heartbeat_period_ns()},
        {"ElectionTimeout", spec.raft().election_timeout_ns()}}},
      {"EncryptionConfig",
       {{"AutoLockManagers", spec.autolock()},
        {"NetworkKeyRotation", spec.encryption().key_rotation_ns()},
        {"UDPEncapsulation", spec.encryption().udp_encapsulation()},
        {"UDPPort", spec.encryption().udp_port()}}},
  };
  out["RootRotationInProgress"] = cluster.root_ca().has_rotation();
  boost::json::object tls;
  put(tls, "TrustRoot", std::string(cluster.root_ca().certificate_pem()));
  out["TLSInfo"] = std::move(tls);
  out["DefaultAddrPool"] = strings_json(cluster.default_address_pools());
  out["SubnetSize"] = cluster.subnet_mask_bits();
  out["DataPathPort"] = cluster.data_path_port();
  return out;
}

boost::json::object volume_json(const v1::LocalVolume& volume) {
  boost::json::object out;
  out["CreatedAt"] = time_json(volume.created_at_ns());
  out["Driver"] = volume.driver();
  out["Labels"] = pairs_json(volume.labels());
  out["Mountpoint"] = volume.mountpoint();
  out["Name"] = volume.name();
  out["Options"] = pairs_json(volume.driver_options());
  out["Scope"] = "local";
  return out;
}

boost::json::object image_json(const v1::Image& image) {
  boost::json::object out;
  out["Id"] = image.id();
  out["Digest"] = image.digest();
  out["RepoTags"] = strings_json(image.references());
  out["Created"] = time_json(image.created_at_ns());
  out["Size"] = image.size_bytes();
  out["Os"] = image.os();
  out["Architecture"] = image.architecture();
  return out;
}

boost::json::object info_json(const v1::GetInfoResponse& info, const v1::Cluster* cluster) {
  const auto& about = info.description();
  boost::json::object swarm;
  swarm["NodeID"] = info.node_id();
  swarm["NodeAddr"] = info.node_addr();
  swarm["LocalNodeState"] = info.local_state();
  swarm["ControlAvailable"] = info.control_available();
  swarm["Error"] = info.error();
  swarm["Managers"] = info.managers();
  swarm["Nodes"] = info.nodes();
  boost::json::array managers;
  for (const auto& address : info.manager_addrs())
    managers.push_back(boost::json::object{{"Addr", address}});
  put(swarm, "RemoteManagers", std::move(managers));
  swarm["LeaderNodeID"] = info.leader_node_id();  // empty: nobody leads
  swarm["ManagersReachable"] = info.managers_reachable();
  if (cluster != nullptr) {
    swarm["Cluster"] = cluster_json(*cluster);
  } else if (!info.cluster_id().empty()) {
    swarm["Cluster"] = {{"ID", info.cluster_id()}};
  }
  boost::json::object out;
  out["Name"] = about.hostname();
  out["ServerVersion"] = info.version();
  out["ContainersRunning"] = info.containers_running();
  out["Images"] = info.images();
  out["DefaultRuntime"] = info.runtime();
  out["CgroupVersion"] = info.cgroup_version();
  out["Balancer"] = info.balancer();
  out["KernelVersion"] = info.kernel();
  out["OperatingSystem"] = info.os();
  out["OSType"] = about.platform().os();
  out["Architecture"] = about.platform().architecture();
  out["NCPU"] = about.resources().nano_cpus() / 1'000'000'000;
  out["MemTotal"] = about.resources().memory_bytes();
  out["MusterRootDir"] = info.data_dir();
  out["Labels"] = pairs_json(about.engine().labels());
  out["Warnings"] = strings_json(about.limitations());
  out["Swarm"] = std::move(swarm);
  return out;
}

}  // namespace muster::deploy::cli
