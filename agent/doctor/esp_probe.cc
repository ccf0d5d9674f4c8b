#include "agent/doctor/esp_probe.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace muster::agent {
namespace {

// Of a security association that there is not: "mdoc".
constexpr uint32_t kSpi = 0x6d646f63;
constexpr size_t kUdpHeader = 8;
constexpr size_t kEspHeader = 8;  // SPI, sequence number
constexpr size_t kPacketMax = 65'535;

void put16(std::string& out, size_t value) {
  out += static_cast<char>(value >> 8 & 0xff);
  out += static_cast<char>(value & 0xff);
}
void put32(std::string& out, uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}

socklen_t fill(sockaddr_storage& storage, const std::string& address, bool v6) {
  if (v6) {
    auto& to = reinterpret_cast<sockaddr_in6&>(storage);
    to.sin6_family = AF_INET6;
    return inet_pton(AF_INET6, address.c_str(), &to.sin6_addr) == 1 ? sizeof to : 0;
  }
  auto& to = reinterpret_cast<sockaddr_in&>(storage);
  to.sin_family = AF_INET;
  return inet_pton(AF_INET, address.c_str(), &to.sin_addr) == 1 ? sizeof to : 0;
}

// A busy host's traffic must not be copied to us: only packets with our number are. A socket of
// IPv4 sees the IP header, too.
Status keep_ours(int fd, bool v6, uint32_t offset) {
  const uint16_t load = v6 ? BPF_LD | BPF_W | BPF_ABS : BPF_LD | BPF_W | BPF_IND;
  sock_filter code[] = {
      v6 ? sock_filter BPF_STMT(BPF_LD | BPF_IMM, 0)
         : sock_filter BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
      BPF_STMT(load, offset),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSpi, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kPacketMax),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog program = {sizeof code / sizeof code[0], code};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) {
    return errno_status(errno, "cannot filter packets");
  }
  return ok_status();
}

}  // namespace

Result<std::unique_ptr<EspProbe>> EspProbe::open(const HostTests::TunnelTest& test,
                                                 uint16_t udp_port) {
  const bool v6 = test.local_addr.find(':') != std::string::npos;
  UniqueFd fd(::socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                       udp_port == 0 ? IPPROTO_ESP : IPPROTO_UDP));
  if (!fd) return fail(errno_status(errno, "cannot open a socket for packets"));
  MUSTER_TRY(keep_ours(fd.get(), v6, udp_port == 0 ? 0 : kUdpHeader));
  sockaddr_storage own{};
  const socklen_t size = fill(own, test.local_addr, v6);
  if (size == 0) return fail(invalid_argument("\"{}\" is no address", test.local_addr));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), size) != 0) {
    return fail(errno_status(errno, "cannot use address " + test.local_addr));
  }
  if (v6 && udp_port != 0) {
    const int offset = 6;  // of the checksum, which IPv6 wants
    if (setsockopt(fd.get(), IPPROTO_IPV6, IPV6_CHECKSUM, &offset, sizeof offset) != 0) {
      return fail(errno_status(errno, "cannot have checksums made"));
    }
  }
  std::unique_ptr<EspProbe> probe(new EspProbe(std::move(fd), v6, udp_port));
  probe->peers_ = test.peers;
  return probe;
}

void EspProbe::send(const std::string& peer, std::string_view content) {
  const auto at = peers_.find(peer);
  if (at == peers_.end()) return;
  sockaddr_storage to{};
  const socklen_t size = fill(to, at->second, v6_);
  if (size == 0) return;
  std::string packet;
  if (udp_port_ != 0) {
    put16(packet, udp_port_);
    put16(packet, udp_port_);
    put16(packet, kUdpHeader + kEspHeader + content.size());
    put16(packet, 0);
  }
  put32(packet, kSpi);
  put32(packet, ++sequence_);
  packet += content;
  // What cannot be sent is lost, as on any way.
  (void)sendto(socket_.get(), packet.data(), packet.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&to), size);
}

std::optional<std::string> EspProbe::receive() {
  std::string buffer(kPacketMax, '\0');
  for (;;) {
    const ssize_t got = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return std::nullopt;
    }
    std::string_view rest = std::string_view(buffer).substr(0, static_cast<size_t>(got));
    const size_t ip = v6_ || rest.empty() ? 0 : (static_cast<uint8_t>(rest[0]) & 0xf) * 4u;
    const size_t skip = ip + (udp_port_ == 0 ? 0 : kUdpHeader) + kEspHeader;
    if (rest.size() < skip) continue;
    return std::string(rest.substr(skip));
  }
}

}  // namespace muster::agent
