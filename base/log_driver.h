#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace muster {

// Options of a log driver, by key.
using LogOptions = std::vector<std::pair<std::string, std::string>>;

// Whether there is a log driver of this name and it takes these options with these values. The
// texts are Docker's. An empty name stands for whatever a node's default is: then an option must
// be known to some driver. Managers ask when a spec comes in, agents before a container is made,
// since a node's default never passes a manager.
Status check_log_driver(std::string_view name, const LogOptions& options);

// "json-file", "local", ...: sorted.
const std::vector<std::string>& log_driver_names();

// "512", "64k", "10m", "1gb": bytes, with powers of 1024; nothing when malformed.
std::optional<uint64_t> parse_log_size(std::string_view text);
// "daemon", "local3", "17": the number of a syslog facility, RFC 5424 section 6.2.1.
std::optional<unsigned> parse_syslog_facility(std::string_view text);

// Where syslog messages go.
struct SyslogAddress {
  enum class Transport { kUdp, kTcp, kUnix, kUnixgram };
  Transport transport = Transport::kUnixgram;
  std::string host;  // or the path of the socket
  std::string port;
};
// "udp://host[:port]", "tcp://...", "unix:///path", "unixgram:///path"; empty is the host's own
// /dev/log.
Result<SyslogAddress> parse_syslog_address(std::string_view text);

}  // namespace muster
