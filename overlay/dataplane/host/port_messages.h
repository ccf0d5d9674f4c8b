#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/balancer/balancer.h"

namespace muster::overlay {

// How musterd and netd speak of the sockets that hold published ports (port_keeper.h,
// overlay/dns/netd/kept_ports.h): messages of a SOCK_SEQPACKET socket, text with descriptors beside
// it. Each command has one answer, but "list":
//   keep NAME, with its socket      "done"; replaces one of that name
//   drop NAME                       "done" once it is closed, also if there was none
//   list                            "kept\nNAME\nNAME...", with a socket for each name, as often as
//                                   it takes; then "done"
// Anything else is answered "refused WHY", so that either side may be the newer one.
struct PortMessage {
  std::string text;
  std::vector<UniqueFd> sockets;
};
inline constexpr size_t kPortMessageMax = 16384;
inline constexpr size_t kPortSocketsMax = 64;  // of a message
inline constexpr size_t kPortNameMax = 100;

inline constexpr std::string_view kPortKeep = "keep ";
inline constexpr std::string_view kPortDrop = "drop ";
inline constexpr std::string_view kPortList = "list";
inline constexpr std::string_view kPortKept = "kept\n";
inline constexpr std::string_view kPortDone = "done";
inline constexpr std::string_view kPortRefused = "refused ";

// "<run-dir>/port.sock", of one instance.
std::string port_socket(const std::string& run_dir);

// 0, or the errno; of a non-blocking socket EAGAIN when there is no room, or nothing to be had.
int send_port_message(int fd, std::string_view text, const std::vector<int>& sockets);
// ECONNRESET at the end; EMSGSIZE for one that did not arrive whole.
int receive_port_message(int fd, PortMessage& out);
// "kept\nA\nB\n" to A, B.
std::vector<std::string> names_in(std::string_view kept);

// What holds a port in one family: "tcp/8080/v4", "udp/53/v6/eth0", "tcp/80/v4/192.0.2.1".
std::string kept_name(const FrontendKey& key, bool v6);
struct NamedPort {
  FrontendKey key;
  bool v6 = false;
};
// Nothing for a name of another version.
std::optional<NamedPort> parse_kept_name(std::string_view name);

}  // namespace muster::overlay
