#include "deploy/compose/merge.h"

#include <algorithm>
#include <map>
#include <string>

#include "deploy/compose/schema.h"

namespace muster::deploy::compose {
namespace {

using Path = std::vector<std::string>;

bool any_match(const Path& path, std::initializer_list<std::string_view> patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&path](std::string_view pattern) { return path_matches(path, pattern); });
}

std::string text_at(const Node& node, std::string_view key, std::string_view otherwise = "") {
  const Node* found = node.find(key);
  return found == nullptr || found->is_null() ? std::string(otherwise) : found->scalar_text();
}

// The other side's logging replaces this one's when both name a driver and not the same.
bool other_driver(const Node& base, const Node& over) {
  const std::string a = text_at(base, "driver");
  const std::string b = text_at(over, "driver");
  return !a.empty() && !b.empty() && a != b;
}

std::string port_key(const Node& port) {
  const std::string bind = text_at(port, "host_ip", text_at(port, "x-bind", "0.0.0.0"));
  return fmt::format("{}:{}:{}/{}", bind, text_at(port, "published"), text_at(port, "target"),
                     text_at(port, "protocol", "tcp"));
}

bool replaces(const Path& path) {
  return any_match(path,
                   {"services.*.command", "services.*.entrypoint", "services.*.healthcheck.test"});
}

// -------------------------------------------------------------- v3

class V3Merge {
 public:
  void members(Node& base, const Node& over) {
    for (const Member& member : over.members) {
      path_.push_back(member.key);
      Node* mine = base.find(member.key);
      if (mine == nullptr) {
        base.members.push_back(member);
      } else {
        value(*mine, member.value);
      }
      path_.pop_back();
    }
  }

 private:
  void value(Node& base, const Node& over) {
    if (counts()) {
      if (!over.is_null()) base = over;
      return;
    }
    if (pairs()) {
      // Entries of a mapping count even when they are empty.
      for (const Member& member : over.members) base.set(member.key, member.value);
      return;
    }
    if (over.is_zero()) return;
    if (replaces(path_) || whole() || base.kind != over.kind) {
      base = over;
    } else if (any_match(path_, {"services.*.logging"}) && other_driver(base, over)) {
      base = over;
    } else if (any_match(path_, {"services.*.networks.*"})) {
      base.erase("aliases");
      members(base, over);
    } else if (base.is_map()) {
      members(base, over);
    } else if (base.is_list()) {
      list(base, over);
    } else {
      base = over;
    }
  }

  // Numbers of which 0 says something.
  bool counts() const {
    return any_match(
        path_, {"services.*.deploy.replicas", "services.*.deploy.*.parallelism",
                "services.*.deploy.restart_policy.max_attempts", "services.*.healthcheck.retries"});
  }

  // What one file says entirely.
  bool whole() const {
    return any_match(path_,
                     {"services.*.ulimits.*", "networks.*", "volumes.*", "secrets.*", "configs.*"});
  }

  bool pairs() const {
    return any_match(path_,
                     {"services.*.environment", "services.*.labels", "services.*.deploy.labels",
                      "services.*.sysctls", "services.*.logging.options"});
  }

  void list(Node& base, const Node& over) {
    if (any_match(path_, {"services.*.ports"})) {
      std::map<std::string, size_t> places;
      const auto key = [](const Node& port) {
        return port_key(port) + "/" + text_at(port, "mode", "ingress");
      };
      for (size_t i = 0; i < base.items.size(); ++i) places.emplace(key(base.items[i]), i);
      for (const Node& port : over.items) {
        if (places.emplace(key(port), base.items.size()).second) base.items.push_back(port);
      }
      std::stable_sort(base.items.begin(), base.items.end(), [](const Node& a, const Node& b) {
        return number(a, "published") < number(b, "published");
      });
      return;
    }
    const bool volumes = any_match(path_, {"services.*.volumes"});
    if (!volumes && !any_match(path_, {"services.*.secrets", "services.*.configs"})) {
      base.items.insert(base.items.end(), over.items.begin(), over.items.end());
      return;
    }
    const std::string_view key = volumes ? "target" : "source";
    for (const Node& item : over.items) {
      const auto mine = std::find_if(base.items.begin(), base.items.end(), [&](const Node& node) {
        return text_at(node, key) == text_at(item, key);
      });
      if (mine == base.items.end()) {
        base.items.push_back(item);
      } else {
        *mine = item;
      }
    }
    std::stable_sort(base.items.begin(), base.items.end(), [key](const Node& a, const Node& b) {
      return text_at(a, key) < text_at(b, key);
    });
  }

  static int64_t number(const Node& port, std::string_view key) {
    const Node* found = port.find(key);
    return found == nullptr ? 0 : found->number;
  }

  Path path_;
};

// -------------------------------------------------------------- the Compose Specification

// Where a secret or config of a service is mounted.
std::string file_target(const Node& item, std::string_view dir) {
  const std::string target = text_at(item, "target", text_at(item, "source"));
  return target.starts_with('/') ? target : std::string(dir) + target;
}

// What makes two items of a list the same thing; the later one wins.
std::string identity(const Path& path, const Node& item) {
  if (any_match(path, {"services.*.tmpfs"})) return item.text.substr(0, item.text.find(':'));
  if (item.is_scalar()) return item.scalar_text();
  if (any_match(path, {"services.*.ports"})) return port_key(item);
  if (any_match(path, {"services.*.volumes", "services.*.devices"})) {
    return text_at(item, "target", text_at(item, "source"));
  }
  if (any_match(path, {"services.*.secrets"})) return file_target(item, "/run/secrets/");
  if (any_match(path, {"services.*.configs"})) return file_target(item, "/");
  if (any_match(path, {"services.*.env_file"})) return text_at(item, "path");
  if (any_match(path, {"networks.*.ipam.config"})) return text_at(item, "subnet");
  return write_yaml(item);
}

// Lists in which a repeat says nothing new.
bool is_set(const Path& path) {
  return any_match(path, {"services.*.cap_add", "services.*.cap_drop", "services.*.dns",
                          "services.*.dns_opt", "services.*.dns_search", "services.*.env_file",
                          "services.*.expose", "services.*.group_add", "services.*.label_file",
                          "services.*.links", "services.*.networks.*.aliases", "services.*.ports",
                          "services.*.profiles", "services.*.security_opt", "services.*.tmpfs"});
}

class SpecMerge {
 public:
  // Of items that are the same thing the last one stays, in the place of the first.
  Status drop_repeats(Node& node) {
    if (node.is_list() && is_set(path_)) {
      const std::vector<Node> items = std::move(node.items);
      node.items.clear();
      return append(node, items);
    }
    for (Member& member : node.members) {
      if (path_.size() > 4) break;
      path_.push_back(member.key);
      MUSTER_TRY(drop_repeats(member.value));
      path_.pop_back();
    }
    return {};
  }

  Status members(Node& base, const Node& over) {
    for (const Member& member : over.members) {
      path_.push_back(member.key);
      Node* mine = base.find(member.key);
      if (member.value.tag == Node::Tag::kReset) {
        base.erase(member.key);
      } else if (mine == nullptr || member.value.tag == Node::Tag::kOverride ||
                 member.key.starts_with("x-")) {
        base.set(member.key, member.value);
      } else {
        MUSTER_TRY(value(*mine, member.value));
      }
      path_.pop_back();
    }
    return {};
  }

 private:
  Status value(Node& base, const Node& over) {
    const bool plain = base.is_scalar() && over.is_scalar();
    if (plain || base.is_null() || replaces(path_)) {
      base = over;
      return {};
    }
    if (over.is_null()) return {};
    if (any_match(path_, {"services.*.ulimits.*"}) && (!base.is_map() || !over.is_map())) {
      base = over;
      return {};
    }
    if (any_match(path_, {"services.*.logging"}) && other_driver(base, over)) {
      base = over;
      return {};
    }
    if (base.is_map() && over.is_map()) return members(base, over);
    if (base.is_list() && over.is_list()) {
      return append(base, over.items);
    }
    return error_at(over.at, fmt::format("cannot override {}: a {} by a {}", join_path(path_),
                                         kind_name(base), kind_name(over)));
  }

  Status append(Node& base, const std::vector<Node>& more) {
    std::map<std::string, size_t> places;
    for (size_t i = 0; i < base.items.size(); ++i) {
      places.emplace(identity(path_, base.items[i]), i);
    }
    for (const Node& item : more) {
      const auto [place, fresh] = places.emplace(identity(path_, item), base.items.size());
      if (fresh) {
        base.items.push_back(item);
      } else if (any_match(path_, {"networks.*.ipam.config"})) {
        // A pool keeps what only the earlier file says of it.
        MUSTER_TRY(members(base.items[place->second], item));
      } else {
        base.items[place->second] = item;
      }
    }
    return {};
  }

  static std::string_view kind_name(const Node& node) {
    return node.is_map() ? "mapping" : node.is_list() ? "list" : "plain value";
  }

  Path path_;
};

}  // namespace

void merge_v3(Node& base, const Node& over) {
  V3Merge().members(base, over);
}

Status merge_spec(Node& base, const Node& over) {
  return SpecMerge().members(base, over);
}

Status drop_repeats(Node& document) {
  return SpecMerge().drop_repeats(document);
}

void drop_merge_tags(Node& document) {
  document.tag = Node::Tag::kNone;
  std::erase_if(document.members,
                [](const Member& member) { return member.value.tag == Node::Tag::kReset; });
  std::erase_if(document.items, [](const Node& item) { return item.tag == Node::Tag::kReset; });
  for (Member& member : document.members) drop_merge_tags(member.value);
  for (Node& item : document.items) drop_merge_tags(item);
}

}  // namespace muster::deploy::compose
