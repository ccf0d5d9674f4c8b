#pragma once

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

// A socket that listens there, non-blocking. An address that this host does not have is fine, it
// may get it; NOT_FOUND when there is no such interface, or no such family; ALREADY_EXISTS when the
// port is taken.
Result<UniqueFd> open_listener(const ListenAddress& address);

// Begins to connect, non-blocking.
Result<UniqueFd> start_connecting(const SocketAddress& to);

// What the peer connected to: before any address translation on this host, where it keeps track.
SocketAddress original_destination(int fd);
SocketAddress remote_end(int fd);
// A peer that is gone without a word is noticed; small pieces go at once.
void tune_stream(int fd);
// Its close is a reset: the peer learns that something was lost.
void close_hard(UniqueFd fd);

}  // namespace muster::overlay::dns
