#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "muster/v1/objects.pb.h"

namespace muster::manager::examiner {

// What nodes have said about the ways between them, each of what arrives there, made one picture:
// a node that nothing reaches is one finding, not one of every other node. Pure.
class PairFindings {
 public:
  // A pair: who sent, who tested.
  using Pair = std::pair<std::string, std::string>;
  // More pairs than this are counted.
  static constexpr size_t kPairsMax = 20;
  // A node tests its way to this many others at most.
  static constexpr size_t kPeersMax = 128;

  // `names`: what to call the nodes that were asked, by id.
  PairFindings(std::map<std::string, std::string> names, uint32_t port)
      : names_(std::move(names)), port_(port) {}

  // Takes what a node found between itself and a peer; false: it is of no such kind.
  bool add(const std::string& node_id, const v1::NetworkFinding& finding);
  // The node cannot take part for a reason of its own, which was told: no pair is judged by it.
  void exclude(const std::string& node_id) { excluded_.insert(node_id); }

  // Those whose data paths are of IPv6. Nothing is sent from one family to the other, which is told
  // elsewhere: pairs of that kind are judged by nobody.
  void set_v6(std::set<std::string> node_ids) { v6_ = std::move(node_ids); }

  // The picture. `began`: nodes that sent frames; `ended`: of those, the ones that said how it
  // went.
  std::vector<v1::NetworkFinding> conclude(const std::set<std::string>& began,
                                           const std::set<std::string>& ended) const;

 private:
  // One kind of trouble with its words.
  struct Kind {
    const char* check;
    const std::map<Pair, std::string>* bad;
    const char* good;
  };
  // Pairs of one kind, and who is to blame.
  struct Split {
    std::set<std::string> deaf;  // of what others send nothing arrives there
    std::set<std::string> mute;  // of what it sends nothing arrives anywhere
    std::vector<Pair> pairs;     // the rest, one direction each
  };

  std::string name(const std::string& id) const;
  // How many of the nodes have a data path of IPv4, and of IPv6.
  std::array<size_t, 2> families(const std::set<std::string>& nodes) const;
  // What is said of every other node is said of those of its family.
  bool mixed(const std::set<std::string>& nodes) const;
  // ", and TCP is answered": of what was tried over the pairs.
  std::string reach(const std::vector<Pair>& pairs) const;
  Split split(const std::map<Pair, std::string>& bad, const std::set<std::string>& senders,
              const std::set<std::string>& testers) const;
  void blame(const Kind& kind, const std::set<std::string>& senders,
             const std::set<std::string>& testers, std::vector<v1::NetworkFinding>& out) const;
  void list_pairs(const Kind& kind, const std::vector<Pair>& pairs,
                  std::vector<v1::NetworkFinding>& out) const;
  std::string what_is_lost(const Kind& kind) const;
  std::string advice(const Kind& kind) const;

  const std::map<std::string, std::string> names_;
  const uint32_t port_;
  std::map<Pair, std::string> lost_;       // nothing arrives
  std::map<Pair, std::string> too_large_;  // small frames arrive, those of full size do not
  std::map<Pair, std::string> esp_lost_;   // nothing of encrypted networks arrives
  std::set<std::string> esp_nodes_;        // that have tried it
  std::set<Pair> unreached_;               // TCP is not answered either; (peer, tester)
  std::set<Pair> reached_;
  std::set<std::string> excluded_;
  std::set<std::string> v6_;
};

}  // namespace muster::manager::examiner
