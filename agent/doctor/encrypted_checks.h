#pragma once

#include <string>
#include <vector>

#include "agent/doctor/host_tests.h"
#include "agent/doctor/node_facts.h"
#include "base/status.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/objects.pb.h"

namespace muster::agent {

// Encrypted networks from end to end: from a container here to one on every other node, which
// answers only if both nodes understand each other. Pure.

// Of one network; asked from inside of one of its containers.
struct EchoTest {
  std::string network_id;
  std::string network;
  std::string from;
  std::string netns;
  std::vector<std::string> addresses;
  std::vector<std::string> nodes;  // on which each address is, in words
};
inline constexpr size_t kEchoesMax = 128;      // of a network
inline constexpr size_t kEchoesOfNodeMax = 2;  // one container may not answer at all

bool is_encrypted_network(const v1::Network& network);
std::vector<EchoTest> plan_echoes(const v1::NetworkExamination& examination,
                                  const NodeFacts& facts);
// `refused`: what IPsec has refused meanwhile.
v1::NetworkFinding judge_echoes(const EchoTest& test, const Result<std::vector<bool>>& answered,
                                const HostTests::Refusals& refused);
// What came to the one since the other.
HostTests::Refusals refused_since(const HostTests::Refusals& before,
                                  const HostTests::Refusals& after);

}  // namespace muster::agent
