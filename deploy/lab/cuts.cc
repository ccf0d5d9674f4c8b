#include "deploy/lab/cuts.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace muster::deploy::lab {
namespace {

constexpr std::string_view kTable = "inet muster_lab";

std::string known_nodes(const LabPlan& plan) {
  std::vector<std::string_view> names;
  for (const NodePlan& node : plan.nodes) names.push_back(node.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Result<std::vector<std::string>> parse_group(const LabPlan& plan, std::string_view text) {
  std::vector<std::string> group;
  for (bool more = true; more;) {
    const size_t comma = text.find(',');
    const std::string name(text.substr(0, comma));
    more = comma != std::string_view::npos;
    if (more) text.remove_prefix(comma + 1);
    if (plan.find(name) == nullptr) {
      return fail(
          not_found("lab {} has no node \"{}\": it has {}", plan.name, name, known_nodes(plan)));
    }
    if (std::find(group.begin(), group.end(), name) == group.end()) group.push_back(name);
  }
  return group;
}

std::vector<std::string> others(const LabPlan& plan, const std::vector<std::string>& group) {
  std::vector<std::string> rest;
  for (const NodePlan& node : plan.nodes) {
    if (node.role == Role::kRegistry) continue;
    if (std::find(group.begin(), group.end(), node.name) == group.end()) rest.push_back(node.name);
  }
  return rest;
}

Status add_cuts(Cuts& cuts, const std::vector<std::string>& a, const std::vector<std::string>& b,
                bool one_way, Cut kind) {
  for (const std::string& node : a) {
    if (std::find(b.begin(), b.end(), node) != b.end()) {
      return invalid_argument("{} is on both sides: a node cannot be cut off from itself", node);
    }
  }
  for (const std::string& from : a) {
    for (const std::string& to : b) {
      cuts[{from, to}] = kind;
      if (!one_way) cuts[{to, from}] = kind;
    }
  }
  return ok_status();
}

size_t heal_cuts(Cuts& cuts, const std::vector<std::string>& a, const std::vector<std::string>& b) {
  size_t healed = 0;
  for (const std::string& one : a) {
    for (const std::string& other : b) {
      healed += cuts.erase({one, other});
      healed += cuts.erase({other, one});
    }
  }
  return healed;
}

std::string describe_cuts(const Cuts& cuts, std::string_view node) {
  std::set<std::string> hears_not, reaches_not;
  for (const auto& [pair, kind] : cuts) {
    if (pair.second == node) hears_not.insert(pair.first);
    if (pair.first == node) reaches_not.insert(pair.second);
  }
  std::set<std::string> all = hears_not;
  all.insert(reaches_not.begin(), reaches_not.end());
  std::vector<std::string> parts;
  for (const std::string& other : all) {
    if (!hears_not.contains(other)) {
      parts.push_back(fmt::format("{} (to it)", other));
    } else if (!reaches_not.contains(other)) {
      parts.push_back(fmt::format("{} (from it)", other));
    } else {
      parts.push_back(other);
    }
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string cut_rules(const LabPlan& plan, const Cuts& cuts, std::string_view node) {
  std::vector<std::string> silent, refused;
  for (const auto& [pair, kind] : cuts) {
    if (pair.second != node) continue;
    const NodePlan* from = plan.find(pair.first);
    if (from == nullptr) continue;
    (kind == Cut::kSilent ? silent : refused).push_back(from->address.str());
  }
  // Adding it first makes the deletion right whether there was one or not.
  std::string text = fmt::format("add table {0}\ndelete table {0}\n", kTable);
  if (silent.empty() && refused.empty()) return text;
  text += fmt::format("table {} {{\n", kTable);
  if (!silent.empty()) {
    text += fmt::format(
        "  chain silent {{\n"
        "    type filter hook prerouting priority -300; policy accept;\n"
        "    ip saddr {{ {} }} drop\n"
        "  }}\n",
        fmt::join(silent, ", "));
  }
  if (!refused.empty()) {
    // What is refused is told by a reset, which has to pass the same rules at the other end.
    text +=
        "  chain refuse {\n"
        "    tcp flags & rst == rst accept\n"
        "    meta l4proto tcp reject with tcp reset\n"
        "    reject\n"
        "  }\n";
    for (const std::string_view hook : {"input", "forward"}) {
      text += fmt::format(
          "  chain refuse_{0} {{\n"
          "    type filter hook {0} priority -300; policy accept;\n"
          "    ip saddr {{ {1} }} jump refuse\n"
          "  }}\n",
          hook, fmt::join(refused, ", "));
    }
  }
  return text + "}\n";
}

}  // namespace muster::deploy::lab
