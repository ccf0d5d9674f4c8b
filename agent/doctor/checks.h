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

// As in "8080/tcp".
const char* protocol_name(v1::PortConfig::Protocol protocol);

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
  // Of virtual addresses alone, of each target: whether nobody is known to listen at the port, so
  // that a refusal is all that can be asked for; the nodes where somebody may have to answer.
  std::vector<bool> guessed;
  std::vector<std::set<std::string>> nodes;
  size_t left_out = 0;     // services beyond the limits
  bool encrypted = false;  // the network is: what is sent does not travel as VXLAN alone
};
inline constexpr size_t kConnectsMax = 512;  // to virtual addresses, of all networks together
// Of services that publish no port of TCP: a host answers by a refusal there (RFC 863's, which
// nobody uses any more).
inline constexpr uint16_t kAnyPort = 9;
// One of every service with a task. What answers is the task's host, for one of its tasks.
std::vector<ConnectTest> plan_virtual_addresses(const v1::NetworkExamination& examination,
                                                const NodeFacts& facts);
// At most one.
std::vector<ConnectTest> plan_published_ports(const v1::NetworkExamination& examination,
                                              const NodeFacts& facts);
// What was not answered, and may have been led to a node that nothing reaches, counts as untried:
// that is said elsewhere, once, but of encrypted networks, which travel otherwise. Whether anything
// is left.
bool leave_out(const ConnectTest& test, std::vector<HostTests::Answer>& answers,
               const std::set<std::string>& unreached);
v1::NetworkFinding judge_connects(const ConnectTest& test,
                                  const Result<std::vector<HostTests::Answer>>& answers);

}  // namespace muster::agent
