#include <arpa/inet.h>

#include <algorithm>
#include <filesystem>

#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"
#include "overlay/ipam/port_options.h"

namespace muster::deploy::cli {
namespace {

struct Pair {
  std::string key;  // lower case
  std::string value;
  bool has_value = false;
};

Result<std::vector<Pair>> parse_pairs(std::string_view text) {
  MUSTER_ASSIGN(const std::vector<std::string> fields, parse_csv(text));
  std::vector<Pair> pairs;
  for (const std::string& field : fields) {
    const size_t equals = field.find('=');
    Pair pair;
    pair.key = lower(field.substr(0, equals));
    pair.has_value = equals != std::string::npos;
    if (pair.has_value) pair.value = field.substr(equals + 1);
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

Result<bool> parse_switch(const Pair& pair) {
  if (!pair.has_value || pair.value == "true" || pair.value == "1") return true;
  if (pair.value == "false" || pair.value == "0") return false;
  return fail(invalid_argument("invalid value for {}: {}", pair.key, pair.value));
}

Result<uint32_t> parse_octal(std::string_view text) {
  uint32_t mode = 0;
  for (const char c : text) {
    if (c < '0' || c > '7' || mode > 07777)
      return fail(invalid_argument("\"{}\" is not a file mode in octal", text));
    mode = mode * 8 + static_cast<uint32_t>(c - '0');
  }
  return mode;
}

Result<uint32_t> parse_port(std::string_view text) {
  const auto port = parse_unsigned(text);
  if (!port || *port > 65535) return fail(invalid_argument("invalid port: {}", text));
  return static_cast<uint32_t>(*port);
}

Result<v1::PortConfig::Protocol> parse_protocol(std::string_view text) {
  const std::string word = lower(text);
  if (word == "tcp") return v1::PortConfig::TCP;
  if (word == "udp") return v1::PortConfig::UDP;
  if (word == "sctp") return v1::PortConfig::SCTP;
  return fail(invalid_argument("invalid protocol value '{}'", text));
}

struct Range {
  uint32_t first = 0;
  uint32_t last = 0;
};

Result<Range> parse_range(std::string_view text) {
  const size_t dash = text.find('-');
  Range range;
  MUSTER_ASSIGN(range.first, parse_port(text.substr(0, dash)));
  range.last = range.first;
  if (dash != std::string_view::npos) {
    MUSTER_ASSIGN(range.last, parse_port(text.substr(dash + 1)));
  }
  if (range.last < range.first) return fail(invalid_argument("invalid port range: {}", text));
  return range;
}

Result<std::vector<v1::PortConfig>> expand_ports(Range published, Range target,
                                                 const v1::PortConfig& model,
                                                 std::string_view text) {
  const uint32_t count = target.last - target.first;
  if (published.first != 0 && published.last - published.first != count)
    return fail(invalid_argument("invalid ranges in \"{}\": not of the same length", text));
  std::vector<v1::PortConfig> ports;
  for (uint32_t i = 0; i <= count; ++i) {
    v1::PortConfig port = model;
    port.set_target_port(target.first + i);
    if (published.first != 0) port.set_published_port(published.first + i);
    ports.push_back(std::move(port));
  }
  return ports;
}

// Where a port answers, and whom the task takes for the client.
Status apply_port_option(const Pair& pair, v1::PortConfig* port) {
  if (pair.key == "local") {
    const std::string value = lower(pair.value);
    if (value != "true" && value != "false" && value != "1" && value != "0")
      return invalid_argument("invalid value for local: {} (true or false)", pair.value);
    port->set_local(value == "true" || value == "1");
  } else if (pair.key == "bind") {
    MUSTER_ASSIGN(const std::string bind, overlay::parse_bind(pair.value));
    port->set_bind(bind);
  } else if (pair.key == "client-address") {
    MUSTER_ASSIGN(const auto choice, overlay::parse_client_address(pair.value));
    port->set_client_address(choice);
  } else if (pair.key == "proxy-protocol") {
    MUSTER_ASSIGN(const uint32_t version, overlay::parse_proxy_protocol(pair.value));
    port->set_proxy_protocol(version);
  } else {
    return invalid_argument("invalid field key {}", pair.key);
  }
  return ok_status();
}

Result<std::vector<v1::PortConfig>> parse_long_publish(std::string_view text) {
  MUSTER_ASSIGN(const std::vector<Pair> pairs, parse_pairs(text));
  v1::PortConfig model;
  Range published;
  Range target;
  for (const Pair& pair : pairs) {
    // As a flag of its own: "local" is "local=true".
    if (!pair.has_value && pair.key == "local") {
      model.set_local(true);
      continue;
    }
    if (!pair.has_value) return fail(invalid_argument("invalid field: {}", pair.key));
    if (pair.key == "protocol") {
      MUSTER_ASSIGN(const v1::PortConfig::Protocol protocol, parse_protocol(pair.value));
      model.set_protocol(protocol);
    } else if (pair.key == "mode") {
      const std::string mode = lower(pair.value);
      if (mode != "ingress" && mode != "host")
        return fail(invalid_argument("invalid publish mode value '{}'", pair.value));
      model.set_mode(mode == "host" ? v1::PortConfig::HOST : v1::PortConfig::INGRESS);
    } else if (pair.key == "target") {
      MUSTER_ASSIGN(target, parse_range(pair.value));
    } else if (pair.key == "published") {
      MUSTER_ASSIGN(published, parse_range(pair.value));
    } else if (pair.key == "name") {
      model.set_name(pair.value);
    } else {
      MUSTER_TRY(apply_port_option(pair, &model));
    }
  }
  MUSTER_TRY(overlay::check_port_options(model));
  if (target.first == 0) return fail(invalid_argument("missing mandatory field \"target\""));
  return expand_ports(published, target, model, text);
}

Status apply_volume_key(const Pair& pair, v1::Mount* mount) {
  auto* volume = mount->mutable_volume();
  if (pair.key == "volume-nocopy") {
    MUSTER_ASSIGN(const bool value, parse_switch(pair));
    volume->set_no_copy(value);
  } else if (pair.key == "volume-subpath") {
    volume->set_subpath(pair.value);
  } else if (pair.key == "volume-driver") {
    volume->set_driver(pair.value);
  } else if (pair.key == "volume-label") {
    *volume->add_labels() = parse_key_value(pair.value);
  } else if (pair.key == "volume-opt") {
    *volume->add_driver_options() = parse_key_value(pair.value);
  } else {
    return invalid_argument("unexpected key '{}' in '{}={}'", pair.key, pair.key, pair.value);
  }
  return ok_status();
}

Status apply_recursive(const Pair& pair, v1::Mount::BindOptions* bind) {
  if (pair.value == "enabled") return ok_status();
  if (pair.value == "disabled") {
    bind->set_non_recursive(true);
  } else if (pair.value == "writable") {
    bind->set_read_only_non_recursive(true);
  } else if (pair.value == "readonly") {
    bind->set_read_only_force_recursive(true);
  } else {
    return invalid_argument(
        "invalid value for {}: {} (must be \"enabled\", \"disabled\", \"writable\", or "
        "\"readonly\")",
        pair.key, pair.value);
  }
  return ok_status();
}

Status apply_mount_key(const Pair& pair, v1::Mount* mount) {
  const std::string& key = pair.key;
  if (key == "readonly" || key == "ro") {
    MUSTER_ASSIGN(const bool value, parse_switch(pair));
    mount->set_read_only(value);
    return ok_status();
  }
  if (!pair.has_value && key != "volume-nocopy" && key != "bind-create-src")
    return invalid_argument("invalid field '{}' must be a key=value pair", key);
  if (key == "type") {
    const std::string type = lower(pair.value);
    if (type == "volume")
      mount->set_type(v1::Mount::VOLUME);
    else if (type == "bind")
      mount->set_type(v1::Mount::BIND);
    else if (type == "tmpfs")
      mount->set_type(v1::Mount::TMPFS);
    else if (type == "image")
      mount->set_type(v1::Mount::IMAGE);
    else if (type == "npipe")
      return invalid_argument("mounts of type npipe are of Windows nodes");
    else if (type == "cluster")
      return invalid_argument("cluster volumes (CSI) are not supported");
    else
      return invalid_argument("mount type '{}' is not supported", pair.value);
  } else if (key == "source" || key == "src") {
    mount->set_source(pair.value);
  } else if (key == "target" || key == "dst" || key == "destination") {
    mount->set_target(pair.value);
  } else if (key == "consistency") {
    // Of Docker Desktop; every value means the same here.
  } else if (key == "bind-propagation") {
    mount->mutable_bind()->set_propagation(lower(pair.value));
  } else if (key == "bind-recursive") {
    return apply_recursive(pair, mount->mutable_bind());
  } else if (key == "bind-nonrecursive") {
    MUSTER_ASSIGN(const bool value, parse_switch(pair));
    mount->mutable_bind()->set_non_recursive(value);
  } else if (key == "bind-create-src") {
    MUSTER_ASSIGN(const bool value, parse_switch(pair));
    mount->mutable_bind()->set_create_source(value);
  } else if (key == "image-subpath") {
    mount->mutable_image()->set_subpath(pair.value);
  } else if (key == "tmpfs-size") {
    MUSTER_ASSIGN(const int64_t size, parse_bytes(pair.value));
    mount->mutable_tmpfs()->set_size_bytes(size);
  } else if (key == "tmpfs-mode") {
    MUSTER_ASSIGN(const uint32_t mode, parse_octal(pair.value));
    mount->mutable_tmpfs()->set_mode(mode);
  } else {
    return apply_volume_key(pair, mount);
  }
  return ok_status();
}

Status check_mount(const v1::Mount& mount) {
  if (mount.target().empty()) return invalid_argument("target is required");
  const auto mixed = [](const char* what, const char* type) {
    return invalid_argument("cannot mix '{}' options with mount type '{}'", what, type);
  };
  static constexpr const char* kTypes[] = {"volume", "bind", "tmpfs", "image"};
  const char* type = kTypes[std::clamp<int>(mount.type(), 0, 3)];
  if (mount.has_volume() && mount.type() != v1::Mount::VOLUME) return mixed("volume-*", type);
  if (mount.has_bind() && mount.type() != v1::Mount::BIND) return mixed("bind-*", type);
  if (mount.has_tmpfs() && mount.type() != v1::Mount::TMPFS) return mixed("tmpfs-*", type);
  if (mount.has_image() && mount.type() != v1::Mount::IMAGE) return mixed("image-*", type);
  if (mount.type() == v1::Mount::TMPFS && !mount.source().empty())
    return invalid_argument("cannot specify 'source' on a tmpfs mount");
  if (mount.type() == v1::Mount::BIND && mount.source().empty())
    return invalid_argument("source is required when specifying a bind mount");
  if (mount.type() == v1::Mount::IMAGE && mount.source().empty())
    return invalid_argument("source is required when specifying an image mount");
  const auto& bind = mount.bind();
  const auto needs = [](const char* value, const char* what) {
    return invalid_argument(
        "option 'bind-recursive={}' requires '{}' to be specified in conjunction", value, what);
  };
  if (bind.read_only_non_recursive() && !mount.read_only()) return needs("writable", "readonly");
  if (bind.read_only_force_recursive()) {
    if (!mount.read_only()) return needs("readonly", "readonly");
    if (bind.propagation() != "rprivate") return needs("readonly", "bind-propagation=rprivate");
  }
  return ok_status();
}

// The keys that secrets and configs share: the object's name comes back.
Result<std::string> parse_file_reference(std::string_view text, std::string_view default_dir,
                                         v1::FileTarget* file) {
  file->set_mode(0444);
  file->set_uid("0");
  file->set_gid("0");
  std::string source(text);
  if (text.find('=') != std::string_view::npos || text.find(',') != std::string_view::npos) {
    MUSTER_ASSIGN(const std::vector<Pair> pairs, parse_pairs(text));
    source.clear();
    for (const Pair& pair : pairs) {
      if (!pair.has_value)
        return fail(invalid_argument("invalid field '{}' must be a key=value pair", pair.key));
      if (pair.key == "source" || pair.key == "src") {
        source = pair.value;
      } else if (pair.key == "target") {
        file->set_name(pair.value);
      } else if (pair.key == "uid") {
        file->set_uid(pair.value);
      } else if (pair.key == "gid") {
        file->set_gid(pair.value);
      } else if (pair.key == "mode") {
        MUSTER_ASSIGN(const uint32_t mode, parse_octal(pair.value));
        file->set_mode(mode);
      } else {
        return fail(invalid_argument("invalid field in secret or config request: {}", pair.key));
      }
    }
  }
  if (source.empty()) return fail(invalid_argument("source is required"));
  if (file->name().empty()) file->set_name(std::string(default_dir) + source);
  return source;
}

}  // namespace

Result<std::vector<v1::PortConfig>> parse_publish(std::string_view text) {
  if (text.find('=') != std::string_view::npos) return parse_long_publish(text);
  v1::PortConfig model;
  std::string_view rest = text;
  if (const size_t slash = rest.find('/'); slash != std::string_view::npos) {
    MUSTER_ASSIGN(const v1::PortConfig::Protocol protocol, parse_protocol(rest.substr(slash + 1)));
    model.set_protocol(protocol);
    rest = rest.substr(0, slash);
  }
  Range published;
  if (const size_t colon = rest.rfind(':'); colon != std::string_view::npos) {
    std::string_view left = rest.substr(0, colon);
    if (const size_t split = left.rfind(':'); split != std::string_view::npos) {
      MUSTER_ASSIGN(const std::string bind, overlay::parse_bind(left.substr(0, split)));
      model.set_bind(bind);
      left.remove_prefix(split + 1);
    }
    if (!left.empty()) {
      MUSTER_ASSIGN(published, parse_range(left));
    }
    rest = rest.substr(colon + 1);
  }
  MUSTER_ASSIGN(const Range target, parse_range(rest));
  if (target.first == 0) return fail(invalid_argument("invalid port: {}", text));
  return expand_ports(published, target, model, text);
}

Result<v1::Mount> parse_mount(std::string_view text, std::string_view current_dir) {
  MUSTER_ASSIGN(const std::vector<Pair> pairs, parse_pairs(text));
  v1::Mount mount;
  for (const Pair& pair : pairs) MUSTER_TRY(apply_mount_key(pair, &mount));
  MUSTER_TRY(check_mount(mount));
  if (mount.type() == v1::Mount::BIND && mount.source().starts_with(".")) {
    std::string source =
        (std::filesystem::path(current_dir) / mount.source()).lexically_normal().string();
    while (source.size() > 1 && source.back() == '/') source.pop_back();
    mount.set_source(source);
  }
  return mount;
}

Result<v1::NetworkAttachmentConfig> parse_network(std::string_view text) {
  v1::NetworkAttachmentConfig network;
  if (text.find('=') == std::string_view::npos) {
    network.set_target(std::string(text));
    if (text.empty()) return fail(invalid_argument("network name is empty"));
    return network;
  }
  MUSTER_ASSIGN(const std::vector<Pair> pairs, parse_pairs(text));
  for (const Pair& pair : pairs) {
    if (!pair.has_value)
      return fail(invalid_argument("invalid field '{}' must be a key=value pair", pair.key));
    if (pair.key == "name") {
      network.set_target(pair.value);
    } else if (pair.key == "alias") {
      network.add_aliases(pair.value);
    } else if (pair.key == "driver-opt") {
      if (pair.value.find('=') == std::string::npos)
        return fail(invalid_argument("invalid key value pair format in driver options"));
      *network.add_driver_options() = parse_key_value(pair.value);
    } else {
      return fail(invalid_argument("invalid field key {}", pair.key));
    }
  }
  if (network.target().empty()) return fail(invalid_argument("network name is missing"));
  return network;
}

Result<v1::SecretReference> parse_secret(std::string_view text) {
  v1::SecretReference secret;
  MUSTER_ASSIGN(const std::string name, parse_file_reference(text, "", secret.mutable_file()));
  secret.set_secret_name(name);
  return secret;
}

Result<v1::ConfigReference> parse_config(std::string_view text) {
  v1::ConfigReference config;
  MUSTER_ASSIGN(const std::string name, parse_file_reference(text, "/", config.mutable_file()));
  config.set_config_name(name);
  return config;
}

Result<v1::Ulimit> parse_ulimit(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0)
    return fail(invalid_argument("invalid ulimit argument: {}", text));
  v1::Ulimit ulimit;
  ulimit.set_name(std::string(text.substr(0, equals)));
  const std::string_view limits = text.substr(equals + 1);
  const size_t colon = limits.find(':');
  if (colon != std::string_view::npos && limits.find(':', colon + 1) != std::string_view::npos)
    return fail(invalid_argument(
        "too many limit values - {}, can only have up to two - `soft[:hard]`", limits));
  MUSTER_ASSIGN(const int64_t soft, parse_signed(limits.substr(0, colon)));
  int64_t hard = soft;
  if (colon != std::string_view::npos) {
    MUSTER_ASSIGN(hard, parse_signed(limits.substr(colon + 1)));
  }
  if (hard != -1 && (soft > hard || soft == -1))
    return fail(
        invalid_argument("ulimit soft limit must be less than or equal to hard limit: "
                         "{} > {}",
                         soft, hard));
  ulimit.set_soft(soft);
  ulimit.set_hard(hard);
  return ulimit;
}

Result<v1::GenericResource> parse_generic_resource(std::string_view text) {
  const size_t equals = text.find('=');
  const auto count = equals == std::string_view::npos
                         ? Result<uint64_t>(fail(invalid_argument("no amount")))
                         : parse_unsigned(text.substr(equals + 1));
  if (!count || *count == 0 || equals == 0)
    return fail(invalid_argument(
        "invalid generic-resource request `{}`, expected KIND=AMOUNT, for example gpu=2", text));
  v1::GenericResource resource;
  resource.set_kind(std::string(text.substr(0, equals)));
  resource.set_count(static_cast<int64_t>(*count));
  return resource;
}

Result<v1::PlacementPreference> parse_placement_pref(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos)
    return fail(
        invalid_argument("placement preference must be of the format \"<strategy>=<arg>\""));
  if (text.substr(0, equals) != "spread")
    return fail(invalid_argument("unsupported placement preference {} (only spread is supported)",
                                 text.substr(0, equals)));
  v1::PlacementPreference preference;
  preference.set_spread_descriptor(std::string(text.substr(equals + 1)));
  return preference;
}

Result<std::string> parse_ip_address(std::string_view text) {
  std::string address(text);
  address.erase(0, address.find_first_not_of(' '));
  address.erase(address.find_last_not_of(' ') + 1);
  unsigned char buffer[sizeof(in6_addr)];
  if (inet_pton(AF_INET, address.c_str(), buffer) == 1 ||
      inet_pton(AF_INET6, address.c_str(), buffer) == 1)
    return address;
  return fail(invalid_argument("IP address is not correctly formatted: {}", text));
}

Result<std::string> parse_host(std::string_view text) {
  const size_t mark = text.find_first_of("=:");
  if (mark == std::string_view::npos || mark == 0 || mark + 1 == text.size())
    return fail(invalid_argument("bad format for add-host: \"{}\": expected NAME:IP", text));
  std::string_view address = text.substr(mark + 1);
  if (address.size() > 2 && address.front() == '[' && address.back() == ']')
    address = address.substr(1, address.size() - 2);
  if (!parse_ip_address(address))
    return fail(invalid_argument("invalid IP address in add-host: \"{}\"", address));
  return fmt::format("{} {}", address, text.substr(0, mark));
}

v1::KeyValue parse_key_value(std::string_view text) {
  v1::KeyValue pair;
  const size_t equals = text.find('=');
  pair.set_key(std::string(text.substr(0, equals)));
  if (equals != std::string_view::npos) pair.set_value(std::string(text.substr(equals + 1)));
  return pair;
}

}  // namespace muster::deploy::cli
