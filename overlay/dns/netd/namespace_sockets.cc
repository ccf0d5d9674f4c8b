#include "overlay/dns/netd/namespace_sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <optional>

#include "base/check.h"
#include "overlay/dataplane/kernel/nft.h"
#include "overlay/dataplane/vip/client_listing.h"
#include "overlay/dataplane/vip/client_wire.h"

namespace muster::overlay::dns {
namespace {

constexpr const char* kTable = "muster_dns";
constexpr const char* kChain = "output";
constexpr nfgenmsg kInet{NFPROTO_INET, NFNETLINK_V0, 0};
constexpr int kBacklog = 64;

struct Ports {
  uint16_t udp = 0;
  uint16_t tcp = 0;
};

// The thread is in the other namespace for as long as this lives.
class Stay {
 public:
  Stay(int namespace_fd, int own) : own_(own) {
    if (namespace_fd >= 0 && setns(namespace_fd, CLONE_NEWNET) != 0) error_ = errno;
  }
  Stay(const Stay&) = delete;
  Stay& operator=(const Stay&) = delete;
  ~Stay() { MUSTER_CHECK(setns(own_, CLONE_NEWNET) == 0, "cannot return to the own namespace"); }
  int error() const { return error_; }

 private:
  int own_;
  int error_ = 0;
};

Result<UniqueFd> bind_socket(bool tcp, uint16_t port) {
  UniqueFd fd(socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fail(errno_status(errno, "socket"));
  // Connections of a former process may still linger on the port.
  const int on = 1;
  if (tcp) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, kResolverAddress, &address.sin_addr);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      (tcp && listen(fd.get(), kBacklog) != 0)) {
    return fail(errno_status(errno, fmt::format("cannot listen on {}", kResolverAddress)));
  }
  return fd;
}

uint16_t port_of(const UniqueFd& fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

Status bind_both(NamespaceHopper::ResolverSockets& sockets, Ports ports) {
  sockets.udp.reset();
  sockets.tcp.reset();
  MUSTER_ASSIGN(sockets.udp, bind_socket(false, ports.udp));
  MUSTER_ASSIGN(sockets.tcp, bind_socket(true, ports.tcp));
  return ok_status();
}

// The ports are in the name of an empty chain, which a successor reads more easily than rules. Both
// families are tracked by what these rules say of states: a translation alone would have IPv4 alone
// tracked, and a container's flows of datagrams by IPv6 would not be seen (container/flows.h).
std::string rules(const char* how, const NamespaceHopper::ResolverSockets& sockets) {
  const uint16_t udp = port_of(sockets.udp);
  const uint16_t tcp = port_of(sockets.tcp);
  std::string out = fmt::format("{} table inet {}\n", how, kTable);
  out += fmt::format("add chain inet {} ports_{}_{}\n", kTable, udp, tcp);
  out += fmt::format(
      "add chain inet {} output {{ type nat hook output priority -100; policy accept; }}\n",
      kTable);
  for (const auto& [protocol, port] : {std::pair("udp", udp), std::pair("tcp", tcp)}) {
    out += fmt::format(
        "add rule inet {0} output ip daddr {1} {2} dport 53 ct state new dnat ip to {1}:{3}\n",
        kTable, kResolverAddress, protocol, port);
  }
  return out;
}

std::optional<Ports> ports_in(const std::string& listing) {
  constexpr std::string_view kMark = "\"ports_";
  const size_t at = listing.find(kMark);
  if (at == std::string::npos) return std::nullopt;
  const char* end = listing.data() + listing.size();
  Ports ports;
  const auto first = std::from_chars(listing.data() + at + kMark.size(), end, ports.udp);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '_') return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, ports.tcp);
  if (second.ec != std::errc() || ports.udp == 0 || ports.tcp == 0) return std::nullopt;
  return ports;
}

Status explain(const Status& refused) {
  return failed_precondition(
      "cannot lead {}:53 to the resolver, the kernel needs nftables with NAT: {}", kResolverAddress,
      refused.message());
}

// Whether a listing is of rules that lead to these ports, as far as text tells.
bool leads_to(const std::string& listing, Ports ports) {
  const auto has = [&](const std::string& text) { return listing.find(text) != std::string::npos; };
  size_t count = 0;
  for (size_t at = 0; (at = listing.find("{\"rule\":", at)) != std::string::npos; ++at) ++count;
  return count == 2 && has("\"hook\": \"output\"") && has("\"policy\": \"accept\"") &&
         has("{\"ct\": {\"key\": \"state\"}}") && has(fmt::format("\"port\": {}}}", ports.udp)) &&
         has(fmt::format("\"port\": {}}}", ports.tcp));
}

uint16_t nft_type(uint16_t message) {
  return static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
}

// What the kernel has of our chain and its rules, byte for byte; empty without them.
Result<std::string> read_rules(WireSocket& socket) {
  std::string out;
  const auto add = [&](const nlmsghdr* h) { out += attributes_of(h, sizeof(nfgenmsg)); };
  Wire chain;
  chain.begin(nft_type(NFT_MSG_GETCHAIN), NLM_F_ACK, kInet);
  chain.text(NFTA_CHAIN_TABLE, kTable);
  chain.text(NFTA_CHAIN_NAME, kChain);
  chain.end();
  const Status found = socket.query(chain, add);
  if (found.code() == StatusCode::kNotFound) return std::string();
  MUSTER_TRY(found);
  Wire listing;
  listing.begin(nft_type(NFT_MSG_GETRULE), NLM_F_DUMP, kInet);
  listing.text(NFTA_RULE_TABLE, kTable);
  listing.text(NFTA_RULE_CHAIN, kChain);
  listing.end();
  MUSTER_TRY(socket.query(listing, [&](const nlmsghdr* h) {
    const std::string_view table =
        find_attribute(attributes_of(h, sizeof(nfgenmsg)), NFTA_RULE_TABLE);
    if (text_of(table) == kTable) add(h);
  }));
  return out;
}

// They are as they should be: what that looks like.
Status note_rules(WireSocket& socket, NamespaceHopper::ResolverSockets& sockets) {
  // In this order: a change between the two is seen by the next look.
  MUSTER_ASSIGN(sockets.generation, nft_generation(socket));
  MUSTER_ASSIGN(sockets.rules, read_rules(socket));
  return ok_status();
}

Result<bool> mend_inside(NamespaceHopper::ResolverSockets& sockets) {
  MUSTER_ASSIGN(WireSocket socket, WireSocket::open(NETLINK_NETFILTER));
  MUSTER_ASSIGN(const uint32_t generation, nft_generation(socket));
  const bool known = !sockets.rules.empty();
  if (known && generation == sockets.generation) return false;
  MUSTER_ASSIGN(const std::string now, read_rules(socket));
  if (known && now == sockets.rules) {
    sockets.generation = generation;
    return false;
  }
  MUSTER_ASSIGN(const auto nft, LibNft::make());
  if (!known && !now.empty()) {
    const auto listing = nft->list(kTable);
    if (listing && leads_to(*listing, {port_of(sockets.udp), port_of(sockets.tcp)})) {
      sockets.rules = now;
      sockets.generation = generation;
      return false;
    }
  }
  const Status replaced = nft->run(
      fmt::format("add table inet {0}\ndelete table inet {0}\n", kTable) + rules("add", sockets));
  if (!replaced.ok()) return fail(explain(replaced));
  MUSTER_TRY(note_rules(socket, sockets));
  return true;
}

Status lead_to(NamespaceHopper::ResolverSockets& sockets) {
  MUSTER_ASSIGN(const auto nft, LibNft::make());
  MUSTER_TRY(bind_both(sockets, {}));
  // The usual case first: a fresh namespace. Deleting anything costs the kernel 15 ms.
  const Status created = nft->run(rules("create", sockets));
  if (created.ok()) return ok_status();
  const auto listing = nft->list(kTable);
  if (!listing) return explain(created);
  if (const auto ports = ports_in(*listing)) {
    if (bind_both(sockets, *ports).ok() && leads_to(*listing, *ports)) return ok_status();
    MUSTER_TRY(bind_both(sockets, {}));
  }
  const Status replaced =
      nft->run(fmt::format("delete table inet {}\n", kTable) + rules("add", sockets));
  return replaced.ok() ? ok_status() : explain(replaced);
}

Status open_inside(NamespaceHopper::ResolverSockets& sockets) {
  MUSTER_TRY(lead_to(sockets));
  MUSTER_ASSIGN(WireSocket socket, WireSocket::open(NETLINK_NETFILTER));
  return note_rules(socket, sockets);
}

}  // namespace

Status NamespaceHopper::open() {
  own_.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  return own_ ? ok_status() : errno_status(errno, "own network namespace");
}

Result<UniqueFd> NamespaceHopper::open_socket(int namespace_fd, bool v6, bool tcp) const {
  int error = 0;
  UniqueFd fd;
  {
    const Stay stay(namespace_fd, own_.get());
    error = stay.error();
    if (error == 0) {
      fd.reset(socket(v6 ? AF_INET6 : AF_INET,
                      (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      if (!fd) error = errno;
    }
  }
  if (error != 0) return fail(errno_status(error, "socket"));
  return fd;
}

Result<NamespaceHopper::ResolverSockets> NamespaceHopper::open_resolver(
    const std::string& namespace_path) const {
  ResolverSockets out;
  out.ns.reset(::open(namespace_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!out.ns) return fail(errno_status(errno, "network namespace " + namespace_path));
  const Stay stay(out.ns.get(), own_.get());
  if (stay.error() != 0) {
    return fail(errno_status(stay.error(), "network namespace " + namespace_path));
  }
  MUSTER_TRY(open_inside(out));
  return out;
}

Result<bool> NamespaceHopper::mend_resolver(ResolverSockets& sockets) const {
  const Stay stay(sockets.ns.get(), own_.get());
  if (stay.error() != 0) return fail(errno_status(stay.error(), "network namespace"));
  return mend_inside(sockets);
}

}  // namespace muster::overlay::dns
