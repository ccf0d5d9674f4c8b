#include "deploy/compose/schema.h"

#include <algorithm>
#include <map>
#include <memory>

#include "base/time.h"
#include "deploy/compose/loader.h"

namespace muster::deploy::compose {
namespace {

// The rules as a tree of path segments.
struct Place {
  const SchemaRule* rule = nullptr;
  std::map<std::string, std::unique_ptr<Place>, std::less<>> children;

  const Place* child(std::string_view segment) const {
    const auto found = children.find(segment);
    return found == children.end() ? nullptr : found->second.get();
  }
};

std::unique_ptr<Place> make_places() {
  auto root = std::make_unique<Place>();
  for (const SchemaRule& rule : schema_rules()) {
    Place* at = root.get();
    std::string_view rest = rule.path;
    while (!rest.empty()) {
      const size_t dot = rest.find('.');
      std::unique_ptr<Place>& next = at->children[std::string(rest.substr(0, dot))];
      if (!next) next = std::make_unique<Place>();
      at = next.get();
      rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
    }
    at->rule = &rule;
  }
  return root;
}

const Place& places() {
  static const std::unique_ptr<Place> root = make_places();
  return *root;
}

unsigned type_of(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull: return kZ;
    case Node::Kind::kBool: return kB;
    case Node::Kind::kInt: return kI | kN;
    case Node::Kind::kFloat: return kN;
    case Node::Kind::kString: return kS;
    case Node::Kind::kList: return kL;
    case Node::Kind::kMap: return kM;
  }
  return 0;
}

std::string type_names(unsigned types) {
  std::vector<std::string_view> names;
  if (types & kM) names.push_back("mapping");
  if (types & kL) names.push_back("list");
  if (types & kS) names.push_back("string");
  if (types & kN) names.push_back("number");
  if ((types & kI) && !(types & kN)) names.push_back("integer");
  if (types & kB) names.push_back("boolean");
  if ((types & kZ) && !(types & kM)) names.push_back("null");
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += i + 1 == names.size() ? " or " : ", ";
    out += names[i];
  }
  return out;
}

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

class Validator {
 public:
  Validator(Dialect dialect, int v3_minor, bool raw)
      : v3_(dialect == Dialect::kV3), raw_(raw), minor_(v3_minor) {}

  std::vector<SchemaProblem> run(const Node& document) {
    if (!document.is_map()) {
      add(document.at, "top-level object must be a mapping", false);
    } else {
      walk_members(document, places(), Check::kNone);
    }
    return std::move(problems_);
  }

 private:
  bool exists(const SchemaRule& rule) const {
    return v3_ ? rule.v3 != 0 && rule.since <= minor_ : rule.spec != 0;
  }
  unsigned types(const SchemaRule& rule) const { return v3_ ? rule.v3 : rule.spec; }

  std::string name() const { return path_.empty() ? "(root)" : join_path(path_); }

  void add(const Position& at, std::string message, bool wrong_type) {
    problems_.push_back({path_.size(), wrong_type, at, std::move(message)});
  }

  void walk(const Node& node, const Place& place) {
    const SchemaRule& rule = *place.rule;
    const unsigned wanted = types(rule);
    // What a merge tag empties or replaces later has any shape.
    if (node.tag == Node::Tag::kReset) return;
    const bool variable = node.is_string() && node.text.find('$') != std::string::npos;
    if (raw_ && variable && (wanted & (kS | kI | kN | kB)) != 0) return;
    if ((type_of(node) & wanted) == 0) {
      std::string message = fmt::format("{} must be a {}", name(), type_names(wanted));
      if (v3_ && !node.is_scalar() && (type_of(node) & rule.spec) != 0) {
        message +=
            "\n(the Compose Specification takes it: remove `version` from the file to use it)";
      }
      add(node.at, std::move(message), true);
      return;
    }
    check_scalar(node, rule);
    if (node.is_map()) {
      if (rule.check == Check::kPairs) return walk_pairs(node);
      if (rule.check == Check::kOptions) return walk_options(node);
      if (rule.check == Check::kOpen) return;
      walk_members(node, place, rule.check);
      check_required(node, rule);
    } else if (node.is_list()) {
      if (rule.check == Check::kStrings || rule.check == Check::kPairs) check_strings(node);
      if (v3_ && rule.check != Check::kNone) check_unique(node);
      const Place* items = place.child("[]");
      for (size_t i = 0; items != nullptr && i < node.items.size(); ++i) {
        path_.push_back(std::to_string(i));
        walk(node.items[i], *items);
        path_.pop_back();
      }
    }
  }

  void check_scalar(const Node& node, const SchemaRule& rule) {
    if (!node.is_string()) return;
    if (rule.check == Check::kDuration && !parse_duration(node.text)) {
      add(node.at, fmt::format("{} Does not match format 'duration'", name()), false);
    }
    if (rule.check == Check::kOrder && node.text != "start-first" && node.text != "stop-first") {
      add(node.at,
          fmt::format("{} must be one of the following: \"start-first\", \"stop-first\"", name()),
          false);
    }
  }

  void check_required(const Node& node, const SchemaRule& rule) {
    const auto require = [&](std::string_view key) {
      if (node.find(key) != nullptr) return;
      add(node.at, fmt::format("{} {} is required", name(), key), false);
    };
    if (rule.path == "services.*.volumes.[]") require("type");
    if (rule.path == "services.*.ulimits.*") {
      require("soft");
      require("hard");
    }
    if (rule.path == "services.*.extends") require("service");
    if (rule.path == "services.*.env_file.[]" || rule.path == "include.[]") require("path");
    if (rule.path == "services.*.devices.[]") require("source");
  }

  void check_strings(const Node& node) {
    for (size_t i = 0; i < node.items.size(); ++i) {
      const Node& item = node.items[i];
      path_.push_back(std::to_string(i));
      if (!item.is_string()) add(item.at, name() + " must be a string", true);
      path_.pop_back();
    }
  }

  void check_unique(const Node& node) {
    std::map<std::string, size_t> seen;
    for (size_t i = 0; i < node.items.size(); ++i) {
      const auto [first, fresh] = seen.emplace(write_yaml(node.items[i]), i);
      if (fresh) continue;
      add(node.items[i].at,
          fmt::format("{} array items[{},{}] must be unique", name(), first->second, i), false);
    }
  }

  void walk_pairs(const Node& node) {
    const unsigned wanted = v3_ ? (kS | kN | kZ) : (kS | kN | kZ | kB);
    for (const Member& member : node.members) {
      if ((type_of(member.value) & wanted) != 0 || member.value.tag == Node::Tag::kReset) continue;
      path_.push_back(member.key);
      add(member.value.at, fmt::format("{} must be a {}", name(), type_names(wanted)), true);
      path_.pop_back();
    }
  }

  void walk_options(const Node& node) {
    const unsigned wanted = v3_ ? (kS | kN) : (kS | kN | kB);
    for (const Member& member : node.members) {
      if ((type_of(member.value) & wanted) != 0 || member.value.tag == Node::Tag::kReset) continue;
      path_.push_back(member.key);
      add(member.value.at, fmt::format("{} must be a {}", name(), type_names(wanted)), true);
      path_.pop_back();
    }
  }

  bool extension(std::string_view key, Check check) const {
    if (!key.starts_with("x-") || check == Check::kNames) return false;
    if (!v3_) return true;
    if (path_.empty()) return minor_ >= 4;
    // Muster's own of a port, in addition to what Docker's schema lets pass.
    const bool port = path_.size() == 4 && path_[2] == "ports";
    return minor_ >= 7 && (path_.size() == 2 || port);
  }

  void walk_members(const Node& node, const Place& place, Check check) {
    for (const Member& member : node.members) {
      if (extension(member.key, check)) continue;
      const Place* next = place.child(member.key);
      if (next == nullptr || check == Check::kNames) next = place.child("*");
      const bool named = check != Check::kNames || is_name(member.key);
      const bool known = next != nullptr && named && exists(*next->rule);
      if (!known && v3_ && check == Check::kLoose) continue;
      if (!known) {
        refuse(member, named ? next : nullptr);
        continue;
      }
      path_.push_back(member.key);
      walk(member.value, *next);
      path_.pop_back();
    }
  }

  void refuse(const Member& member, const Place* place) {
    std::string message =
        fmt::format("{} Additional property {} is not allowed", name(), member.key);
    if (v3_ && place != nullptr && place->rule->v3 != 0) {
      message +=
          fmt::format("\n(`{}` needs version 3.{} or later)", member.key, place->rule->since);
    } else if (v3_ && place != nullptr && place->rule->spec != 0) {
      message += fmt::format(
          "\n(`{}` belongs to the Compose Specification: remove `version` from the file to use it)",
          member.key);
    }
    add(member.key_at, std::move(message), false);
  }

  bool v3_;
  bool raw_;
  int minor_;
  std::vector<std::string> path_;
  std::vector<SchemaProblem> problems_;
};

}  // namespace

Status validate(const Node& document, Dialect dialect, int v3_minor, bool raw) {
  const std::vector<SchemaProblem> problems = Validator(dialect, v3_minor, raw).run(document);
  if (problems.empty()) return {};
  const SchemaProblem* worst = &problems[0];
  for (const SchemaProblem& problem : problems) {
    const bool deeper = problem.depth > worst->depth;
    const bool plainer = problem.depth == worst->depth && problem.wrong_type && !worst->wrong_type;
    if (deeper || plainer) worst = &problem;
  }
  return error_at(worst->at, worst->message);
}

const SchemaRule* find_rule(const std::vector<std::string>& path) {
  const Place* at = &places();
  for (const std::string& segment : path) {
    const bool digits =
        !segment.empty() && segment.find_first_not_of("0123456789") == std::string::npos;
    const Place* next = at->child(segment);
    if (next == nullptr && digits) next = at->child("[]");
    if (next == nullptr) next = at->child("*");
    if (next == nullptr) return nullptr;
    at = next;
  }
  return at->rule;
}

bool path_matches(const std::vector<std::string>& path, std::string_view pattern) {
  for (const std::string& segment : path) {
    if (pattern.empty()) return false;
    const size_t dot = pattern.find('.');
    const std::string_view want = pattern.substr(0, dot);
    const bool digits =
        !segment.empty() && segment.find_first_not_of("0123456789") == std::string::npos;
    if (want != "*" && want != segment && !(want == "[]" && digits)) return false;
    pattern = dot == std::string_view::npos ? std::string_view() : pattern.substr(dot + 1);
  }
  return pattern.empty();
}

std::string join_path(const std::vector<std::string>& path) {
  std::string out;
  for (const std::string& segment : path) {
    if (!out.empty()) out.push_back('.');
    out += segment;
  }
  return out;
}

}  // namespace muster::deploy::compose
