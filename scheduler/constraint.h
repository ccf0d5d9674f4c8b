#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "muster/v1/objects.pb.h"

namespace muster::scheduler {

// What constraints and spread preferences can ask of a node, taken out of its stored object.
struct NodeFacts {
  std::string id;
  std::string hostname;
  std::string address;  // as the manager sees the node, without a port
  bool manager = false;
  std::string os;
  std::string architecture;
  // Sorted by key.
  std::vector<std::pair<std::string, std::string>> node_labels;
  std::vector<std::pair<std::string, std::string>> engine_labels;

  friend bool operator==(const NodeFacts&, const NodeFacts&) = default;
};
NodeFacts facts_of(const v1::Node& node);

// One placement constraint, parsed: "<key> == <value>" or "<key> != <value>".
//
// The grammar is Swarm's: "==" is looked for first and splits at its first occurrence; key and
// value are trimmed; the value is literal text, compared without regard to case. Keys: node.id,
// node.hostname, node.ip (an address or a CIDR), node.role, node.platform.os, node.platform.arch,
// node.labels.<name>, engine.labels.<name>; all but the label's name without regard to case. A key
// that is none of these parses and never matches. A missing label or description compares as "".
class Constraint {
 public:
  // INVALID_ARGUMENT "constraint expected one operator from ==, !=", "key 'k' is invalid" or
  // "value 'v' is invalid".
  static Result<Constraint> parse(std::string_view text);

  bool matches(const NodeFacts& node) const;
  // Canonical form, "key==value".
  std::string text() const;
  // For people: "key == value", and what a node has there: "the label is absent", "it is worker".
  std::string words() const;
  std::string finding(const NodeFacts& node) const;

  const std::string& key() const { return key_; }
  const std::string& value() const { return value_; }
  bool equal() const { return equal_; }

 private:
  enum class Subject {
    kId,
    kHostname,
    kIp,
    kRole,
    kOs,
    kArchitecture,
    kNodeLabel,
    kEngineLabel,
    kUnknown,
  };
  Constraint() = default;
  std::string_view actual(const NodeFacts& node) const;
  bool matches_ip(std::string_view address) const;

  Subject subject_ = Subject::kUnknown;
  bool equal_ = true;
  std::string key_;
  std::string label_;  // the label's name, for the two label subjects
  std::string value_;
  // node.ip: the wanted address and how many bits of it count; -1 when malformed.
  std::string ip_bytes_;
  int ip_prefix_ = -1;
};

// Parses a whole list; the error names the first bad item.
Result<std::vector<Constraint>> parse_constraints(
    const google::protobuf::RepeatedPtrField<std::string>& texts);
// Whether the node satisfies all of them.
bool matches_all(const std::vector<Constraint>& constraints, const NodeFacts& node);

// The value of a spread descriptor ("node.labels.zone", "engine.labels.rack") on a node; "" when
// the node has no such label.
std::string_view spread_value(std::string_view descriptor, const NodeFacts& node);
// Whether `descriptor` is one the scheduler knows; others are ignored, as Swarm does.
bool is_spread_descriptor(std::string_view descriptor);

}  // namespace muster::scheduler
