#include "overlay/dataplane/host/port_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/descriptor_messages.h"
#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

// Up to the next slash, which goes, too.
std::string_view next_part(std::string_view& text) {
  const std::string_view part = text.substr(0, text.find('/'));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

}  // namespace

std::string port_socket(const std::string& run_dir) {
  return run_dir + "/port.sock";
}

int send_port_message(int fd, std::string_view text, const std::vector<int>& sockets) {
  if (text.size() > kPortMessageMax || sockets.size() > kPortSocketsMax) return EMSGSIZE;
  return send_descriptors(fd, text, sockets);
}

int receive_port_message(int fd, PortMessage& out) {
  out = {};
  DescriptorMessage got;
  const int error = receive_descriptors(fd, {kPortMessageMax, kPortSocketsMax}, got);
  if (error != 0) return error;
  if (got.bytes.empty()) return ECONNRESET;  // no message is empty
  out.text = std::move(got.bytes);
  out.sockets = std::move(got.descriptors);
  return 0;
}

std::vector<std::string> names_in(std::string_view kept) {
  std::vector<std::string> out;
  kept.remove_prefix(std::min(kept.size(), kPortKept.size()));
  while (!kept.empty()) {
    const std::string_view name = kept.substr(0, kept.find('\n'));
    out.emplace_back(name);
    kept.remove_prefix(std::min(kept.size(), name.size() + 1));
  }
  return out;
}

std::string kept_name(const FrontendKey& key, bool v6) {
  return fmt::format("{}/{}/{}{}{}", protocol_name(key.protocol), key.port, v6 ? "v6" : "v4",
                     key.bind.empty() ? "" : "/", key.bind);
}

std::optional<NamedPort> parse_kept_name(std::string_view name) {
  NamedPort out;
  const std::string_view protocol = next_part(name);
  const std::string_view number = next_part(name);
  const std::string_view family = next_part(name);
  const auto known = {v1::PortConfig::TCP, v1::PortConfig::UDP, v1::PortConfig::SCTP};
  bool found = false;
  for (const auto candidate : known) {
    if (protocol_name(candidate) != protocol) continue;
    out.key.protocol = candidate;
    found = true;
  }
  const auto read = std::from_chars(number.data(), number.data() + number.size(), out.key.port);
  found = found && read.ec == std::errc() && read.ptr == number.data() + number.size();
  if (!found || out.key.port == 0 || out.key.port > 65535) return std::nullopt;
  if (family != "v4" && family != "v6") return std::nullopt;
  out.v6 = family == "v6";
  out.key.bind = name;
  return out;
}

}  // namespace muster::overlay
