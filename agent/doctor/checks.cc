#include "agent/doctor/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "agent/doctor/echo_checks.h"
#include "base/fnv.h"

namespace muster::agent {
namespace {

// Sentences about single things; more of them are counted.
constexpr size_t kNamedMax = 5;
constexpr size_t kTargetsMax = 64;  // of published ports

const v1::Network& network_of(const overlay::NetworkStep& step) {
  return step.feed.network();
}

const std::string& name_of(const overlay::NetworkStep& step) {
  return network_of(step).spec().annotations().name();
}

std::string join(const std::vector<std::string>& texts, std::string_view separator) {
  std::string out;
  for (const std::string& text : texts) {
    if (!out.empty()) out += separator;
    out += text;
  }
  return out;
}

std::string join(const std::set<std::string>& texts) {
  return join(std::vector<std::string>(texts.begin(), texts.end()), ", ");
}

// A few of many sentences.
std::string some_of(const std::vector<std::string>& texts) {
  if (texts.size() <= kNamedMax) return join(texts, "; ");
  const std::vector<std::string> first(texts.begin(), texts.begin() + kNamedMax);
  return fmt::format("{}; and {} more", join(first, "; "), texts.size() - kNamedMax);
}

bool is_v6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

// READY addresses by service.
std::map<std::string, std::set<std::string>> ready_addresses(const v1::NetworkFeed& feed) {
  std::map<std::string, std::set<std::string>> out;
  for (const v1::NetworkEndpoint& endpoint : feed.endpoints()) {
    if (endpoint.state() != v1::ENDPOINT_READY) continue;
    out[endpoint.service_id()].insert(endpoint.addresses().begin(), endpoint.addresses().end());
  }
  return out;
}

void add_questions(NameTest& test, const std::string& name, const std::set<std::string>& expected) {
  for (const bool v6 : {false, true}) {
    std::set<std::string> of_family;
    std::copy_if(expected.begin(), expected.end(), std::inserter(of_family, of_family.end()),
                 [&](const std::string& address) { return is_v6(address) == v6; });
    if (of_family.empty()) continue;
    test.questions.push_back({name, v6});
    test.expected.push_back(std::move(of_family));
  }
}

HostTests::Protocol protocol_of(const v1::PortConfig& port) {
  switch (port.protocol()) {
    case v1::PortConfig::UDP: return HostTests::Protocol::kUdp;
    case v1::PortConfig::SCTP: return HostTests::Protocol::kSctp;
    default: return HostTests::Protocol::kTcp;
  }
}

// The port of TCP that is known to be listened at; 0: none is.
uint16_t known_port(const v1::NetworkService& service) {
  for (const v1::PortConfig& port : service.ports()) {
    if (port.protocol() == v1::PortConfig::TCP && port.target_port() != 0) {
      return static_cast<uint16_t>(port.target_port());
    }
  }
  return 0;
}

// One virtual address of each service with a task that is ready. Where there are more than `most`
// each node begins elsewhere, so that together they try all.
void choose_services(ConnectTest& test, const v1::NetworkFeed& feed, const NodeFacts& facts,
                     size_t most) {
  std::map<std::string, std::set<std::string>> nodes;
  for (const v1::NetworkEndpoint& endpoint : feed.endpoints()) {
    if (endpoint.state() == v1::ENDPOINT_READY) {
      nodes[endpoint.service_id()].insert(endpoint.node_id());
    }
  }
  std::vector<const v1::NetworkService*> services;
  for (const v1::NetworkService& service : feed.services()) {
    if (nodes.contains(service.service_id()) && !service.virtual_ips().empty()) {
      services.push_back(&service);
    }
  }
  if (services.size() > most) {
    std::rotate(services.begin(), services.begin() + fnv1a_32(facts.node_id) % services.size(),
                services.end());
    test.left_out = services.size() - most;
    services.resize(most);
  }
  for (const v1::NetworkService* service : services) {
    const std::string& vip = service->virtual_ips(0);
    const uint16_t port = known_port(*service);
    test.targets.push_back({vip, port == 0 ? kAnyPort : port});
    test.guessed.push_back(port == 0);
    test.nodes.push_back(nodes[service->service_id()]);
    test.what.push_back(port == 0 ? fmt::format("{} ({})", service->name(), vip)
                                  : fmt::format("port {} of {} ({})", port, service->name(), vip));
  }
}

}  // namespace

const char* protocol_name(v1::PortConfig::Protocol protocol) {
  switch (protocol) {
    case v1::PortConfig::UDP: return "udp";
    case v1::PortConfig::SCTP: return "sctp";
    default: return "tcp";
  }
}

std::vector<NodeFacts::Container> running_containers(const std::vector<v1::LocalTask>& tasks,
                                                     const std::string& netns_dir) {
  std::vector<NodeFacts::Container> out;
  for (const v1::LocalTask& task : tasks) {
    if (task.status().state() != v1::TASK_RUNNING || task.host_network()) continue;
    const v1::Task& assigned = task.assignment().task();
    NodeFacts::Container container;
    container.name = container_name(assigned);
    container.netns = fmt::format("{}/{}", netns_dir, task.container_id());
    for (const v1::NetworkAttachment& attachment : assigned.networks()) {
      NodeFacts::Attachment& at = container.attachments.emplace_back();
      at.network_id = attachment.network_id();
      for (const std::string& cidr : attachment.addresses()) {
        at.addresses.push_back(cidr.substr(0, cidr.find('/')));
      }
    }
    out.push_back(std::move(container));
  }
  return out;
}

v1::NetworkFinding make_finding(const char* check, v1::NetworkFinding::Verdict verdict,
                                std::string text, const std::string& network_id,
                                const std::string& peer_id) {
  v1::NetworkFinding out;
  out.set_check(check);
  out.set_verdict(verdict);
  out.set_text(std::move(text));
  out.set_network_id(network_id);
  out.set_peer_id(peer_id);
  return out;
}

const NodeFacts::Container* container_in(const NodeFacts& facts, const std::string& network_id) {
  for (const NodeFacts::Container& container : facts.containers) {
    for (const NodeFacts::Attachment& attachment : container.attachments) {
      if (attachment.network_id == network_id) return &container;
    }
  }
  return nullptr;
}

bool is_wanted(const v1::NetworkExamination& examination, const std::string& network_id) {
  const auto& ids = examination.network_ids();
  return ids.empty() || std::find(ids.begin(), ids.end(), network_id) != ids.end();
}

// ---------------------------------------------------------------- the ways to other nodes

uint32_t largest_mtu(const NodeFacts& facts) {
  uint32_t mtu = 0;
  for (const overlay::NetworkStep& step : facts.networks) {
    mtu = std::max(mtu, network_of(step).state().mtu());
  }
  // Of Ethernet, without VXLAN's headers, where no network says so.
  return mtu == 0 ? 1450 : mtu;
}

std::vector<const v1::ExaminedNode*> unheard(const v1::NetworkExamination& examination,
                                             const HostTests::Heard& heard) {
  std::vector<const v1::ExaminedNode*> out;
  for (const v1::ExaminedNode& node : examination.nodes()) {
    const auto at = heard.find(node.node_id());
    if (at == heard.end() || !at->second.small) out.push_back(&node);
  }
  return out;
}

Findings judge_tunnels(const v1::NetworkExamination& examination, const std::string& hostname,
                       uint32_t mtu, const HostTests::Heard& heard) {
  Findings out;
  for (const v1::ExaminedNode* node : unheard(examination, heard)) {
    out.push_back(
        make_finding("vxlan", v1::NetworkFinding::BAD,
                     fmt::format("nothing that {} sends to UDP port {} of {} arrives",
                                 node->hostname(), examination.data_path_port(), hostname),
                     {}, node->node_id()));
  }
  for (const v1::ExaminedNode& node : examination.nodes()) {
    const auto at = heard.find(node.node_id());
    if (at == heard.end() || !at->second.small || at->second.full) continue;
    const std::string what = fmt::format("frames with {} bytes that {} sends to {} are lost", mtu,
                                         node.hostname(), hostname);
    const size_t largest = at->second.largest;
    out.push_back(make_finding(
        "mtu", v1::NetworkFinding::BAD,
        largest < Beacons::kFullMin ? what : fmt::format("{}, those with {} arrive", what, largest),
        {}, node.node_id()));
  }
  return out;
}

bool has_encrypted(const v1::NetworkExamination& examination, const NodeFacts& facts) {
  return std::any_of(facts.networks.begin(), facts.networks.end(), [&](const auto& step) {
    return is_wanted(examination, step.network_id) && is_encrypted_network(network_of(step));
  });
}

uint16_t encryption_port(const v1::EncryptionConfig& encryption) {
  constexpr uint16_t kDefault = 4500;  // RFC 3948
  if (!encryption.udp_encapsulation()) return 0;
  return encryption.udp_port() == 0 ? kDefault : static_cast<uint16_t>(encryption.udp_port());
}

Findings judge_encryption(const v1::NetworkExamination& examination, const std::string& hostname,
                          const v1::EncryptionConfig& encryption, const HostTests::Heard& heard) {
  Findings out = {make_finding("esp", v1::NetworkFinding::GOOD, "tried")};
  const uint16_t port = encryption_port(encryption);
  const std::string way =
      port == 0 ? std::string("IP protocol 50 (ESP)") : fmt::format("UDP port {}", port);
  for (const v1::ExaminedNode* node : unheard(examination, heard)) {
    out.push_back(make_finding(
        "esp", v1::NetworkFinding::BAD,
        fmt::format("nothing by {} that {} sends to {} arrives, by which encrypted networks travel",
                    way, node->hostname(), hostname),
        {}, node->node_id()));
  }
  return out;
}

// ---------------------------------------------------------------- names

std::vector<NameTest> plan_names(const v1::NetworkExamination& examination,
                                 const NodeFacts& facts) {
  std::vector<NameTest> out;
  if (!facts.names) return out;
  for (const overlay::NetworkStep& step : facts.networks) {
    if (!is_wanted(examination, step.network_id) || network_of(step).spec().ingress()) continue;
    const NodeFacts::Container* container = container_in(facts, step.network_id);
    if (container == nullptr || step.feed.services().empty()) continue;
    NameTest test;
    test.network_id = step.network_id;
    test.network = name_of(step);
    test.container = container->name;
    test.netns = container->netns;
    const auto ready = ready_addresses(step.feed);
    for (const v1::NetworkEndpoint& endpoint : step.feed.endpoints()) {
      test.known.insert(endpoint.addresses().begin(), endpoint.addresses().end());
    }
    size_t services = 0;
    for (const v1::NetworkService& service : step.feed.services()) {
      test.known.insert(service.virtual_ips().begin(), service.virtual_ips().end());
      if (services++ >= kServicesMax) {
        ++test.left_out;
        continue;
      }
      const auto at = ready.find(service.service_id());
      const std::set<std::string> tasks = at == ready.end() ? std::set<std::string>() : at->second;
      const std::set<std::string> vips(service.virtual_ips().begin(), service.virtual_ips().end());
      // As it is in this network: a container may be in others that know the name, too.
      const std::string name = fmt::format("{}.{}", service.name(), test.network);
      add_questions(test, name, vips.empty() ? tasks : vips);
      add_questions(test, "tasks." + name, tasks);
    }
    out.push_back(std::move(test));
  }
  return out;
}

v1::NetworkFinding judge_names(const NameTest& test,
                               const Result<std::vector<HostTests::Named>>& named) {
  const auto bad = [&](std::string text) {
    return make_finding("dns", v1::NetworkFinding::BAD, std::move(text), test.network_id);
  };
  if (!named) {
    return bad(fmt::format("names could not be asked for in {}: {}", test.container,
                           named.error().message()));
  }
  std::vector<std::string> wrong;
  size_t silent = 0;
  for (size_t i = 0; i < test.questions.size(); ++i) {
    const HostTests::Named& answer = (*named)[i];
    const std::string& name = test.questions[i].name;
    const std::set<std::string> got(answer.addresses.begin(), answer.addresses.end());
    if (!answer.answered) {
      ++silent;
      wrong.push_back(fmt::format("{} was not answered", name));
      continue;
    }
    std::set<std::string> missing, strange;
    std::set_difference(test.expected[i].begin(), test.expected[i].end(), got.begin(), got.end(),
                        std::inserter(missing, missing.end()));
    std::set_difference(got.begin(), got.end(), test.known.begin(), test.known.end(),
                        std::inserter(strange, strange.end()));
    if (got.empty()) {
      wrong.push_back(
          fmt::format("{} leads nowhere instead of to {}", name, join(test.expected[i])));
    } else if (!missing.empty() && !answer.cut) {
      wrong.push_back(fmt::format("{} does not lead to {}", name, join(missing)));
    } else if (!strange.empty()) {
      wrong.push_back(
          fmt::format("{} leads to {}, which nothing in the network has", name, join(strange)));
    }
  }
  if (!test.questions.empty() && silent == test.questions.size()) {
    return bad(fmt::format(
        "the resolver of the containers does not answer {}: `musterd netd` of this node is stopped "
        "or hangs (it has a process of its own, which musterd starts again when it has ended)",
        test.container));
  }
  if (!wrong.empty()) return bad(fmt::format("asked by {}: {}", test.container, some_of(wrong)));
  return make_finding(
      "dns", v1::NetworkFinding::GOOD,
      test.left_out == 0
          ? fmt::format("{} questions for names are answered as the managers say",
                        test.questions.size())
          : fmt::format("{} questions for names are answered as the managers say; names of {} more "
                        "services were not asked for",
                        test.questions.size(), test.left_out),
      test.network_id);
}

// ---------------------------------------------------------------- connections

std::vector<ConnectTest> plan_virtual_addresses(const v1::NetworkExamination& examination,
                                                const NodeFacts& facts) {
  std::vector<ConnectTest> out;
  std::vector<const v1::NetworkFeed*> feeds;
  for (const overlay::NetworkStep& step : facts.networks) {
    if (!is_wanted(examination, step.network_id) || network_of(step).spec().ingress()) continue;
    const NodeFacts::Container* container = container_in(facts, step.network_id);
    if (container == nullptr) continue;
    ConnectTest test;
    test.check = "vip";
    test.encrypted = is_encrypted_network(network_of(step));
    test.network_id = step.network_id;
    test.from = container->name;
    test.netns = container->netns;
    out.push_back(std::move(test));
    feeds.push_back(&step.feed);
  }
  for (size_t i = 0; i < out.size(); ++i) {
    choose_services(out[i], *feeds[i], facts,
                    std::clamp<size_t>(kConnectsMax / out.size(), 1, kServicesMax));
  }
  std::erase_if(out, [](const ConnectTest& test) { return test.targets.empty(); });
  return out;
}

std::vector<ConnectTest> plan_published_ports(const v1::NetworkExamination& examination,
                                              const NodeFacts& facts) {
  ConnectTest test;
  test.check = "mesh";
  test.from = "the node itself";
  std::map<std::string, std::string> services;
  for (const overlay::NetworkStep& step : facts.networks) {
    if (!network_of(step).spec().ingress()) continue;
    if (!is_wanted(examination, step.network_id)) return {};
    test.network_id = step.network_id;
    for (const v1::NetworkService& service : step.feed.services()) {
      services[service.service_id()] = service.name();
    }
  }
  if (test.network_id.empty()) return {};
  const auto refused = [&](const v1::PortConfig& port) {
    return std::any_of(facts.refused_ports.begin(), facts.refused_ports.end(), [&](const auto& r) {
      return r.published_port() == port.published_port() && r.protocol() == port.protocol();
    });
  };
  for (const overlay::PublishedPort& published : facts.ports) {
    const v1::PortConfig& port = published.port;
    if (port.mode() != v1::PortConfig::INGRESS) continue;
    if (published.backends.empty() || refused(port)) continue;
    const HostTests::Protocol protocol = protocol_of(port);
    std::vector<std::string> addresses;
    if (port.bind().empty()) {
      addresses = {facts.data_path_addr};
      // SCTP names addresses of its own, which mean nothing elsewhere.
      if (protocol != HostTests::Protocol::kSctp) addresses.emplace_back("127.0.0.1");
    } else if (port.bind().find_first_not_of("0123456789.") == std::string::npos ||
               is_v6(port.bind())) {
      addresses = {port.bind()};  // an interface's addresses are not known here
    }
    const auto service = services.find(published.owner);
    for (const std::string& address : addresses) {
      if (test.targets.size() >= kTargetsMax || address.empty()) continue;
      test.targets.push_back({address, static_cast<uint16_t>(port.published_port()), protocol});
      test.what.push_back(fmt::format("published port {}{} of {} at {}", port.published_port(),
                                      protocol == HostTests::Protocol::kTcp
                                          ? ""
                                          : fmt::format("/{}", protocol_name(port.protocol())),
                                      service == services.end() ? published.owner : service->second,
                                      address));
    }
  }
  if (test.targets.empty()) return {};
  return {std::move(test)};
}

bool leave_out(const ConnectTest& test, std::vector<HostTests::Answer>& answers,
               const std::set<std::string>& unreached) {
  if (test.encrypted) return true;
  bool left = false;
  for (size_t i = 0; i < answers.size(); ++i) {
    const bool explained =
        answers[i] == HostTests::Answer::kSilent && i < test.nodes.size() &&
        std::any_of(test.nodes[i].begin(), test.nodes[i].end(),
                    [&](const std::string& node) { return unreached.contains(node); });
    if (explained) answers[i] = HostTests::Answer::kUntried;
    left = left || !explained;
  }
  return left;
}

v1::NetworkFinding judge_connects(const ConnectTest& test,
                                  const Result<std::vector<HostTests::Answer>>& answers) {
  if (!answers) {
    return make_finding(test.check, v1::NetworkFinding::BAD,
                        fmt::format("no connection could be tried from {}: {}", test.from,
                                    answers.error().message()),
                        test.network_id);
  }
  std::vector<std::string> silent, refused;
  size_t accepted = 0, unrefused = 0, told = 0;
  for (size_t i = 0; i < test.targets.size(); ++i) {
    // Nobody knows what a server of datagrams would answer, but a host says that there is none.
    const bool datagrams = test.targets[i].protocol == HostTests::Protocol::kUdp;
    switch ((*answers)[i]) {
      case HostTests::Answer::kAccepted: ++(datagrams ? unrefused : accepted); break;
      case HostTests::Answer::kRefused:
        // By the task's node: nobody is known to listen there.
        if (i < test.guessed.size() && test.guessed[i]) {
          ++told;
        } else {
          refused.push_back(test.what[i]);
        }
        break;
      case HostTests::Answer::kUntried: break;
      case HostTests::Answer::kSilent:
        if (datagrams) {
          ++unrefused;
        } else {
          silent.push_back(test.what[i]);
        }
        break;
      case HostTests::Answer::kUnreachable:
        silent.push_back(test.what[i] + " (there is no way to it)");
        break;
    }
  }
  if (!silent.empty()) {
    return make_finding(
        test.check, v1::NetworkFinding::BAD,
        fmt::format("no answer to {} from {}: the task is on a node that is not reached, or it "
                    "hangs, or its firewall drops it",
                    some_of(silent), test.from),
        test.network_id);
  }
  if (!refused.empty()) {
    return make_finding(test.check, v1::NetworkFinding::WARNING,
                        fmt::format("refused from {}: {}: its tasks run, but nothing listens on "
                                    "that port in them",
                                    test.from, some_of(refused)),
                        test.network_id);
  }
  std::string good = fmt::format("{} connection{} from {} accepted", accepted,
                                 accepted == 1 ? "" : "s", test.from);
  if (told > 0) {
    good += fmt::format(", {} answered at a port where nobody is known to listen", told);
  }
  if (test.left_out > 0) good += fmt::format("; {} more services were not tried", test.left_out);
  if (unrefused > 0) {
    good += fmt::format(", {} time{} nobody said that nothing listens for datagrams", unrefused,
                        unrefused == 1 ? "" : "s");
  }
  return make_finding(test.check, v1::NetworkFinding::GOOD, std::move(good), test.network_id);
}

}  // namespace muster::agent
