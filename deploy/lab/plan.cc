#include "deploy/lab/plan.h"

#include <algorithm>
#include <cctype>

namespace muster::deploy::lab {
namespace {

constexpr int kManagersMax = 15;
constexpr int kWorkersMax = 100;
constexpr size_t kNameMax = 20;
constexpr int kFirstSubnet = 213;
constexpr int kLastSubnet = 254;
constexpr uint32_t kHostByte = 1;
constexpr uint32_t kHubByte = 2;
constexpr uint32_t kFirstManagerByte = 11;
constexpr uint32_t kFirstWorkerByte = 101;

// What a node uses with a handful of containers, seen from above.
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kManagerBytes = 128 * kMiB;
constexpr uint64_t kWorkerBytes = 80 * kMiB;
constexpr uint64_t kHubBytes = 48 * kMiB;

overlay::Ip at(const overlay::Prefix& subnet, uint32_t byte) {
  return overlay::Ip::v4(static_cast<uint32_t>(subnet.base.value) | byte);
}

}  // namespace

std::string_view to_string(Role role) {
  switch (role) {
    case Role::kRegistry: return "registry";
    case Role::kManager: return "manager";
    case Role::kWorker: return "worker";
  }
  return "unknown";
}

Result<Role> parse_role(std::string_view text) {
  for (const Role role : {Role::kRegistry, Role::kManager, Role::kWorker}) {
    if (to_string(role) == text) return role;
  }
  return fail(invalid_argument("\"{}\" is not a role", text));
}

overlay::Ip LabPlan::host_address() const {
  return at(subnet, kHostByte);
}

std::string LabPlan::registry() const {
  return fmt::format("{}:{}", at(subnet, kHubByte).str(), kRegistryPort);
}

const NodePlan* LabPlan::find(std::string_view node) const {
  for (const NodePlan& plan : nodes) {
    if (plan.name == node) return &plan;
  }
  return nullptr;
}

Status check_lab_name(std::string_view name) {
  const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  const bool good =
      !name.empty() && name.size() <= kNameMax && fits(name.front()) && fits(name.back()) &&
      std::all_of(name.begin(), name.end(), [&](char c) { return fits(c) || c == '-'; });
  if (good) return ok_status();
  return invalid_argument(
      "\"{}\" cannot be the name of a lab: it takes a-z, 0-9 and \"-\" inside, {} characters at "
      "most",
      name, kNameMax);
}

Status check_wish(const LabWish& wish) {
  MUSTER_TRY(check_lab_name(wish.name));
  if (wish.managers < 1 || wish.managers > kManagersMax) {
    return invalid_argument("a lab has 1 to {} managers, not {}", kManagersMax, wish.managers);
  }
  if (wish.workers < 0 || wish.workers > kWorkersMax) {
    return invalid_argument("a lab has 0 to {} workers, not {}", kWorkersMax, wish.workers);
  }
  return ok_status();
}

Status check_memory(const LabWish& wish, uint64_t available_bytes) {
  const uint64_t needed = kHubBytes + static_cast<uint64_t>(wish.managers) * kManagerBytes +
                          static_cast<uint64_t>(wish.workers) * kWorkerBytes;
  if (needed <= available_bytes) return ok_status();
  return resource_exhausted(
      "{} managers and {} workers need about {} MiB of memory, and {} MiB are available: ask for "
      "fewer nodes",
      wish.managers, wish.workers, needed / kMiB, available_bytes / kMiB);
}

Result<overlay::Prefix> choose_subnet(const std::vector<overlay::Prefix>& taken) {
  for (int second = kFirstSubnet; second <= kLastSubnet; ++second) {
    const overlay::Prefix subnet{
        overlay::Ip::v4((10U << 24) | (static_cast<uint32_t>(second) << 16)), 24};
    const bool free = std::none_of(taken.begin(), taken.end(), [&](const overlay::Prefix& other) {
      return other.overlaps(subnet);
    });
    if (free) return subnet;
  }
  return fail(resource_exhausted(
      "no subnet is left for another lab: this host's addresses, its routes and other labs meet "
      "all of 10.{}.0.0/24 to 10.{}.0.0/24",
      kFirstSubnet, kLastSubnet));
}

LabPlan make_plan(const LabWish& wish, const overlay::Prefix& subnet) {
  LabPlan plan{wish.name, subnet, {}};
  plan.nodes.push_back({std::string(kHub), Role::kRegistry, at(subnet, kHubByte)});
  for (int i = 0; i < wish.managers; ++i) {
    plan.nodes.push_back({fmt::format("manager{}", i + 1), Role::kManager,
                          at(subnet, kFirstManagerByte + static_cast<uint32_t>(i))});
  }
  for (int i = 0; i < wish.workers; ++i) {
    plan.nodes.push_back({fmt::format("worker{}", i + 1), Role::kWorker,
                          at(subnet, kFirstWorkerByte + static_cast<uint32_t>(i))});
  }
  return plan;
}

std::string hosts_file(const LabPlan& plan, std::string_view node) {
  std::string text =
      "127.0.0.1 localhost\n"
      "::1 localhost ip6-localhost ip6-loopback\n";
  for (const NodePlan& other : plan.nodes) {
    text += fmt::format("{} {} {}.{}{}\n", other.address.str(), other.name, other.name, plan.name,
                        other.name == node ? "  # this node" : "");
  }
  return text + fmt::format("{} host\n", plan.host_address().str());
}

std::string resolv_conf(std::string_view of_host, bool nat) {
  std::string text = "# made by muster lab\n";
  bool reachable = false;
  while (nat && !of_host.empty()) {
    const std::string line(of_host.substr(0, of_host.find('\n')));
    of_host.remove_prefix(std::min(of_host.size(), line.size() + 1));
    constexpr std::string_view kWord = "nameserver";
    if (!line.starts_with(kWord)) continue;
    size_t begin = kWord.size();
    while (begin < line.size() && std::isspace(static_cast<unsigned char>(line[begin])) != 0) {
      ++begin;
    }
    const std::string server = line.substr(begin, line.find_first_of(" \t#", begin) - begin);
    const auto ip = overlay::Ip::parse(server);
    if (!ip || ip->v6 || (static_cast<uint32_t>(ip->value) >> 24) == 127) continue;
    text += fmt::format("nameserver {}\n", server);
    reachable = true;
  }
  if (!reachable) text += "# no resolver of the host can be reached from here\n";
  return text;
}

}  // namespace muster::deploy::lab
