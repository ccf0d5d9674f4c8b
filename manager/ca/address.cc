#include "manager/ca/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <charconv>
#include <optional>
#include <string>
#include <utility>

namespace muster::manager::ca {
namespace {

struct HostPort {
  std::string host;
  unsigned port = 0;
  bool bracketed = false;
};

std::optional<HostPort> split(std::string_view address) {
  HostPort out;
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (error != std::errc() || end != port.data() + port.size() || port.empty()) return std::nullopt;
  if (host.starts_with('[') && host.ends_with(']')) {
    out.bracketed = true;
    host = host.substr(1, host.size() - 2);
  }
  out.host = std::string(host);
  return out;
}

}  // namespace

Status check_manager_address(std::string_view address) {
  const auto bad = [&](std::string_view why) {
    return invalid_argument("advertise address {} is not usable: {}", address, why);
  };
  const auto parts = split(address);
  if (!parts) return bad("it is not host:port");
  if (parts->port == 0 || parts->port > 65535) return bad("the port is not 1-65535");
  in_addr v4{};
  if (!parts->bracketed && inet_pton(AF_INET, parts->host.c_str(), &v4) == 1) {
    const uint32_t host = ntohl(v4.s_addr);
    if (host == INADDR_ANY || host == INADDR_BROADCAST) {
      return invalid_argument(
          "advertise address must be a non-zero IP address or network interface "
          "(with optional port number)");
    }
    if (IN_MULTICAST(host)) return bad("it is a multicast address");
    return ok_status();
  }
  in6_addr v6{};
  if (parts->bracketed && inet_pton(AF_INET6, parts->host.c_str(), &v6) == 1) {
    if (IN6_IS_ADDR_UNSPECIFIED(&v6)) {
      return invalid_argument(
          "advertise address must be a non-zero IP address or network interface "
          "(with optional port number)");
    }
    if (IN6_IS_ADDR_MULTICAST(&v6)) return bad("it is a multicast address");
    return ok_status();
  }
  return bad("it has no IP address");
}

std::string peer_host(std::string_view peer) {
  const bool v6 = peer.starts_with("ipv6:");
  if (!v6 && !peer.starts_with("ipv4:")) return {};
  std::string address(peer.substr(5));
  for (const auto& [from, to] : {std::pair{"%5B", "["}, std::pair{"%5D", "]"}}) {
    if (const size_t at = address.find(from); at != std::string::npos) address.replace(at, 3, to);
  }
  const auto parts = split(address);
  return parts ? parts->host : std::string();
}

}  // namespace muster::manager::ca
