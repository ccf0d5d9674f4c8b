#include "base/log_driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <regex>

#include "base/template.h"

namespace muster {
namespace {

struct Driver {
  std::string_view name;
  std::vector<std::string_view> options;
};

const std::vector<Driver>& drivers() {
  static const std::vector<Driver> kDrivers = {
      {"journald",
       {"cache-compress", "cache-disabled", "cache-max-file", "cache-max-size", "env", "env-regex",
        "labels", "labels-regex", "max-buffer-size", "mode", "tag"}},
      {"json-file",
       {"compress", "env", "env-regex", "labels", "labels-regex", "max-buffer-size", "max-file",
        "max-size", "mode", "tag"}},
      {"local", {"compress", "max-buffer-size", "max-file", "max-size", "mode"}},
      {"none", {}},
      {"syslog",
       {"env", "env-regex", "labels", "labels-regex", "max-buffer-size", "mode", "syslog-address",
        "syslog-facility", "syslog-format", "tag"}},
  };
  return kDrivers;
}

bool takes(const Driver& driver, std::string_view key) {
  return std::find(driver.options.begin(), driver.options.end(), key) != driver.options.end();
}

std::optional<bool> parse_bool(std::string_view text) {
  for (const char* yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == yes) return true;
  }
  for (const char* no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == no) return false;
  }
  return std::nullopt;
}

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view find(const LogOptions& options, std::string_view key) {
  for (const auto& [name, value] : options) {
    if (name == key) return value;
  }
  return {};
}

// What tag templates see; the values only have to be there.
Status check_tag(const std::string& tag) {
  boost::json::object names;
  for (const char* name :
       {"ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName"}) {
    names[name] = "x";
  }
  const auto text = expand_template(tag, names);
  return text ? ok_status() : text.error().with_context("tag");
}

Status check_value(std::string_view driver, const std::string& key, const std::string& value) {
  if (key.ends_with("max-size") || key == "max-buffer-size") {
    // -1 is json-file's way to say that there is no limit.
    if (value == "-1" && key == "max-size") return ok_status();
    const auto size = parse_log_size(value);
    if (!size || *size == 0) return invalid_argument("{}: invalid size: '{}'", key, value);
  } else if (key.ends_with("max-file")) {
    const auto count = parse_number(value);
    if (!count) return invalid_argument("{}: invalid number: '{}'", key, value);
    if (*count < 1) return invalid_argument("{} cannot be less than 1", key);
    if (*count > 100) return invalid_argument("{} cannot be more than 100", key);
  } else if (key.ends_with("compress") || key == "cache-disabled") {
    if (!parse_bool(value)) return invalid_argument("{}: invalid boolean: '{}'", key, value);
  } else if (key.ends_with("-regex")) {
    try {
      const std::regex compiled(value);
    } catch (const std::regex_error& error) {
      return invalid_argument("{}: invalid regular expression '{}'", key, value);
    }
  } else if (key == "mode") {
    if (value != "blocking" && value != "non-blocking") {
      return invalid_argument("logger: logging mode not supported: {}", value);
    }
  } else if (key == "tag") {
    return check_tag(value);
  } else if (key == "syslog-facility") {
    if (!parse_syslog_facility(value))
      return invalid_argument("invalid syslog facility: {}", value);
  } else if (key == "syslog-format") {
    if (value != "rfc3164" && value != "rfc5424" && value != "rfc5424micro" && !value.empty()) {
      return invalid_argument("invalid syslog format '{}': rfc3164, rfc5424 or rfc5424micro",
                              value);
    }
  } else if (key == "syslog-address") {
    const auto address = parse_syslog_address(value);
    if (!address) return address.error();
  }
  (void)driver;
  return ok_status();
}

// Options that contradict one another.
Status check_together(std::string_view driver, const LogOptions& options) {
  if (!find(options, "max-buffer-size").empty() && find(options, "mode") != "non-blocking") {
    return invalid_argument(
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'");
  }
  if (driver != "json-file") return ok_status();
  const bool compress = parse_bool(find(options, "compress")).value_or(false);
  const auto files = parse_number(find(options, "max-file"));
  const std::string_view size = find(options, "max-size");
  if (compress && (files.value_or(1) < 2 || size.empty() || size == "-1")) {
    return invalid_argument(
        "compress cannot be true when max-file is less than 2 or max-size is not set");
  }
  return ok_status();
}

constexpr std::array<std::string_view, 24> kFacilities = {
    "kern",   "user",   "mail",     "daemon", "auth",   "syslog", "lpr",    "news",
    "uucp",   "cron",   "authpriv", "ftp",    "",       "",       "",       "",
    "local0", "local1", "local2",   "local3", "local4", "local5", "local6", "local7"};

}  // namespace

const std::vector<std::string>& log_driver_names() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const Driver& driver : drivers()) names.emplace_back(driver.name);
    return names;
  }();
  return kNames;
}

Status check_log_driver(std::string_view name, const LogOptions& options) {
  const auto& all = drivers();
  const auto driver =
      std::find_if(all.begin(), all.end(), [&](const Driver& d) { return d.name == name; });
  if (driver == all.end() && !name.empty()) {
    return invalid_argument("logger: no log driver named '{}' is registered (there are {})", name,
                            fmt::join(log_driver_names(), ", "));
  }
  for (const auto& [key, value] : options) {
    const bool known = driver != all.end()
                           ? takes(*driver, key)
                           : std::any_of(all.begin(), all.end(),
                                         [&key = key](const Driver& d) { return takes(d, key); });
    if (key.starts_with("syslog-tls-") && (name.empty() || name == "syslog")) {
      return invalid_argument("log opt '{}': syslog over TLS is not supported", key);
    }
    if (!known && name.empty()) return invalid_argument("unknown log opt '{}'", key);
    if (!known) return invalid_argument("unknown log opt '{}' for {} log driver", key, name);
    MUSTER_TRY(check_value(name, key, value));
  }
  return check_together(name, options);
}

std::optional<uint64_t> parse_log_size(std::string_view text) {
  uint64_t value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc()) return std::nullopt;
  std::string unit(end, last);
  for (char& c : unit) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (unit.size() == 3 && unit.ends_with("ib")) unit.erase(1, 1);
  unsigned shift = 0;
  if (unit == "k" || unit == "kb") {
    shift = 10;
  } else if (unit == "m" || unit == "mb") {
    shift = 20;
  } else if (unit == "g" || unit == "gb") {
    shift = 30;
  } else if (!unit.empty() && unit != "b") {
    return std::nullopt;
  }
  if (value > (UINT64_MAX >> shift)) return std::nullopt;
  return value << shift;
}

std::optional<unsigned> parse_syslog_facility(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const auto named = std::find(kFacilities.begin(), kFacilities.end(), text);
  if (named != kFacilities.end()) return static_cast<unsigned>(named - kFacilities.begin());
  const auto number = parse_number(text);
  if (number && *number < kFacilities.size()) return static_cast<unsigned>(*number);
  return std::nullopt;
}

Result<SyslogAddress> parse_syslog_address(std::string_view text) {
  SyslogAddress out;
  if (text.empty()) {
    out.host = "/dev/log";
    return out;
  }
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) {
    return fail(invalid_argument("syslog-address should be in form proto://address, got {}", text));
  }
  const std::string_view scheme = text.substr(0, scheme_end);
  const std::string_view rest = text.substr(scheme_end + 3);
  if (scheme == "unix" || scheme == "unixgram") {
    out.transport =
        scheme == "unix" ? SyslogAddress::Transport::kUnix : SyslogAddress::Transport::kUnixgram;
    if (rest.empty() || rest[0] != '/' || rest.size() > 107) {
      return fail(invalid_argument("syslog-address {}: an absolute path is needed", text));
    }
    out.host = rest;
    return out;
  }
  if (scheme == "tcp+tls") {
    return fail(invalid_argument("syslog-address {}: syslog over TLS is not supported", text));
  }
  if (scheme != "udp" && scheme != "tcp") {
    return fail(invalid_argument("unsupported scheme: '{}' in syslog-address {}", scheme, text));
  }
  out.transport = scheme == "udp" ? SyslogAddress::Transport::kUdp : SyslogAddress::Transport::kTcp;
  const size_t bracket = rest.find(']');
  const size_t colon = rest.rfind(':');
  const bool has_port =
      colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
  std::string_view host = has_port ? rest.substr(0, colon) : rest;
  out.port = has_port ? rest.substr(colon + 1) : "514";
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  out.host = host;
  const auto port = parse_number(out.port);
  if (out.host.empty() || !port || *port == 0 || *port > 65535) {
    return fail(invalid_argument("syslog-address {}: host:port is needed", text));
  }
  return out;
}

}  // namespace muster
