// The `mounts` array of a bundle.
#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <filesystem>
#include <map>

#include "agent/runtime/oci_bundle.h"

namespace muster::agent {
namespace {

namespace json = boost::json;

json::object mount(const std::string& target, const char* type, const std::string& source,
                   json::array options) {
  return {
      {"destination", target}, {"type", type}, {"source", source}, {"options", std::move(options)}};
}

json::object bind_mount(const std::string& source, const std::string& target, bool read_only) {
  json::array options{"rbind", "rprivate"};
  if (read_only) options.emplace_back("ro");
  return mount(target, "bind", source, std::move(options));
}

// Targets in the order of their depth, so that /a is mounted before /a/b.
using Mounts = std::map<std::pair<size_t, std::string>, json::object>;

void put(Mounts& mounts, json::object entry) {
  const std::string target(entry["destination"].as_string());
  const size_t depth =
      target == "/" ? 0 : static_cast<size_t>(std::count(target.begin(), target.end(), '/'));
  mounts.insert_or_assign({depth, target}, std::move(entry));
}

void put_defaults(Mounts& mounts, const ContainerRequest& request, const HostFacts& host,
                  bool privileged) {
  const v1::ContainerSpec& spec = request.spec.container();
  put(mounts, mount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  put(mounts,
      mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  put(mounts, mount("/dev/pts", "devpts", "devpts",
                    {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}));
  json::array sys{"nosuid", "noexec", "nodev"};
  json::array cgroup{"nosuid", "noexec", "nodev"};
  if (host.cgroups != CgroupVersion::kV2) cgroup.emplace_back("relatime");
  if (!privileged) {
    sys.emplace_back("ro");
    cgroup.emplace_back("ro");
  }
  put(mounts, mount("/sys", "sysfs", "sysfs", std::move(sys)));
  put(mounts, mount("/sys/fs/cgroup", "cgroup", "cgroup", std::move(cgroup)));
  put(mounts, mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  if (spec.ipc_mode() == "host") {
    put(mounts, bind_mount("/dev/shm", "/dev/shm", false));
  } else {
    const int64_t size = spec.shm_size_bytes() > 0 ? spec.shm_size_bytes() : 64 << 20;
    put(mounts, mount("/dev/shm", "tmpfs", "shm",
                      {"nosuid", "noexec", "nodev", "mode=1777",
                       json::string(fmt::format("size={}", size))}));
  }
}

// What makes a bind read-only, with the mounts below it where that is wanted and possible. Nothing
// lies below a file, and runtimes refuse to look there.
Result<const char*> read_only_option(const v1::Mount& spec, const std::string& source,
                                     const HostFacts& host) {
  std::error_code error;
  const auto type = std::filesystem::status(source, error).type();
  const bool file = type != std::filesystem::file_type::directory &&
                    type != std::filesystem::file_type::not_found;
  if (file) return "ro";
  const v1::Mount::BindOptions& bind = spec.bind();
  const bool recursive = !bind.non_recursive() && !bind.read_only_non_recursive();
  if (bind.read_only_force_recursive() && !host.recursive_read_only) {
    return fail(failed_precondition(
        "mount at {}: this node's kernel cannot make mounts below it read-only, which "
        "bind-recursive=readonly asks for",
        spec.target()));
  }
  return recursive && host.recursive_read_only ? "rro" : "ro";
}

Result<json::object> user_mount(const PreparedMount& prepared, const HostFacts& host) {
  const v1::Mount& spec = prepared.spec;
  const std::string& target = spec.target();
  if (target.empty() || target[0] != '/') {
    return fail(invalid_argument("mount target \"{}\" is not an absolute path", target));
  }
  if (target == "/") return fail(invalid_argument("mount target may not be \"/\""));
  if (spec.type() == v1::Mount::TMPFS) {
    json::array options{"noexec", "nosuid", "nodev"};
    const uint32_t mode = spec.tmpfs().mode() != 0 ? spec.tmpfs().mode() : 01777;
    options.emplace_back(fmt::format("mode={:o}", mode & 07777));
    if (spec.tmpfs().size_bytes() > 0) {
      options.emplace_back(fmt::format("size={}", spec.tmpfs().size_bytes()));
    }
    if (spec.read_only()) options.emplace_back("ro");
    return mount(target, "tmpfs", "tmpfs", std::move(options));
  }
  if (prepared.source.empty()) return fail(invalid_argument("mount at {} has no source", target));
  const std::string& asked = spec.bind().propagation();
  const std::string propagation = asked.empty() ? "rprivate" : asked;
  for (const char* known : {"rprivate", "private", "rshared", "shared", "rslave", "slave"}) {
    if (propagation != known) continue;
    json::array options;
    options.emplace_back(spec.bind().non_recursive() ? "bind" : "rbind");
    options.emplace_back(propagation);
    if (spec.read_only()) {
      MUSTER_ASSIGN(const char* const option, read_only_option(spec, prepared.source, host));
      options.emplace_back(option);
    }
    for (const std::string& option : prepared.options) options.emplace_back(option);
    return mount(target, "bind", prepared.source, std::move(options));
  }
  return fail(invalid_argument("mount at {}: unknown propagation \"{}\"", target, propagation));
}

std::string normal_target(std::string target) {
  while (target.size() > 1 && target.back() == '/') target.pop_back();
  return target;
}

}  // namespace

Result<json::array> mounts_array(const ContainerRequest& request, const HostFacts& host,
                                 bool with_init) {
  Mounts mounts;
  put_defaults(mounts, request, host, request.spec.container().privileged());
  if (!request.resolv_conf_file.empty()) {
    put(mounts, bind_mount(request.resolv_conf_file, "/etc/resolv.conf", false));
  }
  if (!request.hostname_file.empty()) {
    put(mounts, bind_mount(request.hostname_file, "/etc/hostname", false));
  }
  if (!request.hosts_file.empty()) put(mounts, bind_mount(request.hosts_file, "/etc/hosts", false));
  if (with_init) put(mounts, bind_mount(host.init_path, std::string(kInitTarget), true));
  // What the user asks for wins over the defaults.
  for (PreparedMount prepared : request.mounts) {
    prepared.spec.set_target(normal_target(prepared.spec.target()));
    MUSTER_ASSIGN(json::object entry, user_mount(prepared, host));
    put(mounts, std::move(entry));
  }
  json::array out;
  for (auto& [key, entry] : mounts) out.emplace_back(std::move(entry));
  return out;
}

}  // namespace muster::agent
