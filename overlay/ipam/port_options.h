#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "muster/v1/specs.pb.h"

namespace muster::overlay {

// Where on a node a published port answers (PortConfig.bind), in its one way of writing: an address
// without brackets, the name of an interface, or nothing for every address ("0.0.0.0", "::", "*").
// INVALID_ARGUMENT names what is neither. Pure.
Result<std::string> parse_bind(std::string_view text);
bool bind_is_address(std::string_view bind);
// Whether two ports of one number, bound so, may meet. An interface and an address may: which
// addresses an interface has differs from node to node.
bool binds_overlap(std::string_view a, std::string_view b);

// "keep", "masquerade", "auto".
Result<v1::PortConfig::ClientAddress> parse_client_address(std::string_view text);
// The version: "1" or "2", "0" for none.
Result<uint32_t> parse_proxy_protocol(std::string_view text);

// What of a port's options does not go together, in words; bounds of numbers are not looked at.
Status check_port_options(const v1::PortConfig& port);

// "8080/tcp", "127.0.0.1:8080/tcp", "[::1]:8080/tcp", "eth1:8080/tcp": a published port in
// messages.
std::string published_name(const v1::PortConfig& port);

// What a node says (NodeDescription.limitations) of a port that a program of its own has, of one
// that it has at ::1 alone, and of a kernel whose tasks cannot see clients of other nodes.
std::string taken_limitation(const v1::PortConfig& port);
std::string taken_at_loopback_limitation(const v1::PortConfig& port);
inline constexpr std::string_view kHidesClients = "this kernel has no br_netfilter";

}  // namespace muster::overlay
