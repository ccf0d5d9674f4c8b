#include "agent/doctor/echo_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "agent/doctor/checks.h"
#include "base/fnv.h"

namespace muster::agent {
namespace {

constexpr size_t kNodesNamed = 5;

// What the kernel calls it (Documentation/networking/xfrm_proc.rst), and what it means here.
constexpr std::pair<const char*, const char*> kReasons[] = {
    {"XfrmInNoStates",
     "since it does not have their key (keys differ: what do the logs of the managers and of the "
     "other node say?)"},
    {"XfrmInStateProtoError",
     "as not encrypted with the key that they name, or changed on their way"},
    {"XfrmInStateSeqError",
     "taken for replays (somebody sends them again, or the other node lost count)"},
    {"XfrmOutPolBlock", "before they left: it has no key for the other node yet"},
    {"XfrmOutNoStates", "before they left: the state that they are sent with is gone"},
};

std::string said_of(const HostTests::Refusals& refused) {
  std::string out;
  for (const auto& [name, meaning] : kReasons) {
    const auto at = refused.find(name);
    if (at == refused.end() || at->second == 0) continue;
    out += fmt::format("{}this node refused {} packet{} meanwhile, {}", out.empty() ? "" : "; ",
                       at->second, at->second == 1 ? "" : "s", meaning);
  }
  return out;
}

std::string why_not_encrypted(const HostTests::Refusals& refused) {
  const std::string why = said_of(refused);
  if (!why.empty()) return why;
  return "this node refused nothing meanwhile: the other one did, or the way loses it, or a "
         "container's own firewall (`cat /proc/net/xfrm_stat` there; `nft list tables` names the "
         "table esp_muster_..., which counts what came in plain text and was dropped)";
}

constexpr const char* kWhyNot =
    "neither ping nor TCP. Unless the nodes do not reach one another at all (a finding of its "
    "own), something on one of them drops this network's, or a container's own firewall does (`nft "
    "list ruleset` on the nodes, in their namespaces of the network and of the container)";

// Whether the host has an address of its own in the ingress network.
bool has_place(const v1::NetworkFeed& feed, const NodeFacts& facts) {
  return std::any_of(feed.ingress_nodes().begin(), feed.ingress_nodes().end(),
                     [&](const v1::IngressNode& node) { return node.node_id() == facts.node_id; });
}

// Of every node that is examined (others may be down) one task that is ready, then a second. In
// networks with more of them each node begins elsewhere, so that together they ask all.
void choose(EchoTest& test, const v1::NetworkFeed& feed,
            const std::map<std::string, std::string>& hosts, const NodeFacts& facts, size_t most) {
  std::map<std::string, std::vector<std::string>> addresses;
  for (const v1::NetworkEndpoint& endpoint : feed.endpoints()) {
    if (!hosts.contains(endpoint.node_id()) || endpoint.state() != v1::ENDPOINT_READY ||
        endpoint.addresses().empty()) {
      continue;
    }
    auto& of_node = addresses[endpoint.node_id()];
    if (of_node.size() < kEchoesOfNodeMax) of_node.push_back(endpoint.addresses(0));
  }
  std::vector<std::string> nodes;
  for (const auto& [node, some] : addresses) nodes.push_back(node);
  if (nodes.size() > most) {
    std::rotate(nodes.begin(), nodes.begin() + fnv1a_32(facts.node_id) % nodes.size(), nodes.end());
    test.left_out = nodes.size() - most;
  }
  for (size_t nth = 0; nth < kEchoesOfNodeMax; ++nth) {
    for (const std::string& node : nodes) {
      const auto& of_node = addresses[node];
      if (nth >= of_node.size() || test.asked.size() >= most) continue;
      test.asked.push_back({of_node[nth], node, hosts.at(node)});
    }
  }
}

std::string some_of(const std::set<std::string>& nodes) {
  std::string out;
  size_t said = 0;
  for (const std::string& node : nodes) {
    if (++said > kNodesNamed) continue;
    out += (out.empty() ? "" : ", ") + node;
  }
  if (said > kNodesNamed) out += fmt::format(" and {} more", said - kNodesNamed);
  return out;
}

}  // namespace

bool is_encrypted_network(const v1::Network& network) {
  const auto& options = network.spec().driver_options();
  return std::any_of(options.begin(), options.end(), [](const v1::KeyValue& option) {
    return option.key() == "encrypted" && option.value() != "false" && option.value() != "0";
  });
}

std::vector<EchoTest> plan_echoes(const v1::NetworkExamination& examination,
                                  const NodeFacts& facts) {
  std::map<std::string, std::string> hosts;
  for (const v1::ExaminedNode& node : examination.nodes()) hosts[node.node_id()] = node.hostname();
  std::vector<EchoTest> out;
  std::vector<const v1::NetworkFeed*> feeds;
  for (const overlay::NetworkStep& step : facts.networks) {
    const v1::Network& network = step.feed.network();
    if (!is_wanted(examination, step.network_id)) continue;
    EchoTest test;
    test.network_id = step.network_id;
    test.network = network.spec().annotations().name();
    test.encrypted = is_encrypted_network(network);
    if (network.spec().ingress()) {
      // Without a place in the mesh the host has no way to them.
      if (!has_place(step.feed, facts)) continue;
      test.from = "the node itself";
      test.check = "mesh";
    } else {
      const NodeFacts::Container* container = container_in(facts, step.network_id);
      if (container == nullptr) continue;
      test.from = container->name;
      test.netns = container->netns;
    }
    if (test.encrypted) test.check = "encryption";
    out.push_back(std::move(test));
    feeds.push_back(&step.feed);
  }
  for (size_t i = 0; i < out.size(); ++i) {
    choose(out[i], *feeds[i], hosts, facts,
           std::clamp<size_t>(kEchoesOfAllMax / out.size(), kEchoesOfNodeMax, kEchoesMax));
  }
  std::erase_if(out, [](const EchoTest& test) { return test.asked.empty(); });
  return out;
}

bool leave_out(EchoTest& test, std::vector<bool>& answered,
               const std::set<std::string>& unreached) {
  if (test.encrypted) return true;
  EchoTest kept = test;
  kept.asked.clear();
  std::vector<bool> of_kept;
  for (size_t i = 0; i < test.asked.size(); ++i) {
    if (!answered[i] && unreached.contains(test.asked[i].node_id)) continue;
    kept.asked.push_back(test.asked[i]);
    of_kept.push_back(answered[i]);
  }
  test = std::move(kept);
  answered = std::move(of_kept);
  return !test.asked.empty();
}

HostTests::Refusals refused_since(const HostTests::Refusals& before,
                                  const HostTests::Refusals& after) {
  HostTests::Refusals out;
  for (const auto& [name, count] : after) {
    const auto at = before.find(name);
    const uint64_t known = at == before.end() ? 0 : at->second;
    if (count > known) out[name] = count - known;
  }
  return out;
}

v1::NetworkFinding judge_echoes(const EchoTest& test, const Result<std::vector<bool>>& answered,
                                const HostTests::Refusals& refused) {
  if (!answered) {
    return make_finding(
        test.check, v1::NetworkFinding::WARNING,
        fmt::format("no echo could be asked for in {}: {}", test.from, answered.error().message()),
        test.network_id);
  }
  std::set<std::string> heard, silent;
  for (size_t i = 0; i < test.asked.size(); ++i) {
    if ((*answered)[i]) heard.insert(test.asked[i].node);
  }
  for (const EchoTest::Asked& asked : test.asked) {
    if (!heard.contains(asked.node)) silent.insert(asked.node);
  }
  if (silent.empty()) {
    std::string good =
        fmt::format("containers on {} other node{} answer{}", heard.size(),
                    heard.size() == 1 ? "" : "s", test.encrypted ? ", encrypted" : "");
    if (test.left_out > 0) good += fmt::format("; those on {} more were not asked", test.left_out);
    return make_finding(test.check, v1::NetworkFinding::GOOD, std::move(good), test.network_id);
  }
  return make_finding(test.check, v1::NetworkFinding::BAD,
                      fmt::format("no container on {} answers {}: {}", some_of(silent), test.from,
                                  test.encrypted ? why_not_encrypted(refused) : kWhyNot),
                      test.network_id);
}

}  // namespace muster::agent
