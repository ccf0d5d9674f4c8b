#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "deploy/daemon/options.h"
#include "muster/v1/objects.pb.h"
#include "overlay/ipam/ip.h"

namespace muster::daemon {

// What this host is: name, platform, CPUs, memory, labels and generic resources from the options.
// INVALID_ARGUMENT for labels or resources that do not parse.
Result<v1::NodeDescription> describe_host(const Options& options);

// The host's resolvers, as its resolv.conf has them now.
std::vector<overlay::Ip> host_resolvers();

// What this host reaches by its own routes, its addresses and its resolvers, as
// NodeDescription::local_ranges: kRangesMax, the widest, at most. With `log`, which may be null, it
// is said there how many are left out. `instance_id`: whose bridges do not count. An error when the
// kernel does not say.
inline constexpr size_t kRangesMax = 256;
Result<std::vector<std::string>> host_ranges(const std::string& instance_id,
                                             const Log& log = nullptr);

// The log driver of containers for which neither their service nor the cluster names one, from
// --log-driver and --log-opt.
Result<v1::LogDriver> default_log_driver(const Options& options);

// "KIND=4" is discrete, "KIND=name" one of a named set; mixing both for one kind is an error.
Result<std::vector<v1::GenericResource>> parse_generic_resources(
    const std::vector<std::string>& texts);

std::string kernel_release();
std::string os_name();  // PRETTY_NAME of os-release(5)

// The address other nodes reach this one by. `wanted` is an address, an interface, or either with
// ":port"; empty asks the kernel for the source address of the default route. The answer is
// host:port (an IPv6 host in brackets).
Result<std::string> find_advertise_address(const std::string& wanted, uint16_t default_port);

// The address to listen on, host:port, from the same forms; empty is all addresses.
Result<std::string> find_listen_address(const std::string& wanted, uint16_t default_port);

}  // namespace muster::daemon
