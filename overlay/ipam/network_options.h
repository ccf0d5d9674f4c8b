#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "muster/v1/specs.pb.h"

namespace muster::overlay {

// The options of driver overlay (`network create --opt`, driver_opts in a Compose file) that mean
// something here, by Docker's names.
inline constexpr std::string_view kMtuOption = "com.docker.network.driver.mtu";
inline constexpr std::string_view kVniOption = "com.docker.network.driver.overlay.vxlanid_list";
inline constexpr std::string_view kEncryptedOption = "encrypted";

// Options of an overlay network that nothing here reads: they are kept, as Docker keeps them, and
// who gives them is told in these sentences. None of other drivers.
std::vector<std::string> idle_options(const v1::NetworkSpec& spec);

}  // namespace muster::overlay
