// What muster cannot honour. In the Specification dialect each of these is an error, or a warning
// with --ignore-unsupported; in v3 a warning.

#include <algorithm>

#include "deploy/compose/load_dialects.h"
#include "deploy/compose/schema.h"

namespace muster::deploy::compose {
namespace {

struct Unsupported {
  std::string_view path;
  std::string_view why;
};

constexpr std::string_view kNotSupported = "muster does not support this key";
constexpr std::string_view kOneHost = "it ties containers to one host";
constexpr std::string_view kNotInV3 = "it has no effect in files with a `version`";
constexpr std::string_view kAddress = "addresses are given out by muster";

constexpr Unsupported kInSpec[] = {
    {"models", kNotSupported},
    {"services.*.annotations", kNotSupported},
    {"services.*.blkio_config", kNotSupported},
    {"services.*.build", "muster does not build images; the image named by `image` is used"},
    {"services.*.cgroup_parent", kNotSupported},
    {"services.*.container_name", "containers are named after their task"},
    {"services.*.cpu_count", "use deploy.resources.limits.cpus"},
    {"services.*.cpu_percent", "use deploy.resources.limits.cpus"},
    {"services.*.cpu_rt_period", kNotSupported},
    {"services.*.cpu_rt_runtime", kNotSupported},
    {"services.*.cpu_shares", "use deploy.resources.reservations.cpus"},
    {"services.*.cpuset", kNotSupported},
    {"services.*.credential_spec", "it is for Windows containers"},
    {"services.*.develop", "it is for development on one machine"},
    {"services.*.device_cgroup_rules", kNotSupported},
    {"services.*.domainname", kNotSupported},
    {"services.*.driver_opts", kNotSupported},
    {"services.*.external_links", "attach the service to an external network instead"},
    {"services.*.gpus", "reserve them with deploy.resources.reservations.generic_resources"},
    {"services.*.mac_address", kAddress},
    {"services.*.models", kNotSupported},
    {"services.*.networks.*.gw_priority", kNotSupported},
    {"services.*.networks.*.interface_name", kNotSupported},
    {"services.*.networks.*.ipv4_address", kAddress},
    {"services.*.networks.*.ipv6_address", kAddress},
    {"services.*.networks.*.link_local_ips", kAddress},
    {"services.*.networks.*.mac_address", kAddress},
    {"services.*.networks.*.priority", kNotSupported},
    {"services.*.oom_kill_disable", kNotSupported},
    {"services.*.post_start", kNotSupported},
    {"services.*.pre_stop", kNotSupported},
    {"services.*.provider", kNotSupported},
    {"services.*.pull_refresh_after", kNotSupported},
    {"services.*.runtime", "the runtime is a setting of the node"},
    {"services.*.storage_opt", kNotSupported},
    {"services.*.use_api_socket", kNotSupported},
    {"services.*.volumes.[].bind.selinux", kNotSupported},
    {"services.*.volumes_from", kOneHost},
    {"services.*.deploy.resources.reservations.devices",
     "reserve them with deploy.resources.reservations.generic_resources"},
    {"networks.*.ipam.options", kNotSupported},
    {"secrets.*.driver", "secrets are kept by muster itself"},
    {"secrets.*.driver_opts", "secrets are kept by muster itself"},
};

constexpr Unsupported kInV3[] = {
    {"services.*.credential_spec", "it is for Windows containers"},
    {"services.*.volumes.[].bind.recursive", kNotInV3},
    {"services.*.volumes.[].tmpfs.mode", kNotInV3},
    {"services.*.volumes.[].volume.labels", kNotInV3},
    {"services.*.volumes.[].volume.subpath", kNotInV3},
    {"secrets.*.driver", "secrets are kept by muster itself"},
    {"volumes.*.x-cluster-spec", kNotSupported},
};

// Keys of which some values are honoured.
struct Values {
  std::string_view path;
  std::initializer_list<std::string_view> honoured;
  std::string_view why;
};

const Values kValuesInSpec[] = {
    {"services.*.cgroup", {"private"}, "only private is supported"},
    {"services.*.ipc", {"", "host", "private", "shareable", "none"}, "only host is supported"},
    {"services.*.isolation", {"", "default"}, "it is for Windows containers"},
    {"services.*.network_mode",
     {"", "host", "none", "bridge"},
     "only host, none and bridge are supported"},
    {"services.*.pid", {"", "host", "private"}, "only host is supported"},
    {"services.*.pull_policy",
     {"", "missing", "if_not_present"},
     "nodes pull what they do not have; name a new tag or a digest"},
    {"services.*.userns_mode", {"", "host"}, "user namespaces are not supported"},
    {"services.*.uts", {"", "private"}, kNotSupported},
    {"services.*.volumes.[].type",
     {"", "volume", "bind", "tmpfs", "image"},
     "only volume, bind, tmpfs and image are supported"},
    {"services.*.volumes.[].bind.recursive",
     {"", "enabled", "disabled", "writable", "readonly"},
     "only enabled, disabled, writable and readonly are known"},
    {"networks.*.enable_ipv4", {"true"}, "networks always have IPv4"},
};

const Values kValuesInV3[] = {
    {"services.*.isolation", {"", "default"}, "it is for Windows containers"},
    {"services.*.volumes.[].type",
     {"", "volume", "bind", "tmpfs"},
     "only volume, bind and tmpfs are supported"},
};

class Finder {
 public:
  Finder(Dialect dialect, bool raw) : spec_(dialect == Dialect::kSpec), raw_(raw) {}

  std::vector<std::string> run(const Node& document) {
    walk(document, document.at);
    return std::move(found_);
  }

 private:
  void report(const Position& at, std::string_view why) {
    found_.push_back(error_at(at, fmt::format("{}: {}", join_path(path_), why)).message());
  }

  // The Specification clears what the image has with an empty list; specs have no word for it.
  void check_command(const Node& service) {
    const auto empty = [&service](std::string_view key) {
      const Node* words = service.find(key);
      return words != nullptr && words->is_list() && words->items.empty() ? words : nullptr;
    };
    const auto report_key = [this](const Node& words, std::string_view key) {
      path_.emplace_back(key);
      report(words.at, "an empty one has no effect, the image's is used");
      path_.pop_back();
    };
    const Node* entrypoint = service.find("entrypoint");
    const bool own = entrypoint != nullptr && !entrypoint->is_zero();
    if (const Node* words = empty("entrypoint")) report_key(*words, "entrypoint");
    if (const Node* words = empty("command"); words != nullptr && !own) {
      report_key(*words, "command");
    }
  }

  // True when the place was reported, so that nothing below it is.
  bool check(const Node& node, const Position& at) {
    if (node.is_null()) return false;
    const auto rules = spec_ ? std::pair(std::begin(kInSpec), std::end(kInSpec))
                             : std::pair(std::begin(kInV3), std::end(kInV3));
    for (const Unsupported* rule = rules.first; rule != rules.second; ++rule) {
      if (!path_matches(path_, rule->path)) continue;
      report(at, rule->why);
      return true;
    }
    if (raw_ && node.is_string() && node.text.find('$') != std::string::npos) return false;
    const auto values = spec_ ? std::pair(std::begin(kValuesInSpec), std::end(kValuesInSpec))
                              : std::pair(std::begin(kValuesInV3), std::end(kValuesInV3));
    for (const Values* rule = values.first; rule != values.second; ++rule) {
      if (!path_matches(path_, rule->path)) continue;
      const std::string text = node.scalar_text();
      if (std::count(rule->honoured.begin(), rule->honoured.end(), text) == 0) {
        report(at, fmt::format("\"{}\": {}", text, rule->why));
      }
    }
    if (spec_ && path_matches(path_, "services.*.links.[]")) {
      const size_t colon = node.text.find(':');
      if (colon != std::string::npos && node.text.substr(0, colon) != node.text.substr(colon + 1)) {
        report(at, "use an alias in `networks` instead");
      }
    }
    if (spec_ && path_matches(path_, "services.*")) check_command(node);
    if (path_matches(path_, "services.*.extra_hosts.[]")) {
      if (node.text.ends_with(":host-gateway")) {
        report(at, "host-gateway has no address on a cluster");
      } else if (node.text.find(':') == std::string::npos) {
        report(at, fmt::format("\"{}\" names no address", node.text));
      }
    }
    return false;
  }

  void walk(const Node& node, const Position& at) {
    if (path_.size() > 8 || (!path_.empty() && check(node, at))) return;
    for (size_t i = 0; i < node.items.size(); ++i) {
      path_.push_back(std::to_string(i));
      walk(node.items[i], node.items[i].at);
      path_.pop_back();
    }
    for (const Member& member : node.members) {
      const bool extension = member.key.starts_with("x-");
      if (extension && spec_) continue;
      path_.push_back(member.key);
      walk(member.value, member.key_at);
      path_.pop_back();
    }
  }

  bool spec_;
  bool raw_;
  std::vector<std::string> path_;
  std::vector<std::string> found_;
};

}  // namespace

std::vector<std::string> unsupported_keys(const Node& document, Dialect dialect, bool raw) {
  return Finder(dialect, raw).run(document);
}

}  // namespace muster::deploy::compose
