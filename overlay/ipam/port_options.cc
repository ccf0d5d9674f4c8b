#include "overlay/ipam/port_options.h"

#include <algorithm>

#include "overlay/ipam/ip.h"
#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

constexpr size_t kInterfaceNameMax = 15;  // IFNAMSIZ with its end

// Names that the kernel takes and people use; nothing that means something in a rule.
bool is_interface_name(std::string_view text) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-' || c == '@';
  };
  if (text.empty() || text.size() > kInterfaceNameMax || text == "." || text == "..") return false;
  // An address with something missing is not the name of an interface.
  const bool digits = std::all_of(text.begin(), text.end(),
                                  [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
  return !digits && std::all_of(text.begin(), text.end(), fits);
}

}  // namespace

Result<std::string> parse_bind(std::string_view text) {
  if (text.empty() || text == "*") return std::string();
  std::string_view bare = text;
  if (bare.size() > 2 && bare.front() == '[' && bare.back() == ']') {
    bare = bare.substr(1, bare.size() - 2);
  }
  if (const auto ip = Ip::parse(bare)) {
    if (ip->v6 && (ip->value >> 64) >> 54 == Uint128{0xfe80} >> 6) {
      return fail(invalid_argument(
          "a port cannot be bound to \"{}\": a link-local address is one of every link", text));
    }
    return ip->value == 0 ? std::string() : ip->str();
  }
  if (bare != text || !is_interface_name(text)) {
    return fail(
        invalid_argument("a port cannot be bound to \"{}\": it is neither an IP address nor the "
                         "name of an interface",
                         text));
  }
  return std::string(text);
}

bool bind_is_address(std::string_view bind) {
  return Ip::parse(bind).has_value();
}

bool binds_overlap(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty() || a == b) return true;
  return bind_is_address(a) != bind_is_address(b);
}

Result<v1::PortConfig::ClientAddress> parse_client_address(std::string_view text) {
  if (text == "auto") return v1::PortConfig::AUTOMATIC;
  if (text == "keep") return v1::PortConfig::KEEP;
  if (text == "masquerade") return v1::PortConfig::MASQUERADE;
  return fail(
      invalid_argument("invalid client-address value '{}' (keep, masquerade or auto)", text));
}

Result<uint32_t> parse_proxy_protocol(std::string_view text) {
  if (text == "0" || text == "1" || text == "2") return static_cast<uint32_t>(text[0] - '0');
  return fail(invalid_argument(
      "invalid proxy-protocol value '{}' (version 1 or 2 of the PROXY protocol, 0 = none)", text));
}

Status check_port_options(const v1::PortConfig& port) {
  MUSTER_ASSIGN(const std::string bind, parse_bind(port.bind()));
  if (bind != port.bind()) {
    return invalid_argument("a port's bind address has to be written \"{}\", not \"{}\"", bind,
                            port.bind());
  }
  const bool host = port.mode() == v1::PortConfig::HOST;
  if (host && port.local()) {
    return invalid_argument(
        "local is for ports published in ingress mode: one in host mode leads to its own node's "
        "task anyway");
  }
  if (host && port.client_address() != v1::PortConfig::AUTOMATIC) {
    return invalid_argument(
        "client-address is for ports published in ingress mode: one in host mode keeps the "
        "client's "
        "address anyway");
  }
  if (host && bind == "::1") {
    return invalid_argument(
        "a port in host mode cannot be bound to ::1 alone: bind it to the interface lo, by which "
        "programs of the node reach it at 127.0.0.1 and ::1");
  }
  if (port.proxy_protocol() == 0) return ok_status();
  if (port.proxy_protocol() > 2) {
    return invalid_argument("the PROXY protocol has versions 1 and 2, not {}",
                            port.proxy_protocol());
  }
  if (port.protocol() != v1::PortConfig::TCP) {
    return invalid_argument("the PROXY protocol is for TCP ports, not for {}",
                            protocol_name(port.protocol()));
  }
  if (host) {
    return invalid_argument(
        "proxy-protocol is for ports published in ingress mode: one in host mode keeps the "
        "client's "
        "address anyway");
  }
  if (port.client_address() != v1::PortConfig::AUTOMATIC) {
    return invalid_argument(
        "client-address does not go with proxy-protocol: the connection comes from a node, and its "
        "header names the client");
  }
  return ok_status();
}

std::string published_name(const v1::PortConfig& port) {
  std::string at = port.bind();
  if (at.find(':') != std::string::npos) at = "[" + at + "]";
  if (!at.empty()) at += ":";
  return fmt::format("{}{}/{}", at, port.published_port(), protocol_name(port.protocol()));
}

std::string taken_limitation(const v1::PortConfig& port) {
  return fmt::format("port {} is taken by another program of this host", published_name(port));
}

std::string taken_at_loopback_limitation(const v1::PortConfig& port) {
  return taken_limitation(port) + " at ::1, and answers everywhere else";
}

}  // namespace muster::overlay
