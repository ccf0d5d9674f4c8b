#include "agent/doctor/echo_probe.h"

#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace muster::agent {
namespace {

// Type, code, checksum, identifier and number: the same in both families.
using Echo = std::array<unsigned char, 8>;

uint16_t checksum(const Echo& echo) {
  uint32_t sum = 0;
  for (size_t i = 0; i < echo.size(); i += 2)
    sum += static_cast<uint32_t>(echo[i] << 8 | echo[i + 1]);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

Echo question(bool v6, uint16_t identifier, uint16_t number) {
  Echo out{};
  out[0] = v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
  out[4] = static_cast<unsigned char>(identifier >> 8);
  out[5] = static_cast<unsigned char>(identifier & 0xff);
  out[6] = static_cast<unsigned char>(number >> 8);
  out[7] = static_cast<unsigned char>(number & 0xff);
  if (!v6) {  // the kernel makes that of IPv6
    const uint16_t sum = checksum(out);
    out[2] = static_cast<unsigned char>(sum >> 8);
    out[3] = static_cast<unsigned char>(sum & 0xff);
  }
  return out;
}

bool is_v6(const std::string& address) {
  return address.find(':') != std::string::npos;
}

}  // namespace

Result<EchoProbe> EchoProbe::open(uint16_t number, const std::vector<std::string>& addresses) {
  EchoProbe out(number, addresses);
  for (const bool v6 : {false, true}) {
    if (std::none_of(addresses.begin(), addresses.end(),
                     [v6](const std::string& address) { return is_v6(address) == v6; })) {
      continue;
    }
    UniqueFd& fd = v6 ? out.v6_ : out.v4_;
    fd = UniqueFd(::socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                           v6 ? static_cast<int>(IPPROTO_ICMPV6) : static_cast<int>(IPPROTO_ICMP)));
    if (!fd) return fail(errno_status(errno, "cannot open a socket for echoes"));
  }
  return out;
}

std::vector<int> EchoProbe::fds() const {
  std::vector<int> out;
  for (const UniqueFd* fd : {&v4_, &v6_}) {
    if (*fd) out.push_back(fd->get());
  }
  return out;
}

bool EchoProbe::finished() const {
  return std::all_of(answered_.begin(), answered_.end(), [](bool answered) { return answered; });
}

void EchoProbe::ask() {
  for (size_t i = 0; i < addresses_.size(); ++i) {
    if (answered_[i]) continue;
    const bool v6 = is_v6(addresses_[i]);
    sockaddr_storage storage{};
    auto* to4 = reinterpret_cast<sockaddr_in*>(&storage);
    auto* to6 = reinterpret_cast<sockaddr_in6*>(&storage);
    storage.ss_family = v6 ? AF_INET6 : AF_INET;
    if (inet_pton(storage.ss_family, addresses_[i].c_str(),
                  v6 ? static_cast<void*>(&to6->sin6_addr) : &to4->sin_addr) != 1) {
      continue;
    }
    const Echo echo = question(v6, number_, static_cast<uint16_t>(i));
    (void)sendto((v6 ? v6_ : v4_).get(), echo.data(), echo.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&storage), v6 ? sizeof *to6 : sizeof *to4);
  }
}

void EchoProbe::take() {
  if (v4_) take(v4_.get(), false);
  if (v6_) take(v6_.get(), true);
}

void EchoProbe::take(int fd, bool v6) {
  std::array<unsigned char, 2048> buffer;
  for (;;) {
    const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    // A socket of IPv4 sees the IP header, too.
    const size_t skip = v6 ? 0 : (buffer[0] & 0xfu) * 4;
    if (static_cast<size_t>(got) < skip + sizeof(Echo)) continue;
    const unsigned char* echo = buffer.data() + skip;
    const auto word = [echo](size_t at) {
      return static_cast<size_t>(echo[at] << 8 | echo[at + 1]);
    };
    if (echo[0] != (v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) || word(4) != number_) continue;
    const size_t i = word(6);
    if (i < answered_.size() && is_v6(addresses_[i]) == v6) answered_[i] = true;
  }
}

}  // namespace muster::agent
