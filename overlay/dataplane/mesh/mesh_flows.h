#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "overlay/dataplane/told/network_truth.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay {

// Whose flows go nowhere, or may go nowhere: of the addresses in the ingress network that published
// ports led to, by what is told of it. Pure.
class MeshFlows {
 public:
  // To be called with every step, after it went into `truth`; with all of it first. Returns the
  // addresses that nobody has any more.
  std::vector<Ip> apply(const NetworkTruth& truth, const NetworkDifference& difference);
  // Addresses of tasks that may be alive though no node tells of them: the nodes are down.
  const std::set<Ip>& lost() const { return lost_; }
  bool knows(const Ip& address) const { return tasks_.contains(address); }
  // Whether anything was told.
  bool begun() const { return begun_; }

 private:
  struct Task {
    std::vector<Ip> addresses;
    bool seen = false;  // its node tells of it
    bool led = false;   // there may be flows that were led to it
  };

  void put(const std::string& id, const v1::NetworkEndpoint* endpoint, std::set<Ip>& touched);

  bool begun_ = false;
  std::map<std::string, Task> known_;          // by task id
  std::map<Ip, std::set<std::string>> tasks_;  // by address
  std::set<Ip> lost_;
};

}  // namespace muster::overlay
