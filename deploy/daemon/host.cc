#include "deploy/daemon/host.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <sstream>

#include "base/file.h"
#include "base/log_driver.h"
#include "base/unique_fd.h"
#include "overlay/balancer/vip_balancer.h"
#include "overlay/dataplane/host/local_ranges.h"
#include "overlay/dns/netd/node_resolvers.h"

namespace muster::daemon {
namespace {

Result<std::pair<std::string, std::string>> split_pair(const std::string& text,
                                                       std::string_view what) {
  const size_t eq = text.find('=');
  if (eq == std::string::npos || eq == 0) {
    return fail(invalid_argument("bad {} \"{}\": write key=value", what, text));
  }
  return std::pair(text.substr(0, eq), text.substr(eq + 1));
}

std::string oci_architecture(const std::string& machine) {
  static const std::map<std::string, std::string> kNames = {
      {"x86_64", "amd64"},    {"aarch64", "arm64"}, {"armv7l", "arm"},
      {"ppc64le", "ppc64le"}, {"s390x", "s390x"},   {"riscv64", "riscv64"}};
  const auto it = kNames.find(machine);
  return it == kNames.end() ? machine : it->second;
}

// CPUs this process may use: an affinity mask counts.
int64_t usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return sysconf(_SC_NPROCESSORS_ONLN);
  return CPU_COUNT(&set);
}

bool is_address(const std::string& text) {
  unsigned char buffer[16];
  return inet_pton(AF_INET, text.c_str(), buffer) == 1 ||
         inet_pton(AF_INET6, text.c_str(), buffer) == 1;
}

std::string join_host_port(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

// The first global address of an interface, IPv4 before IPv6; empty when there is none.
std::string address_of_interface(const std::string& name) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  std::string v6;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || name != i->ifa_name) continue;
    char text[INET6_ADDRSTRLEN] = {};
    if (i->ifa_addr->sa_family == AF_INET) {
      inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(i->ifa_addr)->sin_addr, text,
                sizeof text);
      return text;
    }
    if (i->ifa_addr->sa_family == AF_INET6 && v6.empty()) {
      const auto& address = reinterpret_cast<const sockaddr_in6*>(i->ifa_addr)->sin6_addr;
      if (IN6_IS_ADDR_LINKLOCAL(&address)) continue;
      inet_ntop(AF_INET6, &address, text, sizeof text);
      v6 = text;
    }
  }
  return v6;
}

// The host, without brackets, and the port of "host", "host:port", "[v6]:port" or ":port".
Result<std::pair<std::string, uint16_t>> split_host_port(const std::string& text,
                                                         uint16_t default_port) {
  std::string host = text;
  uint16_t port = default_port;
  if (const size_t colon = host.rfind(':');
      !is_address(host) && colon != std::string::npos && host.back() != ']') {
    unsigned parsed = 0;
    const char* begin = host.data() + colon + 1;
    const auto [end, error] = std::from_chars(begin, host.data() + host.size(), parsed);
    if (error != std::errc() || end != host.data() + host.size() || parsed == 0 || parsed > 65535) {
      return fail(invalid_argument("invalid port in address \"{}\"", text));
    }
    port = static_cast<uint16_t>(parsed);
    host.resize(colon);
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return std::pair(host, port);
}

// An address as it is, or that of the interface with this name.
Result<std::string> address_of(const std::string& host) {
  if (is_address(host)) return host;
  std::string found = address_of_interface(host);
  if (found.empty()) {
    return fail(
        invalid_argument("\"{}\" is neither an IP address nor an interface with an address", host));
  }
  return found;
}

// What the kernel would use to reach the world; connecting a datagram socket sends nothing.
std::string default_source_address() {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in target{};
  target.sin_family = AF_INET;
  target.sin_port = htons(9);
  inet_pton(AF_INET, "192.0.2.1", &target.sin_addr);
  if (!fd || connect(fd.get(), reinterpret_cast<sockaddr*>(&target), sizeof target) != 0) return {};
  sockaddr_in source{};
  socklen_t size = sizeof source;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&source), &size);
  char text[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, &source.sin_addr, text, sizeof text);
  return text;
}

// Any interface that is up and not loopback.
std::string any_address() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if ((i->ifa_flags & IFF_LOOPBACK) != 0 || (i->ifa_flags & IFF_UP) == 0) continue;
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET) continue;
    char text[INET_ADDRSTRLEN] = {};
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(i->ifa_addr)->sin_addr, text,
              sizeof text);
    return text;
  }
  return {};
}

}  // namespace

Result<std::vector<v1::GenericResource>> parse_generic_resources(
    const std::vector<std::string>& texts) {
  std::map<std::string, v1::GenericResource> by_kind;
  for (const std::string& text : texts) {
    MUSTER_ASSIGN(const auto pair, split_pair(text, "generic resource"));
    const auto& [kind, value] = pair;
    v1::GenericResource& resource = by_kind[kind];
    const bool fresh = resource.kind().empty();
    resource.set_kind(kind);
    int64_t count = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), count);
    const bool discrete = error == std::errc() && end == value.data() + value.size();
    if (value.empty() || (discrete && count < 0)) {
      return fail(invalid_argument("bad generic resource \"{}\"", text));
    }
    if (!fresh && (discrete || resource.names().empty())) {
      return fail(invalid_argument(
          "generic resource {} is given as an amount and as names, or as an amount twice", kind));
    }
    if (discrete) {
      resource.set_count(count);
    } else {
      const auto& names = resource.names();
      if (std::find(names.begin(), names.end(), value) != names.end()) {
        return fail(invalid_argument("generic resource {} has the name {} twice", kind, value));
      }
      resource.add_names(value);
      resource.set_count(resource.names_size());
    }
  }
  std::vector<v1::GenericResource> out;
  for (auto& [kind, resource] : by_kind) out.push_back(std::move(resource));
  return out;
}

std::string kernel_release() {
  utsname name{};
  uname(&name);
  return name.release;
}

std::string os_name() {
  const auto text = read_file("/etc/os-release", 1 << 16);
  if (!text) return "Linux";
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("PRETTY_NAME=")) continue;
    line.erase(0, 12);
    if (line.size() >= 2 && line.front() == '"') line = line.substr(1, line.size() - 2);
    return line;
  }
  return "Linux";
}

Result<v1::NodeDescription> describe_host(const Options& options) {
  utsname name{};
  uname(&name);
  v1::NodeDescription description;
  description.set_hostname(options.hostname.empty() ? name.nodename : options.hostname);
  description.mutable_platform()->set_os("linux");
  description.mutable_platform()->set_architecture(oci_architecture(name.machine));
  v1::Resources& resources = *description.mutable_resources();
  resources.set_nano_cpus(usable_cpus() * 1'000'000'000);
  struct sysinfo memory {};
  sysinfo(&memory);
  resources.set_memory_bytes(static_cast<int64_t>(memory.totalram) * memory.mem_unit);
  MUSTER_ASSIGN(const auto generic, parse_generic_resources(options.generic_resources));
  for (const auto& resource : generic) *resources.add_generic() = resource;

  v1::EngineDescription& engine = *description.mutable_engine();
  engine.set_version(MUSTER_VERSION);
  std::map<std::string, std::string> labels;
  for (const std::string& text : options.labels) {
    MUSTER_ASSIGN(auto pair, split_pair(text, "label"));
    labels.insert_or_assign(std::move(pair.first), std::move(pair.second));
  }
  for (const auto& [key, value] : labels) {
    v1::KeyValue& label = *engine.add_labels();
    label.set_key(key);
    label.set_value(value);
  }
  const std::pair<const char*, const char*> plugins[] = {
      {"Log", "journald"},    {"Log", "json-file"},  {"Log", "local"},    {"Log", "none"},
      {"Log", "syslog"},      {"Network", "bridge"}, {"Network", "host"}, {"Network", "null"},
      {"Network", "overlay"}, {"Volume", "local"}};
  for (const auto& [type, plugin] : plugins) {
    v1::Plugin& out = *engine.add_plugins();
    out.set_type(type);
    out.set_name(plugin);
  }
  return description;
}

std::vector<overlay::Ip> host_resolvers() {
  constexpr size_t kFileMax = 1 << 20;
  const auto resolv_conf = read_file("/etc/resolv.conf", kFileMax);
  return overlay::dns::parse_nameservers(resolv_conf ? *resolv_conf : "");
}

Result<std::vector<std::string>> host_ranges(const std::string& instance_id, const Log& log) {
  MUSTER_ASSIGN(auto ranges, overlay::local_ranges(instance_id, host_resolvers()));
  const size_t left_out = ranges.trim(kRangesMax);
  if (left_out != 0 && log != nullptr) {
    log->warn(
        "this host reaches more than {} ranges of addresses by itself: managers are told of the "
        "widest, and may choose a subnet that overlaps one of the other {}",
        kRangesMax, left_out);
  }
  std::vector<std::string> out;
  for (const overlay::Prefix& range : ranges.all()) out.push_back(range.str());
  return out;
}

Result<v1::LogDriver> default_log_driver(const Options& options) {
  v1::LogDriver driver;
  LogOptions pairs;
  driver.set_name(options.log_driver);
  for (const std::string& text : options.log_options) {
    MUSTER_ASSIGN(auto pair, split_pair(text, "log-opt"));
    v1::KeyValue& option = *driver.add_options();
    option.set_key(pair.first);
    option.set_value(pair.second);
    pairs.push_back(std::move(pair));
  }
  MUSTER_TRY(check_log_driver(driver.name(), pairs).with_context("--log-driver"));
  return driver;
}

Result<std::string> find_advertise_address(const std::string& wanted, uint16_t default_port) {
  MUSTER_ASSIGN(auto host_port, split_host_port(wanted, default_port));
  auto& [host, port] = host_port;
  if (host.empty() || host == "0.0.0.0" || host == "::") {
    host = default_source_address();
    if (host.empty()) host = any_address();
    if (host.empty()) {
      return fail(failed_precondition(
          "could not choose an IP address to advertise since this system has none besides "
          "loopback; use --advertise-addr"));
    }
  } else {
    MUSTER_ASSIGN(host, address_of(host));
  }
  return join_host_port(host, port);
}

Result<std::string> find_listen_address(const std::string& wanted, uint16_t default_port) {
  MUSTER_ASSIGN(auto host_port, split_host_port(wanted, default_port));
  auto& [host, port] = host_port;
  if (host.empty()) {
    host = "0.0.0.0";
  } else {
    MUSTER_ASSIGN(host, address_of(host));
  }
  return join_host_port(host, port);
}

}  // namespace muster::daemon
