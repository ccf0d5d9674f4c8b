#include "manager/examiner/pair_findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace muster::manager::examiner {
namespace {

v1::NetworkFinding finding(const char* check, const std::string& node, const std::string& peer,
                           v1::NetworkFinding::Verdict verdict, std::string text) {
  v1::NetworkFinding out;
  out.set_check(check);
  out.set_node_id(node);
  out.set_peer_id(peer);
  out.set_verdict(verdict);
  out.set_text(std::move(text));
  return out;
}

std::string others(size_t count, bool mixed) {
  return (count == 1 ? "the other node" : fmt::format("the other {} nodes", count)) +
         (mixed ? " with addresses of its family" : "");
}

}  // namespace

bool PairFindings::add(const std::string& node_id, const v1::NetworkFinding& found) {
  if (found.check() == "esp" && found.peer_id().empty()) {
    esp_nodes_.insert(node_id);
    return true;
  }
  if (found.peer_id().empty() || found.peer_id() == node_id) return false;
  const Pair pair(found.peer_id(), node_id);
  if (v6_.contains(pair.first) != v6_.contains(pair.second)) return true;
  const bool bad = found.verdict() == v1::NetworkFinding::BAD;
  if (found.check() == "vxlan") {
    if (bad) lost_[pair] = found.text();
  } else if (found.check() == "mtu") {
    if (bad) too_large_[pair] = found.text();
  } else if (found.check() == "esp") {
    if (bad) esp_lost_[pair] = found.text();
  } else if (found.check() == "tcp") {
    (bad ? unreached_ : reached_).insert(pair);
  } else {
    return false;
  }
  return true;
}

std::string PairFindings::name(const std::string& id) const {
  const auto at = names_.find(id);
  return at == names_.end() ? id : at->second;
}

std::array<size_t, 2> PairFindings::families(const std::set<std::string>& nodes) const {
  const auto v6 = static_cast<size_t>(std::count_if(
      v6_.begin(), v6_.end(), [&](const std::string& id) { return nodes.contains(id); }));
  return {nodes.size() - v6, v6};
}

bool PairFindings::mixed(const std::set<std::string>& nodes) const {
  const auto [v4, v6] = families(nodes);
  return v4 > 0 && v6 > 0;
}

std::string PairFindings::reach(const std::vector<Pair>& pairs) const {
  size_t answered = 0, silent = 0;
  for (const Pair& pair : pairs) {
    answered += reached_.contains(pair);
    silent += unreached_.contains(pair);
  }
  if (answered > 0 && silent == 0) return ", and TCP is answered";
  if (silent > 0 && answered == 0) return ", and TCP is not answered either";
  return "";
}

std::string PairFindings::what_is_lost(const Kind& kind) const {
  if (kind.bad == &esp_lost_) return "no packet of encrypted networks";
  return kind.bad == &lost_ ? fmt::format("nothing on UDP port {}", port_)
                            : "no frame of full size";
}

std::string PairFindings::advice(const Kind& kind) const {
  if (kind.bad == &esp_lost_) {
    return "a security group or firewall drops it: allow IP protocol 50 between the nodes, or have "
           "encrypted networks travel in UDP (`muster swarm update --encryption-udp`) and allow "
           "its "
           "port, 4500 unless set";
  }
  if (kind.bad == &lost_) {
    return fmt::format(
        "a security group or firewall drops it: allow UDP {} between the nodes (or the data-path "
        "address, `--data-path-addr`, is not the one that others reach)",
        port_);
  }
  return "the way carries less than the nodes' own MTU says: give all links one MTU, or make the "
         "networks with a smaller one (--opt com.docker.network.driver.mtu=...)";
}

PairFindings::Split PairFindings::split(const std::map<Pair, std::string>& bad,
                                        const std::set<std::string>& senders,
                                        const std::set<std::string>& testers) const {
  std::map<std::string, size_t> by_sender, by_tester;
  std::vector<Pair> counted;
  for (const auto& [pair, text] : bad) {
    if (!senders.contains(pair.first) || !testers.contains(pair.second)) continue;
    counted.push_back(pair);
    ++by_sender[pair.first];
    ++by_tester[pair.second];
  }
  Split out;
  // One pair alone does not tell at which of its ends it is.
  const auto find_every = [&](const std::map<std::string, size_t>& counts,
                              const std::set<std::string>& with, std::set<std::string>& found) {
    const auto there = families(with);
    for (const auto& [id, count] : counts) {
      const size_t peers = there[v6_.contains(id) ? 1 : 0] - with.count(id);
      if (count >= 2 && count >= std::min(peers, kPeersMax)) found.insert(id);
    }
  };
  find_every(by_tester, senders, out.deaf);
  find_every(by_sender, testers, out.mute);
  for (const Pair& pair : counted) {
    if (!out.mute.contains(pair.first) && !out.deaf.contains(pair.second))
      out.pairs.push_back(pair);
  }
  return out;
}

void PairFindings::blame(const Kind& kind, const std::set<std::string>& senders,
                         const std::set<std::string>& testers,
                         std::vector<v1::NetworkFinding>& out) const {
  const Split found = split(*kind.bad, senders, testers);
  const auto pairs_of = [&](const std::string& id, bool from, bool to) {
    std::vector<Pair> pairs;
    for (const auto& [pair, text] : *kind.bad) {
      if ((from && pair.first == id) || (to && pair.second == id)) pairs.push_back(pair);
    }
    return pairs;
  };
  // What one of them said, where it says more than that it is lost.
  const auto example = [&](const std::vector<Pair>& pairs) {
    if (kind.bad != &too_large_ || pairs.empty()) return std::string();
    return fmt::format(" ({})", too_large_.at(pairs.front()));
  };
  std::set<std::string> nodes = senders;
  nodes.insert(testers.begin(), testers.end());
  const bool all = nodes.size() > 2 && found.deaf == nodes && found.mute == nodes;
  if (all) {
    std::vector<Pair> pairs;
    for (const auto& [pair, text] : *kind.bad) pairs.push_back(pair);
    out.push_back(
        finding(kind.check, "", "", v1::NetworkFinding::BAD,
                fmt::format("{} passes between any of the {} nodes{}{}: {}", what_is_lost(kind),
                            nodes.size(), reach(pairs), example(pairs), advice(kind))));
    return;
  }
  const auto there = families(nodes);
  std::set<std::string> said = found.deaf;
  said.insert(found.mute.begin(), found.mute.end());
  for (const std::string& id : said) {
    const bool deaf = found.deaf.contains(id), mute = found.mute.contains(id);
    const std::vector<Pair> pairs = pairs_of(id, mute, deaf);
    const std::string rest = others(there[v6_.contains(id) ? 1 : 0] - 1, mixed(nodes));
    std::string text;
    if (deaf && mute) {
      text = fmt::format("{} passes between {} and {}, in either direction", what_is_lost(kind),
                         name(id), rest);
    } else if (deaf) {
      text = fmt::format("{} that {} send arrives at {}, while what it sends arrives",
                         what_is_lost(kind), rest, name(id));
    } else {
      text = fmt::format("{} that {} sends arrives at {}, while what they send arrives",
                         what_is_lost(kind), name(id), rest);
    }
    out.push_back(
        finding(kind.check, id, "", v1::NetworkFinding::BAD,
                fmt::format("{}{}{}: {}", text, reach(pairs), example(pairs), advice(kind))));
  }
  list_pairs(kind, found.pairs, out);
}

void PairFindings::list_pairs(const Kind& kind, const std::vector<Pair>& pairs,
                              std::vector<v1::NetworkFinding>& out) const {
  const std::set<Pair> known(pairs.begin(), pairs.end());
  size_t said = 0, more = 0;
  for (const Pair& pair : pairs) {
    const Pair back(pair.second, pair.first);
    const bool both = known.contains(back);
    if (both && pair.first > pair.second) continue;  // said with the other direction
    if (++said > kPairsMax) {
      ++more;
      continue;
    }
    std::string text = kind.bad->at(pair);
    std::vector<Pair> tried = {pair};
    if (both) {
      text = fmt::format("{} passes between {} and {}, in either direction", what_is_lost(kind),
                         name(pair.first), name(pair.second));
      if (kind.bad == &too_large_) text += fmt::format(" ({})", kind.bad->at(pair));
      tried.push_back(back);
    } else if (kind.bad != &too_large_) {
      text += ", while the other direction works";
    }
    out.push_back(finding(kind.check, pair.second, pair.first, v1::NetworkFinding::BAD,
                          fmt::format("{}{}: {}", text, reach(tried), advice(kind))));
  }
  if (more == 0) return;
  out.push_back(finding(kind.check, "", "", v1::NetworkFinding::BAD,
                        fmt::format("the same between {} more pairs of nodes", more)));
}

std::vector<v1::NetworkFinding> PairFindings::conclude(const std::set<std::string>& began,
                                                       const std::set<std::string>& ended) const {
  std::set<std::string> senders, testers;
  const auto wanted = [&](const std::string& id) { return !excluded_.contains(id); };
  std::copy_if(began.begin(), began.end(), std::inserter(senders, senders.end()), wanted);
  std::copy_if(ended.begin(), ended.end(), std::inserter(testers, testers.end()), wanted);
  std::vector<v1::NetworkFinding> out;
  const Kind kinds[] = {{"vxlan", &lost_, "is reached by every other node, in both directions"},
                        {"mtu", &too_large_, "frames of full size pass between all nodes"}};
  const auto any_pair = [&](const std::set<std::string>& nodes) {
    const auto [v4, v6] = families(nodes);
    return std::max(v4, v6) >= 2;
  };
  const auto good = [&](const Kind& kind, const std::string& text,
                        const std::set<std::string>& nodes) {
    out.push_back(
        finding(kind.check, "", "", v1::NetworkFinding::GOOD,
                text + (mixed(nodes) ? ", as far as their data paths are of one family" : "")));
  };
  bool lost = false;
  for (const Kind& kind : kinds) {
    const size_t before = out.size();
    blame(kind, senders, testers, out);
    if (kind.bad == &lost_) lost = out.size() != before;
    // Where nothing arrives nothing of full size does either, which was said.
    if (out.size() != before || !any_pair(testers) || lost) continue;
    good(kind,
         kind.bad == &lost_
             ? fmt::format("UDP port {} of each of {} nodes {}", port_, testers.size(), kind.good)
             : std::string(kind.good),
         testers);
  }
  // Nodes without encrypted networks send none of it.
  std::set<std::string> encrypting;
  std::copy_if(esp_nodes_.begin(), esp_nodes_.end(), std::inserter(encrypting, encrypting.end()),
               wanted);
  const Kind esp = {"encryption", &esp_lost_,
                    "what encrypted networks travel by passes between all nodes that have one"};
  const size_t before = out.size();
  blame(esp, encrypting, encrypting, out);
  if (out.size() == before && any_pair(encrypting)) good(esp, esp.good, encrypting);
  return out;
}

}  // namespace muster::manager::examiner
