#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/doctor/host_tests.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::agent {

// Sends to other nodes and hears of them what looks like encrypted networks' packets on their way:
// IP protocol 50, or the same in UDP. What arrives here has passed every rule of both hosts and
// what is between them; the kernel, which knows no key for it, drops it behind that.
class EspProbe {
 public:
  // `udp_port`: 0 = protocol 50 itself. To be made by a thread in the host's namespace.
  static Result<std::unique_ptr<EspProbe>> open(const HostTests::TunnelTest& test,
                                                uint16_t udp_port);

  int fd() const { return socket_.get(); }
  void send(const std::string& peer, std::string_view content);
  std::optional<std::string> receive();

 private:
  EspProbe(UniqueFd socket, bool v6, uint16_t udp_port)
      : socket_(std::move(socket)), v6_(v6), udp_port_(udp_port) {}

  UniqueFd socket_;
  const bool v6_;
  const uint16_t udp_port_;
  std::map<std::string, std::string> peers_;  // addresses
  uint32_t sequence_ = 0;
};

}  // namespace muster::agent
