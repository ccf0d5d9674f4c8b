#pragma once

#include <set>
#include <string>
#include <vector>

#include "agent/doctor/host_tests.h"
#include "agent/doctor/node_facts.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/objects.pb.h"

namespace muster::agent {

// The pure part of examinations: from what a node knows to what is tried, and from what came of it
// to words.

using Findings = std::vector<v1::NetworkFinding>;

v1::NetworkFinding make_finding(const char* check, v1::NetworkFinding::Verdict verdict,
                                std::string text, const std::string& network_id = {},
                                const std::string& peer_id = {});

// A container here that is in the network; nullptr: there is none.
const NodeFacts::Container* container_in(const NodeFacts& facts, const std::string& network_id);
// Whether a network is among those to be examined.
bool is_wanted(const v1::NetworkExamination& examination, const std::string& network_id);

// ---- the ways to other nodes

// The content of the largest frames that the networks carry.
uint32_t largest_mtu(const NodeFacts& facts);
// Of those that nothing, or nothing of full size, has come from. "tcp" findings are not among them.
Findings judge_tunnels(const v1::NetworkExamination& examination, const std::string& hostname,
                       uint32_t mtu, const HostTests::Heard& heard);
// The same of encrypted networks' way; with a finding that this node has tried it, which nodes
// without such networks do not.
Findings judge_encryption(const v1::NetworkExamination& examination, const std::string& hostname,
                          const v1::EncryptionConfig& encryption, const HostTests::Heard& heard);
// Whether the node takes part in an encrypted network that is to be examined.
bool has_encrypted(const v1::NetworkExamination& examination, const NodeFacts& facts);
// The UDP port that encrypted networks travel on; 0: they do not travel in UDP.
uint16_t encryption_port(const v1::EncryptionConfig& encryption);
// Peers that nothing has come from, in the order of the examination.
std::vector<const v1::ExaminedNode*> unheard(const v1::NetworkExamination& examination,
                                             const HostTests::Heard& heard);

// ---- what the kernel had

// Differences that NodeNetwork::repair() has found and mended, as findings of what they are about.
Findings judge_repairs(const v1::NetworkExamination& examination, const NodeFacts& facts,
                       const std::vector<std::string>& differences);

// What a host cannot do, or could not mend (NodeNetwork::limitations()), as findings.
Findings judge_limitations(const v1::NetworkExamination& examination, const NodeFacts& facts,
                           const std::vector<std::string>& limitations);

// ---- names

// One container of a network and what its resolver is asked.
struct NameTest {
  std::string network_id;
  std::string network;
  std::string container;
  std::string netns;
  std::vector<HostTests::Question> questions;
  std::vector<std::set<std::string>> expected;  // addresses, of each question
  std::set<std::string> known;                  // addresses of anything there, ready or not
  size_t left_out = 0;                          // services beyond the limit
};
inline constexpr size_t kServicesMax = 200;  // of a network
std::vector<NameTest> plan_names(const v1::NetworkExamination& examination, const NodeFacts& facts);
v1::NetworkFinding judge_names(const NameTest& test,
                               const Result<std::vector<HostTests::Named>>& named);

// ---- virtual addresses and published ports

struct ConnectTest {
  const char* check = "";
  std::string network_id;
  std::string from;   // in words
  std::string netns;  // empty: the host's own
  std::vector<HostTests::Target> targets;
  std::vector<std::string> what;  // of each target, in words
};
std::vector<ConnectTest> plan_virtual_addresses(const v1::NetworkExamination& examination,
                                                const NodeFacts& facts);
// At most one.
std::vector<ConnectTest> plan_published_ports(const v1::NetworkExamination& examination,
                                              const NodeFacts& facts);
v1::NetworkFinding judge_connects(const ConnectTest& test,
                                  const Result<std::vector<HostTests::Answer>>& answers);
// Ports that others have, and settings that the mesh needs.
Findings judge_mesh_host(const v1::NetworkExamination& examination, const NodeFacts& facts,
                         HostTests& tests);

}  // namespace muster::agent
