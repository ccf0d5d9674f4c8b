#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/dns/netd/proxy_header.h"

namespace muster::overlay::dns {

// Where a relay listens: "ADDRESS:PORT", "[ADDRESS]:PORT"; an address may name an interface behind
// a "%", by which connections have to come in then.
struct ListenAddress {
  SocketAddress at;
  std::string interface;
};
Result<ListenAddress> parse_listen_address(std::string_view text);
// As it is read there.
std::string text_of(const SocketAddress& address);

// A socket that listens there, for connections or for datagrams, non-blocking. An address that this
// host does not have is fine, it may get it; NOT_FOUND when there is no such interface, or no such
// family; ALREADY_EXISTS when the port is taken.
enum class Transport { kTcp, kUdp };
Result<UniqueFd> open_listener(const ListenAddress& address, Transport transport = Transport::kTcp);

// Begins to connect, non-blocking.
Result<UniqueFd> start_connecting(const SocketAddress& to);

// A socket of datagrams to and from there alone, non-blocking.
Result<UniqueFd> connect_datagrams(const SocketAddress& to);
// As recvfrom(2) and sendto(2).
ssize_t receive_from(int fd, char* to, size_t size, SocketAddress& sender);
ssize_t send_to(int fd, const char* from, size_t size, const SocketAddress& receiver);

// What the peer connected to: before any address translation on this host, where it keeps track.
SocketAddress original_destination(int fd);
SocketAddress remote_end(int fd);
// A peer that is gone without a word is noticed; small pieces go at once.
void tune_stream(int fd);
// Its close is a reset: the peer learns that something was lost.
void close_hard(UniqueFd fd);

}  // namespace muster::overlay::dns
