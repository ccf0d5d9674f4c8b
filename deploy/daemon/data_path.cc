#include "deploy/daemon/data_path.h"

#include <linux/netlink.h>

#include <optional>

#include "deploy/daemon/host.h"
#include "overlay/dataplane/kernel/links.h"

namespace muster::daemon {
namespace {

// Of an address in the forms that Membership has them.
std::string host_of(std::string address, bool with_port) {
  if (with_port) address.resize(address.rfind(':'));
  if (address.size() > 2 && address.front() == '[' && address.back() == ']') {
    address = address.substr(1, address.size() - 2);
  }
  return address;
}

// The MTU of the link that has the address; nothing when no link has.
Result<std::optional<uint32_t>> mtu_of(const std::string& address) {
  MUSTER_ASSIGN(const overlay::Ip ip, overlay::Ip::parse(address));
  MUSTER_ASSIGN(overlay::NetlinkSocket socket, overlay::NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(const auto addresses, overlay::list_addresses(socket));
  for (const auto& [index, cidr] : addresses) {
    if (cidr.ip != ip) continue;
    MUSTER_ASSIGN(const auto links, overlay::list_links(socket));
    for (const overlay::Link& link : links) {
      if (link.index == index) return std::optional(link.mtu);
    }
  }
  return std::optional<uint32_t>();
}

bool is_here(const std::string& address) {
  const auto mtu = mtu_of(address);
  return !mtu || mtu->has_value();  // a kernel that does not say is believed the best of
}

}  // namespace

Status check_data_path_port(uint32_t port) {
  if (port == 0 || (port >= kDataPathPortMin && port <= kDataPathPortMax)) return ok_status();
  return invalid_argument("Datapath port number is not in valid range ({}-{}) : {}",
                          kDataPathPortMin, kDataPathPortMax, port);
}

Result<std::string> find_data_path_address(const std::string& wanted) {
  const auto found = find_advertise_address(wanted, 0);
  if (!found) return fail(found.error().with_context("data path address"));
  if (!found->ends_with(":0")) {
    return fail(invalid_argument(
        "data path address \"{}\" has a port: that is the swarm's, --data-path-port of swarm init",
        wanted));
  }
  const std::string address = host_of(*found, true);
  if (!is_here(address)) {
    return fail(invalid_argument("data path address {} is not an address of this host", address));
  }
  return address;
}

std::string data_path_address(const Membership& membership) {
  if (!membership.data_path_addr.empty()) return host_of(membership.data_path_addr, false);
  if (membership.advertise_addr.empty()) return {};
  return host_of(membership.advertise_addr, true);
}

std::string local_data_path(const Membership& membership) {
  const std::string address = data_path_address(membership);
  if (address.empty() || address.find(':') != std::string::npos || is_here(address)) return address;
  const auto own = find_advertise_address("", 1);
  return own ? host_of(*own, true) : address;
}

std::string describe_no_encryption(const Membership& membership, overlay::EncryptionProbe& probe) {
  const std::string address = data_path_address(membership);
  if (address != local_data_path(membership)) {
    return fmt::format(
        "its data-path address {} is translated on the way, and IPsec is between addresses that "
        "nodes have (--data-path-addr)",
        address);
  }
  return probe.trouble(address.find(':') != std::string::npos);
}

v1::DataPath describe_data_path(const Membership& membership, const Log& log) {
  v1::DataPath out;
  out.set_address(data_path_address(membership));
  if (out.address().empty()) return out;
  const auto mtu = mtu_of(local_data_path(membership));
  if (!mtu) {
    log->warn("the MTU of the data path is not known: {}", mtu.error().message());
  } else if (*mtu) {
    out.set_mtu(**mtu);
  }
  return out;
}

}  // namespace muster::daemon
