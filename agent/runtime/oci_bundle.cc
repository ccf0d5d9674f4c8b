#include "agent/runtime/oci_bundle.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <optional>

#include "agent/runtime/capabilities.h"
#include "agent/runtime/seccomp_profile.h"

namespace muster::agent {

namespace json = boost::json;

namespace {

struct Security {
  bool seccomp = true;
  bool no_new_privileges = false;
  bool mask_paths = true;
};

Result<Security> parse_security(const v1::ContainerSpec& spec) {
  Security out;
  for (const std::string& option : spec.security_options()) {
    if (option == "no-new-privileges" || option == "no-new-privileges=true" ||
        option == "no-new-privileges:true") {
      out.no_new_privileges = true;
    } else if (option == "seccomp=unconfined" || option == "seccomp:unconfined") {
      out.seccomp = false;
    } else if (option == "systempaths=unconfined") {
      out.mask_paths = false;
    } else if (option.rfind("label", 0) == 0 || option.rfind("apparmor", 0) == 0 ||
               option == "no-new-privileges=false" || option == "no-new-privileges:false" ||
               option == "seccomp=builtin") {
      continue;  // what this node does anyway
    } else {
      return fail(invalid_argument("unknown security option \"{}\"", option));
    }
  }
  return out;
}

Status check_allowed(const v1::ContainerSpec& spec, const HostFacts& host) {
  if (host.allow_privileged) return {};
  const char* what = nullptr;
  if (spec.privileged()) what = "privileged containers";
  if (spec.devices_size() > 0) what = "devices";
  if (spec.pid_mode() == "host") what = "containers in the host's pid namespace";
  if (spec.ipc_mode() == "host") what = "containers in the host's ipc namespace";
  if (what == nullptr) return {};
  return failed_precondition("this node does not allow {} (allow-privileged is off)", what);
}

struct RlimitName {
  const char* name;
  int resource;
};
constexpr RlimitName kRlimits[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK}};

Result<json::array> rlimits(const v1::ContainerSpec& spec, const HostFacts& host) {
  json::array out;
  for (const v1::Ulimit& ulimit : spec.ulimits()) {
    const auto known = std::find_if(std::begin(kRlimits), std::end(kRlimits),
                                    [&](const RlimitName& r) { return ulimit.name() == r.name; });
    if (known == std::end(kRlimits)) {
      return fail(invalid_argument("unknown ulimit \"{}\"", ulimit.name()));
    }
    rlim_t hard = ulimit.hard() < 0 ? RLIM_INFINITY : static_cast<rlim_t>(ulimit.hard());
    rlim_t soft = ulimit.soft() < 0 ? RLIM_INFINITY : static_cast<rlim_t>(ulimit.soft());
    if (soft > hard) {
      return fail(invalid_argument("ulimit {}: soft limit {} is above the hard limit {}",
                                   ulimit.name(), ulimit.soft(), ulimit.hard()));
    }
    // A node that may not raise hard limits gives what it has; muster info says so.
    if (!host.can_raise_limits) {
      hard = std::min(hard, host.hard_limits[static_cast<size_t>(known->resource)]);
      soft = std::min(soft, hard);
    }
    std::string name = ulimit.name();
    for (char& c : name) c = static_cast<char>(c - 'a' + 'A');
    out.emplace_back(
        json::object{{"type", fmt::format("RLIMIT_{}", name)}, {"soft", soft}, {"hard", hard}});
  }
  return out;
}

json::array namespaces(const ContainerRequest& request, const HostFacts& host) {
  json::array out;
  const auto add = [&](const char* type) { out.emplace_back(json::object{{"type", type}}); };
  add("mount");
  add("uts");
  if (request.spec.container().pid_mode() != "host") add("pid");
  if (request.spec.container().ipc_mode() != "host") add("ipc");
  if (host.cgroups == CgroupVersion::kV2 && !request.spec.container().privileged()) add("cgroup");
  if (!request.network_namespace.empty()) {
    out.emplace_back(json::object{{"type", "network"}, {"path", request.network_namespace}});
  }
  return out;
}

// Adds the device nodes and the cgroup rules that go with them.
Status add_devices(const v1::ContainerSpec& spec, json::object& linux, json::array& rules) {
  json::array nodes;
  for (const v1::Device& device : spec.devices()) {
    struct stat info {};
    if (::stat(device.host_path().c_str(), &info) != 0) {
      return not_found("device {} does not exist on this node", device.host_path());
    }
    const bool block = S_ISBLK(info.st_mode);
    if (!block && !S_ISCHR(info.st_mode)) {
      return invalid_argument("{} is not a device", device.host_path());
    }
    const char* type = block ? "b" : "c";
    const std::string& path =
        device.container_path().empty() ? device.host_path() : device.container_path();
    const std::string access = device.permissions().empty() ? "rwm" : device.permissions();
    const int64_t major_number = major(info.st_rdev);
    const int64_t minor_number = minor(info.st_rdev);
    nodes.emplace_back(json::object{{"path", path},
                                    {"type", type},
                                    {"major", major_number},
                                    {"minor", minor_number},
                                    {"fileMode", static_cast<int64_t>(info.st_mode & 07777)},
                                    {"uid", info.st_uid},
                                    {"gid", info.st_gid}});
    rules.emplace_back(json::object{{"allow", true},
                                    {"type", type},
                                    {"major", major_number},
                                    {"minor", minor_number},
                                    {"access", access}});
  }
  if (!nodes.empty()) linux["devices"] = std::move(nodes);
  return {};
}

json::object sysctls(const ContainerRequest& request) {
  json::object out;
  for (const v1::KeyValue& entry : request.spec.container().sysctls()) {
    // The network's own are set in its namespace by whoever made it, not by the runtime.
    if (entry.key().rfind("net.", 0) == 0) continue;
    out[entry.key()] = entry.value();
  }
  return out;
}

Result<json::object> process_object(const ContainerRequest& request, const HostFacts& host,
                                    const ResolvedUser& user,
                                    const std::vector<std::string>& capabilities,
                                    const Security& security, bool with_init) {
  const v1::ContainerSpec& spec = request.spec.container();
  MUSTER_ASSIGN(std::vector<std::string> args, container_args(spec, request.image));
  if (with_init) args.insert(args.begin(), {std::string(kInitTarget), "--"});
  const std::vector<std::string> env = container_env(request, user.home);
  std::string dir = spec.dir().empty() ? request.image.working_dir : spec.dir();
  if (dir.empty()) dir.push_back('/');
  if (dir[0] != '/') return fail(invalid_argument("working directory \"{}\" is not absolute", dir));

  json::object process{{"terminal", spec.tty()},
                       {"user", user_object(user)},
                       {"args", json::array(args.begin(), args.end())},
                       {"env", json::array(env.begin(), env.end())},
                       {"cwd", dir},
                       {"capabilities", capabilities_object(capabilities, user.uid == 0)},
                       {"noNewPrivileges", security.no_new_privileges}};
  MUSTER_ASSIGN(json::array limits, rlimits(spec, host));
  if (!limits.empty()) process["rlimits"] = std::move(limits);
  // Not the daemon's own score, which its unit may have lowered. The kernel refuses a lower score
  // than our own without CAP_SYS_RESOURCE.
  if (spec.oom_score_adj() != host.oom_score_adj &&
      (host.can_raise_limits || spec.oom_score_adj() >= host.oom_score_adj)) {
    process["oomScoreAdj"] = spec.oom_score_adj();
  }
  return process;
}

Result<json::object> linux_object(const ContainerRequest& request, const HostFacts& host,
                                  const std::vector<std::string>& capabilities,
                                  const Security& security) {
  const v1::ContainerSpec& spec = request.spec.container();
  json::object linux;
  linux["cgroupsPath"] = cgroup_path(request.instance_id, request.container_id);
  linux["namespaces"] = namespaces(request, host);
  json::object resources = resources_object(request.spec, host, spec.privileged());
  MUSTER_TRY(add_devices(spec, linux, resources["devices"].as_array()));
  linux["resources"] = std::move(resources);
  if (json::object values = sysctls(request); !values.empty()) linux["sysctl"] = std::move(values);
  if (spec.privileged()) return linux;
  if (security.mask_paths) {
    linux["maskedPaths"] = {
        "/proc/asound",     "/proc/acpi",        "/proc/interrupts",
        "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
        "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
    linux["readonlyPaths"] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                              "/proc/sysrq-trigger"};
  }
  if (security.seccomp) {
    linux["seccomp"] = default_seccomp_profile(host.architecture, capabilities);
  }
  return linux;
}

}  // namespace

std::string cgroup_path(std::string_view instance_id, std::string_view container_id) {
  return fmt::format("/muster/{}/{}", instance_id, container_id);
}

Result<json::object> make_bundle(const ContainerRequest& request, const HostFacts& host,
                                 const ImageFiles& files) {
  const v1::ContainerSpec& spec = request.spec.container();
  MUSTER_TRY(check_allowed(spec, host));
  MUSTER_ASSIGN(const Security security, parse_security(spec));
  MUSTER_ASSIGN(
      const std::vector<std::string> capabilities,
      effective_capabilities({spec.capability_add().begin(), spec.capability_add().end()},
                             {spec.capability_drop().begin(), spec.capability_drop().end()},
                             spec.privileged(), host.capabilities));
  const std::string& user_text = spec.user().empty() ? request.image.user : spec.user();
  MUSTER_ASSIGN(const ResolvedUser user,
                resolve_user(user_text, {spec.groups().begin(), spec.groups().end()}, files.passwd,
                             files.group));
  const bool with_init = spec.has_init() ? spec.init() : host.init_by_default;
  if (with_init && host.init_path.empty()) {
    return fail(failed_precondition(
        "the service asks for an init process, but this node has none; install the package tini"));
  }

  json::object config{{"ociVersion", "1.0.2"}};
  MUSTER_ASSIGN(config["process"],
                process_object(request, host, user, capabilities, security, with_init));
  config["root"] = json::object{{"path", request.rootfs}, {"readonly", spec.read_only()}};
  if (!request.hostname.empty()) config["hostname"] = request.hostname;
  MUSTER_ASSIGN(config["mounts"], mounts_array(request, host, with_init));
  MUSTER_ASSIGN(config["linux"], linux_object(request, host, capabilities, security));
  json::object annotations{{"muster.task", request.task_id.str()}, {"muster.name", request.name}};
  for (const v1::KeyValue& label : request.labels) annotations[label.key()] = label.value();
  config["annotations"] = std::move(annotations);
  return config;
}

}  // namespace muster::agent
