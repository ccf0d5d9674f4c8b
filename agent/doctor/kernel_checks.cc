#include "agent/doctor/kernel_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "agent/doctor/echo_checks.h"

namespace muster::agent {
namespace {

using Finding = v1::NetworkFinding;

constexpr size_t kNamedMax = 5;
constexpr size_t kForwardPeersMax = 4;
constexpr size_t kForwardContainersMax = 2;

const v1::Network& network_of(const overlay::NetworkStep& step) {
  return step.feed.network();
}

const std::string& name_of(const overlay::NetworkStep& step) {
  return network_of(step).spec().annotations().name();
}

// A few of many sentences.
std::string some_of(const std::vector<std::string>& texts) {
  std::string out;
  for (size_t i = 0; i < std::min(texts.size(), kNamedMax); ++i) {
    out += (i == 0 ? "" : "; ") + texts[i];
  }
  if (texts.size() > kNamedMax) out += fmt::format("; and {} more", texts.size() - kNamedMax);
  return out;
}

// How sentences of overlay/dataplane begin, what else is in them, and what they are about.
struct Kind {
  std::string_view begin;
  const char* check;
  Finding::Verdict verdict = Finding::BAD;
  std::string_view within = {};
};
// LinuxNetwork::note_limits() and repair() put them together. Of what is not here nothing good is
// known: it concerns the host, and is BAD.
constexpr Kind kLimitations[] = {
    {"nothing of encrypted networks arrives", "encryption"},
    {"encrypted networks: ", "encryption"},
    {"no container can enter an overlay network here", "vxlan"},
    {"routing mesh", "mesh"},
    // Less even, or in the nodes' names: everything is answered.
    {"this kernel has no br_netfilter", "mesh", Finding::WARNING},
    {"published port ", "mesh", Finding::WARNING, " tasks at a time"},
    {"published port ", "mesh", Finding::WARNING, " is not kept from other programs"},
    // Others answer nowhere, or not here.
    {"published port ", "mesh"},
    {"service ", "vip", Finding::WARNING},
    {"network ", "vip", Finding::WARNING},
};
constexpr Kind kRepairs[] = {
    {"encrypted networks: ", "encryption"},
    {"network ", "neighbours"},
    {"container ", "neighbours"},
    {"the host no longer forwarded", "host"},
    {"the network rules of this node", "host"},
    {"the route to ", "host"},
    {"the way out of a container", "host"},
    {"bridge ", "host"},
};

template <size_t N>
const Kind* kind_of(const Kind (&kinds)[N], std::string_view sentence) {
  const auto* at = std::find_if(std::begin(kinds), std::end(kinds), [&](const Kind& kind) {
    return sentence.starts_with(kind.begin) && sentence.find(kind.within) != std::string_view::npos;
  });
  return at == std::end(kinds) ? nullptr : at;
}

const char* check_of_repair(const std::string& sentence) {
  // Of containers most is about what leads to other nodes.
  if (sentence.starts_with("container ") && sentence.find("virtual address") != std::string::npos) {
    return "vip";
  }
  if (sentence.find("of this node's network rules") != std::string::npos) return "host";
  const Kind* kind = kind_of(kRepairs, sentence);
  return kind == nullptr ? "mesh" : kind->check;
}

// Whoever asks about other networks does not ask about encryption.
bool is_asked(const v1::NetworkExamination& examination, const NodeFacts& facts,
              std::string_view check) {
  return check != "encryption" || examination.network_ids().empty() ||
         has_encrypted(examination, facts);
}

}  // namespace

Findings judge_limitations(const v1::NetworkExamination& examination, const NodeFacts& facts,
                           const std::vector<std::string>& limitations) {
  Findings out;
  for (const std::string& limitation : limitations) {
    std::string network_id;
    for (const overlay::NetworkStep& step : facts.networks) {
      const std::string prefix = fmt::format("network {} is not as it should be", name_of(step));
      if (limitation.starts_with(prefix)) network_id = step.network_id;
    }
    if (!network_id.empty()) {
      if (!is_wanted(examination, network_id)) continue;
      out.push_back(make_finding("neighbours", Finding::BAD, limitation, network_id));
      continue;
    }
    const Kind* kind = kind_of(kLimitations, limitation);
    const char* check = kind == nullptr ? "host" : kind->check;
    if (!is_asked(examination, facts, check)) continue;
    out.push_back(make_finding(check, kind == nullptr ? Finding::BAD : kind->verdict, limitation));
  }
  return out;
}

Findings judge_repairs(const v1::NetworkExamination& examination, const NodeFacts& facts,
                       const std::vector<std::string>& differences) {
  // By check and network.
  std::map<std::pair<std::string_view, std::string>, std::vector<std::string>> sorted;
  for (const std::string& difference : differences) {
    const char* check = check_of_repair(difference);
    std::string network_id;
    std::string text = difference;
    for (const overlay::NetworkStep& step : facts.networks) {
      const std::string prefix = fmt::format("network {}: ", name_of(step));
      if (!difference.starts_with(prefix)) continue;
      network_id = step.network_id;
      text = difference.substr(prefix.size());
    }
    if (!network_id.empty() && !is_wanted(examination, network_id)) continue;
    if (!is_asked(examination, facts, check)) continue;
    sorted[{check, network_id}].push_back(text);
  }
  Findings out;
  for (const auto& [key, texts] : sorted) {
    out.push_back(make_finding(
        key.first.data(), v1::NetworkFinding::WARNING,
        fmt::format("the kernel was not as it should be, and was mended now: {}. Something else on "
                    "this node changes it; musterd looks every 10 s (its log says \"repaired\")",
                    some_of(texts)),
        key.second));
  }
  if (!out.empty()) return out;
  size_t networks = 0;
  for (const overlay::NetworkStep& step : facts.networks) {
    networks += is_wanted(examination, step.network_id);
  }
  out.push_back(make_finding(
      "neighbours", v1::NetworkFinding::GOOD,
      fmt::format("links, entries and rules of {} networks are as the managers say", networks)));
  return out;
}

// ---------------------------------------------------------------- published ports

namespace {

// Of programs of the host that have ports of the mesh.
void tell_taken(const NodeFacts& facts, const std::string& ingress_id, Findings& out) {
  const auto tell = [&](const v1::PortConfig& port, Finding::Verdict verdict, const char* what) {
    if (port.mode() != v1::PortConfig::INGRESS) return;
    out.push_back(make_finding(
        "mesh", verdict,
        fmt::format("published port {0}/{1} {3}: `ss -ln{2}p sport = :{0}` tells which",
                    port.published_port(), protocol_name(port.protocol()),
                    port.protocol() == v1::PortConfig::UDP ? "u" : "t", what),
        ingress_id));
  };
  for (const v1::PortConfig& port : facts.refused_ports) {
    tell(port, Finding::BAD,
         "is in use by a process of this node, which answers here instead of the service");
  }
  for (const v1::PortConfig& port : facts.loopback_ports) {
    tell(port, Finding::WARNING,
         "answers everywhere but at ::1: another program of this node has it at ::1 alone");
  }
}

}  // namespace

Findings judge_mesh_host(const v1::NetworkExamination& examination, const NodeFacts& facts,
                         HostTests& tests) {
  Findings out;
  std::string ingress_id;
  for (const overlay::NetworkStep& step : facts.networks) {
    if (network_of(step).spec().ingress()) ingress_id = step.network_id;
  }
  if (ingress_id.empty() || !is_wanted(examination, ingress_id)) return out;
  tell_taken(facts, ingress_id, out);
  if (facts.ports.empty()) return out;
  if (tests.setting("net.ipv4.ip_forward").value_or("1") == "0") {
    out.push_back(make_finding("mesh", v1::NetworkFinding::BAD,
                               "net.ipv4.ip_forward is 0: connections to published ports do not "
                               "get from this node to tasks. Something switches it off after "
                               "musterd: look into /etc/sysctl.d",
                               ingress_id));
  }
  return out;
}

// ---------------------------------------------------------------- what the host forwards

ForwardTest plan_forward(const v1::NetworkExamination& examination, const NodeFacts& facts,
                         uint16_t port) {
  std::vector<HostTests::Target> peers;
  for (const v1::ExaminedNode& node : examination.nodes()) {
    const std::string& address = node.data_path_addr();
    // Ways out are of IPv4 wherever there are any.
    if (address.empty() || address.find(':') != std::string::npos) continue;
    if (peers.size() < kForwardPeersMax) peers.push_back({address, port});
  }
  ForwardTest out;
  if (peers.empty()) return out;
  out.from.push_back({"", peers});
  for (const NodeFacts::Container& container : facts.containers) {
    const bool leads_out = std::any_of(
        facts.networks.begin(), facts.networks.end(), [&](const overlay::NetworkStep& step) {
          const v1::NetworkSpec& spec = network_of(step).spec();
          return !spec.internal() && !spec.ingress() &&
                 std::any_of(container.attachments.begin(), container.attachments.end(),
                             [&](const auto& at) { return at.network_id == step.network_id; });
        });
    if (!leads_out || out.from.size() > kForwardContainersMax) continue;
    out.containers += (out.containers.empty() ? "" : " and ") + container.name;
    out.from.push_back({container.netns, peers});
  }
  if (out.from.size() < 2) out.from.clear();
  return out;
}

Findings judge_forward(const ForwardTest& test, const std::vector<std::string>& drops,
                       const std::vector<Result<std::vector<HostTests::Answer>>>& answers) {
  // By peer: whether it answers the host, and a container.
  size_t reached = 0, passed = 0;
  std::string example;
  const auto answered = [&](size_t from, size_t peer) {
    if (!answers[from]) return false;
    const HostTests::Answer answer = (*answers[from])[peer];
    return answer == HostTests::Answer::kAccepted || answer == HostTests::Answer::kRefused;
  };
  for (size_t peer = 0; !test.from.empty() && peer < test.from.front().targets.size(); ++peer) {
    if (!answered(0, peer)) continue;
    if (reached++ == 0) example = test.from.front().targets[peer].address;
    for (size_t from = 1; from < test.from.size(); ++from) {
      if (!answered(from, peer)) continue;
      ++passed;
      break;
    }
  }
  const bool lost = reached > 0 && passed == 0;
  if (!drops.empty()) {
    std::string outcome;
    if (lost) {
      outcome = fmt::format(
          "{} answers this node, but not {}, and connections from outside to published ports are "
          "lost in the same way",
          example, test.containers);
    } else if (reached > 0) {
      outcome = fmt::format(
          "what leaves {} gets out all the same, but connections from outside to published ports "
          "may be lost",
          test.containers);
    } else {
      outcome =
          "connections from outside to published ports and ports of the host, and what containers "
          "send out, may be lost (nothing could be tried)";
    }
    return {make_finding(
        "host", lost ? Finding::BAD : Finding::WARNING,
        fmt::format(
            "{} drop{} what this host forwards and no rule accepts, and no rule there "
            "names muster's interfaces: {}. Have it accept mb+, mg+, mp+ and mi+ (iptables; "
            "\"mb*\" and so on in nftables), incoming and outgoing; with Docker in its "
            "chain DOCKER-USER",
            some_of(drops), drops.size() == 1 ? "s" : "", outcome))};
  }
  if (lost) {
    return {make_finding(
        "host", Finding::WARNING,
        fmt::format("{} answers this node, but not {}: something drops what this host forwards "
                    "for its containers (a firewall's forward chain: `nft list ruleset`, "
                    "`iptables-legacy -S FORWARD`), or that is meant to be so",
                    example, test.containers))};
  }
  if (reached == 0) return {};
  return {make_finding("host", Finding::GOOD,
                       fmt::format("this host forwards what leaves {}", test.containers))};
}

}  // namespace muster::agent
