#include "scheduler/constraint.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace muster::scheduler {
namespace {

constexpr std::string_view kNodeLabels = "node.labels.";
constexpr std::string_view kEngineLabels = "engine.labels.";

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
bool is_alpha(char c) {
  return lower(c) >= 'a' && lower(c) <= 'z';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

bool equal_fold(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

bool has_prefix_fold(std::string_view text, std::string_view prefix) {
  return text.size() > prefix.size() && equal_fold(text.substr(0, prefix.size()), prefix);
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

bool valid_key(std::string_view key) {
  if (key.size() < 2 || !(is_alpha(key[0]) || key[0] == '_')) return false;
  return std::all_of(key.begin() + 1, key.end(), [](char c) {
    return is_alpha(c) || is_digit(c) || c == '-' || c == '_' || c == '.';
  });
}

bool valid_value(std::string_view value) {
  constexpr std::string_view kOthers = ":-_.*()?+[]\\^$|/";
  return !value.empty() && std::all_of(value.begin(), value.end(), [&](char c) {
    return is_alpha(c) || is_digit(c) || is_space(c) || kOthers.find(c) != std::string_view::npos;
  });
}

// 16 bytes, IPv4 mapped into IPv6 so that both spellings of an address are equal.
std::optional<std::string> parse_address(std::string_view text) {
  std::string zero_ended(text);
  in_addr v4{};
  if (inet_pton(AF_INET, zero_ended.c_str(), &v4) == 1) {
    std::string bytes("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    bytes.append(reinterpret_cast<const char*>(&v4), 4);
    return bytes;
  }
  in6_addr v6{};
  if (inet_pton(AF_INET6, zero_ended.c_str(), &v6) == 1) {
    return std::string(reinterpret_cast<const char*>(&v6), 16);
  }
  return std::nullopt;
}

bool same_prefix(std::string_view a, std::string_view b, int bits) {
  const size_t whole = static_cast<size_t>(bits) / 8;
  if (a.substr(0, whole) != b.substr(0, whole)) return false;
  const int rest = bits % 8;
  if (rest == 0) return true;
  const auto differing = static_cast<unsigned char>(a[whole] ^ b[whole]);
  return (differing >> (8 - rest)) == 0;
}

// "10.0.0.7:2377" and "[fd00::7]:2377" without their ports.
std::string without_port(const std::string& address) {
  if (address.empty() || parse_address(address)) return address;
  if (address.front() == '[') return address.substr(1, address.find(']') - 1);
  return address.substr(0, address.rfind(':'));
}

using Labels = std::vector<std::pair<std::string, std::string>>;

std::string_view find_label(const Labels& labels, std::string_view key) {
  auto it = std::lower_bound(labels.begin(), labels.end(), key,
                             [](const auto& label, std::string_view k) { return label.first < k; });
  if (it == labels.end() || it->first != key) return {};
  return it->second;
}

Labels labels_of(const google::protobuf::RepeatedPtrField<v1::KeyValue>& pairs) {
  Labels labels;
  labels.reserve(static_cast<size_t>(pairs.size()));
  for (const auto& pair : pairs) labels.emplace_back(pair.key(), pair.value());
  std::sort(labels.begin(), labels.end());
  return labels;
}

}  // namespace

NodeFacts facts_of(const v1::Node& node) {
  NodeFacts facts;
  facts.id = node.id();
  facts.hostname = node.description().hostname();
  facts.address = without_port(node.status().address());
  facts.manager = node.role() == v1::NodeSpec::MANAGER;
  facts.os = node.description().platform().os();
  facts.architecture = node.description().platform().architecture();
  facts.node_labels = labels_of(node.spec().annotations().labels());
  facts.engine_labels = labels_of(node.description().engine().labels());
  return facts;
}

Result<Constraint> Constraint::parse(std::string_view text) {
  Constraint c;
  size_t at = text.find("==");
  if (at == std::string_view::npos) {
    c.equal_ = false;
    at = text.find("!=");
  }
  if (at == std::string_view::npos) {
    return fail(invalid_argument("constraint expected one operator from ==, !="));
  }
  c.key_ = trim(text.substr(0, at));
  c.value_ = trim(text.substr(at + 2));
  if (!valid_key(c.key_)) return fail(invalid_argument("key '{}' is invalid", c.key_));
  if (!valid_value(c.value_)) return fail(invalid_argument("value '{}' is invalid", c.value_));

  if (equal_fold(c.key_, "node.id")) {
    c.subject_ = Subject::kId;
  } else if (equal_fold(c.key_, "node.hostname")) {
    c.subject_ = Subject::kHostname;
  } else if (equal_fold(c.key_, "node.ip")) {
    c.subject_ = Subject::kIp;
    const size_t slash = c.value_.find('/');
    if (auto address = parse_address(c.value_.substr(0, slash))) {
      const bool v4 = c.value_.find(':') == std::string::npos;
      int bits = v4 ? 32 : 128;
      bool good = true;
      if (slash != std::string::npos) {
        const char* end = c.value_.data() + c.value_.size();
        auto [stop, error] = std::from_chars(c.value_.data() + slash + 1, end, bits);
        good = error == std::errc() && stop == end && bits >= 0 && bits <= (v4 ? 32 : 128);
      }
      if (good) {
        c.ip_bytes_ = *address;
        c.ip_prefix_ = v4 ? bits + 96 : bits;
      }
    }
  } else if (equal_fold(c.key_, "node.role")) {
    c.subject_ = Subject::kRole;
  } else if (equal_fold(c.key_, "node.platform.os")) {
    c.subject_ = Subject::kOs;
  } else if (equal_fold(c.key_, "node.platform.arch")) {
    c.subject_ = Subject::kArchitecture;
  } else if (has_prefix_fold(c.key_, kNodeLabels)) {
    c.subject_ = Subject::kNodeLabel;
    c.label_ = c.key_.substr(kNodeLabels.size());
  } else if (has_prefix_fold(c.key_, kEngineLabels)) {
    c.subject_ = Subject::kEngineLabel;
    c.label_ = c.key_.substr(kEngineLabels.size());
  }
  return c;
}

bool Constraint::matches_ip(std::string_view address) const {
  // A malformed address or network matches nothing, whatever the operator.
  if (ip_prefix_ < 0) return false;
  auto bytes = parse_address(address);
  const bool inside = bytes && same_prefix(*bytes, ip_bytes_, ip_prefix_);
  return inside == equal_;
}

std::string_view Constraint::actual(const NodeFacts& node) const {
  switch (subject_) {
    case Subject::kId: return node.id;
    case Subject::kHostname: return node.hostname;
    case Subject::kIp: return node.address;
    case Subject::kRole: return node.manager ? "manager" : "worker";
    case Subject::kOs: return node.os;
    case Subject::kArchitecture: return node.architecture;
    case Subject::kNodeLabel: return find_label(node.node_labels, label_);
    case Subject::kEngineLabel: return find_label(node.engine_labels, label_);
    case Subject::kUnknown: break;
  }
  return {};
}

bool Constraint::matches(const NodeFacts& node) const {
  if (subject_ == Subject::kUnknown) return false;
  if (subject_ == Subject::kIp) return matches_ip(node.address);
  return equal_fold(actual(node), value_) == equal_;
}

std::string Constraint::words() const {
  return key_ + (equal_ ? " == " : " != ") + value_;
}

std::string Constraint::finding(const NodeFacts& node) const {
  if (subject_ == Subject::kUnknown) return "no node has such a property";
  if (subject_ == Subject::kIp && ip_prefix_ < 0) return "no address or network";
  const bool label = subject_ == Subject::kNodeLabel || subject_ == Subject::kEngineLabel;
  const std::string_view is = actual(node);
  if (is.empty()) return label ? "the label is absent" : "the node has not said what it is";
  return std::string(label ? "the label is " : "it is ").append(is);
}

std::string Constraint::text() const {
  return key_ + (equal_ ? "==" : "!=") + value_;
}

Result<std::vector<Constraint>> parse_constraints(
    const google::protobuf::RepeatedPtrField<std::string>& texts) {
  std::vector<Constraint> all;
  for (const std::string& text : texts) {
    MUSTER_ASSIGN(auto one, Constraint::parse(text));
    all.push_back(std::move(one));
  }
  return all;
}

bool matches_all(const std::vector<Constraint>& constraints, const NodeFacts& node) {
  return std::all_of(constraints.begin(), constraints.end(),
                     [&](const Constraint& c) { return c.matches(node); });
}

bool is_spread_descriptor(std::string_view descriptor) {
  return has_prefix_fold(descriptor, kNodeLabels) || has_prefix_fold(descriptor, kEngineLabels);
}

std::string_view spread_value(std::string_view descriptor, const NodeFacts& node) {
  if (has_prefix_fold(descriptor, kNodeLabels)) {
    return find_label(node.node_labels, descriptor.substr(kNodeLabels.size()));
  }
  if (has_prefix_fold(descriptor, kEngineLabels)) {
    return find_label(node.engine_labels, descriptor.substr(kEngineLabels.size()));
  }
  return {};
}

}  // namespace muster::scheduler
