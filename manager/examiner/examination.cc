#include "manager/examiner/examination.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <utility>

namespace muster::manager::examiner {
namespace {

constexpr uint32_t kDataPathPort = 4789;  // IANA's for VXLAN

const std::string& host(const v1::Node& node) {
  return node.description().hostname().empty() ? node.id() : node.description().hostname();
}

bool is_v6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

// At a whole character: half of one could not be sent.
void cut(std::string& text, size_t size) {
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  text.resize(size);
}

bool encrypted(const v1::Network& network) {
  const auto& options = network.spec().driver_options();
  return std::any_of(options.begin(), options.end(), [](const v1::KeyValue& option) {
    return option.key() == "encrypted" && option.value() != "false" && option.value() != "0";
  });
}

}  // namespace

Result<Examinee> read_examinee(const store::Snapshot& view,
                               const v1::ExamineNetworksRequest& request) {
  Examinee out;
  out.all = request.networks().empty();
  const auto take = [&](const v1::Network& network) {
    const auto same = [&](const v1::Network& n) { return n.id() == network.id(); };
    if (std::none_of(out.networks.begin(), out.networks.end(), same)) {
      out.networks.push_back(network);
    }
  };
  for (const std::string& reference : request.networks()) {
    MUSTER_ASSIGN(const auto network, view.resolve<v1::Network>(reference));
    if (network->spec().driver() != "overlay") {
      return fail(
          invalid_argument("network {} has the driver {}: it does not cross between nodes, "
                           "there is nothing to examine",
                           network->spec().annotations().name(), network->spec().driver()));
    }
    take(*network);
  }
  if (out.all) {
    view.each<v1::Network>([&](const store::Ptr<v1::Network>& network) {
      if (network->spec().driver() == "overlay") take(*network);
      return true;
    });
  }
  std::sort(out.networks.begin(), out.networks.end(), [](const auto& a, const auto& b) {
    return a.spec().annotations().name() < b.spec().annotations().name();
  });
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    out.nodes.push_back(*node);
    return true;
  });
  std::sort(out.nodes.begin(), out.nodes.end(), [](const v1::Node& a, const v1::Node& b) {
    return std::pair(host(a), a.id()) < std::pair(host(b), b.id());
  });
  const auto cluster = view.cluster();
  const uint32_t port = cluster == nullptr ? 0 : cluster->data_path_port();
  out.data_path_port = port == 0 ? kDataPathPort : port;
  return out;
}

Result<Duration> Examination::timeout_of(const v1::ExamineNetworksRequest& request) {
  if (request.timeout_ns() == 0) return kTimeout;
  const Duration timeout(request.timeout_ns());
  if (timeout < kTimeoutMin || timeout > kTimeoutMax) {
    return fail(invalid_argument("an examination takes from {} to {}, not {}",
                                 format_duration(kTimeoutMin), format_duration(kTimeoutMax),
                                 format_duration(timeout)));
  }
  return timeout;
}

Examination::Examination(std::string id, Examinee examinee, const std::set<std::string>& sessions,
                         Duration timeout, TimePoint now, WallTime wall_now)
    : id_(std::move(id)),
      examinee_(std::move(examinee)),
      timeout_(timeout),
      began_(now),
      wall_began_(wall_now),
      ends_at_(now + timeout) {
  std::map<std::string, int> hosts;
  for (const v1::Node& node : examinee_.nodes) ++hosts[host(node)];
  for (size_t i = 0; i < examinee_.nodes.size(); ++i) {
    const v1::Node& node = examinee_.nodes[i];
    // Two may have one name.
    names_[node.id()] = hosts[host(node)] == 1
                            ? host(node)
                            : fmt::format("{} ({})", host(node), node.id().substr(0, 12));
    if (sessions.contains(node.id())) {
      asked_.push_back(i);
      waiting_.insert(node.id());
    } else if (node.status().state() != v1::NodeStatus::DOWN) {
      unasked_.insert(node.id());
    }
  }
  pairs_.emplace(names_, examinee_.data_path_port);
  look_at_store();
}

std::vector<const v1::Node*> Examination::asked_nodes() const {
  std::vector<const v1::Node*> out;
  for (const size_t i : asked_) out.push_back(&examinee_.nodes[i]);
  return out;
}

std::string Examination::name(const std::string& node_id) const {
  const auto at = names_.find(node_id);
  return at == names_.end() ? node_id : at->second;
}

void Examination::complain(const std::string& node_id, const char* check,
                           v1::NetworkFinding::Verdict verdict, std::string text,
                           const std::string& network_id) {
  v1::NetworkFinding out;
  out.set_node_id(node_id);
  out.set_check(check);
  out.set_network_id(network_id);
  out.set_verdict(verdict);
  out.set_text(std::move(text));
  store_findings_.push_back(std::move(out));
}

// What needs no node to be asked.
void Examination::look_at_store() {
  std::map<std::string, std::vector<std::string>> by_address;
  for (const v1::Node& node : examinee_.nodes) {
    if (node.status().state() == v1::NodeStatus::DOWN) {
      const std::string& why = node.status().message();
      complain(node.id(), "node", v1::NetworkFinding::WARNING,
               fmt::format("{} is down and was not examined{}{}", name(node.id()),
                           why.empty() ? "" : ": ", why));
      continue;
    }
    const std::string& address = node.description().data_path().address();
    if (!address.empty()) by_address[address].push_back(node.id());
  }
  for (const v1::Node* node : asked_nodes()) {
    if (!node->description().data_path().address().empty()) continue;
    complain(node->id(), "vxlan", v1::NetworkFinding::BAD,
             fmt::format("{} has told no data-path address: nothing is sent to its tasks by others "
                         "(look into its log, or give it one by --data-path-addr)",
                         name(node->id())));
    pairs_->exclude(node->id());
  }
  for (const auto& [address, ids] : by_address) {
    if (ids.size() < 2) continue;
    std::string hosts;
    for (const std::string& id : ids) hosts += (hosts.empty() ? "" : ", ") + name(id);
    complain(
        ids.front(), "vxlan", v1::NetworkFinding::BAD,
        fmt::format("{} have one data-path address, {}: only one of them can have it, and what "
                    "is for the others goes astray (let those leave and join again with another "
                    "--data-path-addr)",
                    hosts, address));
  }
  look_at_families(by_address);
  std::set<std::string> v6;
  for (const v1::Node* node : asked_nodes()) {
    if (is_v6(node->description().data_path().address())) v6.insert(node->id());
  }
  pairs_->set_v6(std::move(v6));
  for (const v1::Network& network : examinee_.networks) {
    if (!encrypted(network)) continue;
    const std::string& called = network.spec().annotations().name();
    bool any = false;
    for (const v1::Node* node : asked_nodes()) {
      const std::string& why = node->description().no_encryption();
      if (why.empty()) continue;
      any = true;
      complain(
          node->id(), "encryption", v1::NetworkFinding::WARNING,
          fmt::format("{} cannot take part in encrypted networks, so it is given no task of {}: "
                      "{}",
                      name(node->id()), called, why),
          network.id());
    }
    if (any) continue;
    complain("", "encryption", v1::NetworkFinding::GOOD,
             fmt::format("every node can take part in {}, which is encrypted", called),
             network.id());
  }
}

// Nothing is sent from an address of one family to one of the other. Those that are fewer are told;
// of two halves, those with IPv6.
void Examination::look_at_families(
    const std::map<std::string, std::vector<std::string>>& by_address) {
  std::vector<std::string> nodes[2];  // of IPv4, of IPv6
  for (const auto& [address, ids] : by_address) {
    auto& family = nodes[is_v6(address) ? 1 : 0];
    family.insert(family.end(), ids.begin(), ids.end());
  }
  if (nodes[0].empty() || nodes[1].empty()) return;
  const bool v6 = nodes[1].size() <= nodes[0].size();
  for (const std::string& id : nodes[v6 ? 1 : 0]) {
    complain(id, "vxlan", v1::NetworkFinding::BAD,
             fmt::format(
                 "{} has a data-path address of {}, {} of {}: they do not reach one another "
                 "by overlay networks (--data-path-addr: all nodes need one of the same "
                 "family)",
                 name(id), v6 ? "IPv6" : "IPv4",
                 nodes[v6 ? 0 : 1].size() == 1 ? name(nodes[v6 ? 0 : 1].front())
                                               : fmt::format("{} nodes", nodes[v6 ? 0 : 1].size()),
                 v6 ? "IPv4" : "IPv6"));
  }
}

std::vector<std::pair<std::string, v1::NetworkExamination>> Examination::asks() const {
  v1::NetworkExamination common;
  common.set_id(id_);
  if (!examinee_.all) {
    for (const v1::Network& network : examinee_.networks) common.add_network_ids(network.id());
  }
  common.set_timeout_ns(timeout_.count());
  common.set_data_path_port(examinee_.data_path_port);
  // Those that are next to each other when all sit in a ring: each is tested by whom it tests.
  std::vector<const v1::Node*> ring;
  for (const v1::Node* node : asked_nodes()) {
    if (!node->description().data_path().address().empty()) ring.push_back(node);
  }
  const size_t reach = std::min(ring.empty() ? 0 : ring.size() - 1, PairFindings::kPeersMax);
  std::vector<std::pair<std::string, v1::NetworkExamination>> out;
  for (const v1::Node* node : asked_nodes()) {
    v1::NetworkExamination ask = common;
    const auto at = std::find(ring.begin(), ring.end(), node);
    if (at != ring.end()) {
      const size_t self = static_cast<size_t>(at - ring.begin());
      const size_t first = self + ring.size() - reach / 2;
      for (size_t i = 0; i <= reach; ++i) {
        const v1::Node* peer = ring[(first + i) % ring.size()];
        if (peer == node) continue;
        v1::ExaminedNode& named = *ask.add_nodes();
        named.set_node_id(peer->id());
        named.set_hostname(name(peer->id()));
        named.set_data_path_addr(peer->description().data_path().address());
      }
    }
    out.emplace_back(node->id(), std::move(ask));
  }
  return out;
}

v1::ExamineNetworksResponse Examination::first() const {
  v1::ExamineNetworksResponse out;
  for (const v1::Node* node : asked_nodes()) *out.add_nodes() = *node;
  for (const v1::Network& network : examinee_.networks) *out.add_networks() = network;
  for (const v1::NetworkFinding& found : store_findings_) *out.add_findings() = found;
  return out;
}

// Half of the time that the question and the answer took may have been the question's alone.
std::optional<v1::NetworkFinding> Examination::judge_clock(const std::string& node_id,
                                                           const std::string& text,
                                                           TimePoint now) const {
  int64_t theirs = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), theirs);
  if (parsed.ec != std::errc()) return std::nullopt;
  const Duration took = now - began_;
  // Whatever a node says, that is enough to say of it.
  constexpr int64_t kFar = int64_t{1} << 62;
  const Duration ahead = Duration(std::clamp(theirs, -kFar, kFar) - wall_began_.unix_ns) - took / 2;
  const Duration certain = std::max(Duration(0), std::chrono::abs(ahead) - took / 2);
  if (certain <= kClockMax) return std::nullopt;
  v1::NetworkFinding out;
  out.set_node_id(node_id);
  out.set_check("clock");
  out.set_verdict(v1::NetworkFinding::WARNING);
  out.set_text(fmt::format(
      "the clock of {} is {} by {:.1f} s, compared with the leader's: let all nodes have their "
      "time from NTP",
      name(node_id), ahead > Duration(0) ? "fast" : "slow",
      std::chrono::duration<double>(std::chrono::abs(ahead)).count()));
  return out;
}

std::vector<v1::NetworkFinding> Examination::found(const std::string& node_id,
                                                   const v1::NetworkFindings& message,
                                                   TimePoint now) {
  std::vector<v1::NetworkFinding> out;
  if (message.examination_id() != id_ || !waiting_.contains(node_id)) return out;
  for (v1::NetworkFinding found : message.findings()) {
    if (++counts_[node_id] > kFindingsMax) break;
    // A node speaks for itself alone.
    found.set_node_id(node_id);
    if (found.check().size() > kNameMax || found.network_id().size() > kNameMax) continue;
    if (found.text().size() > kTextMax) cut(*found.mutable_text(), kTextMax);
    if (found.check() == "clock") {
      began_nodes_.insert(node_id);
      if (auto judged = judge_clock(node_id, found.text(), now)) out.push_back(*std::move(judged));
      continue;
    }
    if (!found.peer_id().empty() && !names_.contains(found.peer_id())) continue;
    if (pairs_->add(node_id, found)) continue;
    if (found.check() == "vxlan" && found.verdict() == v1::NetworkFinding::BAD) {
      pairs_->exclude(node_id);
    }
    out.push_back(std::move(found));
  }
  began_nodes_.insert(node_id);
  if (message.last()) {
    ended_nodes_.insert(node_id);
    waiting_.erase(node_id);
  }
  return out;
}

void Examination::gone(const std::string& node_id) {
  if (waiting_.erase(node_id) != 0) unasked_.insert(node_id);
}

v1::ExamineNetworksResponse Examination::conclude() const {
  v1::ExamineNetworksResponse out;
  for (v1::NetworkFinding& found : pairs_->conclude(began_nodes_, ended_nodes_)) {
    *out.add_findings() = std::move(found);
  }
  std::set<std::string> silent = waiting_;
  silent.insert(unasked_.begin(), unasked_.end());
  for (const std::string& id : silent) out.add_silent_node_ids(id);
  out.set_last(true);
  return out;
}

}  // namespace muster::manager::examiner
