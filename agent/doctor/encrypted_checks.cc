#include "agent/doctor/encrypted_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "agent/doctor/checks.h"

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
     "taken for replays (the other node counts anew, which is noticed within 20 s)"},
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
  for (const overlay::NetworkStep& step : facts.networks) {
    const v1::Network& network = step.feed.network();
    if (!is_wanted(examination, step.network_id) || !is_encrypted_network(network)) continue;
    const NodeFacts::Container* container = container_in(facts, step.network_id);
    if (container == nullptr) continue;
    EchoTest test;
    test.network_id = step.network_id;
    test.network = network.spec().annotations().name();
    test.from = container->name;
    test.netns = container->netns;
    std::map<std::string, size_t> of_node;
    for (const v1::NetworkEndpoint& endpoint : step.feed.endpoints()) {
      // Of nodes that are examined, too: others may be down.
      const auto host = hosts.find(endpoint.node_id());
      if (host == hosts.end() || endpoint.state() != v1::ENDPOINT_READY ||
          endpoint.addresses().empty() || test.addresses.size() >= kEchoesMax ||
          of_node[endpoint.node_id()]++ >= kEchoesOfNodeMax) {
        continue;
      }
      test.addresses.push_back(endpoint.addresses(0));
      test.nodes.push_back(host->second);
    }
    if (!test.addresses.empty()) out.push_back(std::move(test));
  }
  return out;
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
        "encryption", v1::NetworkFinding::WARNING,
        fmt::format("no echo could be asked for in {}: {}", test.from, answered.error().message()),
        test.network_id);
  }
  std::set<std::string> heard, silent;
  for (size_t i = 0; i < test.nodes.size(); ++i) {
    if ((*answered)[i]) heard.insert(test.nodes[i]);
  }
  for (const std::string& node : test.nodes) {
    if (!heard.contains(node)) silent.insert(node);
  }
  if (silent.empty()) {
    return make_finding("encryption", v1::NetworkFinding::GOOD,
                        fmt::format("containers on {} other node{} answer, encrypted", heard.size(),
                                    heard.size() == 1 ? "" : "s"),
                        test.network_id);
  }
  const std::string why = said_of(refused);
  return make_finding(
      "encryption", v1::NetworkFinding::BAD,
      fmt::format(
          "no container on {} answers {}: {}", some_of(silent), test.from,
          !why.empty()
              ? why
              : "this node refused nothing meanwhile: the other one did, or the way loses it, or a "
                "container's own firewall (`cat /proc/net/xfrm_stat` there; `nft list tables` "
                "names "
                "the table esp_muster_..., which counts what came in plain text and was dropped)"),
      test.network_id);
}

}  // namespace muster::agent
