#pragma once

#include <set>
#include <string>
#include <vector>

#include "agent/doctor/host_tests.h"
#include "agent/doctor/node_facts.h"
#include "base/status.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/objects.pb.h"

namespace muster::agent {

// Networks from end to end: from a container here to some on every other node. In an encrypted one
// they answer only if both nodes understand each other. The ingress network is tried from the host,
// which leads published ports by it. Pure.

// Of one network; asked from inside of one of its containers.
struct EchoTest {
  std::string network_id;
  std::string network;
  std::string from;
  std::string netns;
  bool encrypted = false;
  const char* check = "neighbours";
  struct Asked {
    std::string address;
    std::string node_id;
    std::string node;  // in words
  };
  std::vector<Asked> asked;
  size_t left_out = 0;  // nodes with tasks beyond the limits
};
inline constexpr size_t kEchoesMax = 128;        // of a network
inline constexpr size_t kEchoesOfAllMax = 1024;  // of all networks together
inline constexpr size_t kEchoesOfNodeMax = 2;    // one container may not answer at all

bool is_encrypted_network(const v1::Network& network);
std::vector<EchoTest> plan_echoes(const v1::NetworkExamination& examination,
                                  const NodeFacts& facts);
// Without what was not answered by nodes that nothing reaches, by whatever network: that is said
// elsewhere, once. Encrypted networks have a way of their own. Whether anything is left.
bool leave_out(EchoTest& test, std::vector<bool>& answered, const std::set<std::string>& unreached);
// `refused`: what IPsec has refused meanwhile.
v1::NetworkFinding judge_echoes(const EchoTest& test, const Result<std::vector<bool>>& answered,
                                const HostTests::Refusals& refused);
// What came to the one since the other.
HostTests::Refusals refused_since(const HostTests::Refusals& before,
                                  const HostTests::Refusals& after);

}  // namespace muster::agent
