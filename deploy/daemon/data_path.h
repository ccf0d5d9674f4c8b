#pragma once

#include <cstdint>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "deploy/daemon/node_state.h"
#include "muster/v1/objects.pb.h"
#include "overlay/dataplane/esp/esp_probe.h"

namespace muster::daemon {

// The ports that overlay networks may use, as Docker has them.
inline constexpr uint32_t kDataPathPortMin = 1024;
inline constexpr uint32_t kDataPathPortMax = 49151;

// INVALID_ARGUMENT for a port outside of that range; 0, for the default, is none.
Status check_data_path_port(uint32_t port);

// What --data-path-addr means: an address of this host, or an interface's. INVALID_ARGUMENT when
// there is no such thing; an address of another host could not send from here.
Result<std::string> find_data_path_address(const std::string& wanted);

// Where other nodes send frames of overlay networks to, an address without brackets: what was asked
// for, else the address that the node advertises.
std::string data_path_address(const Membership& membership);

// The address of this host that such frames leave from. Another one than data_path_address() only
// where the advertised address is a translated one (EC2's elastic addresses).
std::string local_data_path(const Membership& membership);

// As NodeDescription says it: the MTU is that of the interface with the local address.
v1::DataPath describe_data_path(const Membership& membership, const Log& log);

// Why the node cannot take part in encrypted networks, with this data path; empty: it can.
std::string describe_no_encryption(const Membership& membership, overlay::EncryptionProbe& probe);

}  // namespace muster::daemon
