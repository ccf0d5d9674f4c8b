#pragma once

#include <future>
#include <vector>

#include "base/executor.h"
#include "manager/dispatcher/dispatcher.h"

namespace muster::daemon {

// Tries a TCP connection to the node's control port: refused means that the host lives and its
// musterd does not. Each probe has a short-lived thread, joined on destruction; probes are rare (a
// node that fell silent).
class TcpHostProbe final : public manager::dispatcher::HostProbe {
 public:
  TcpHostProbe(Executor& strand, uint16_t port) : strand_(strand), port_(port) {}

  void probe(const std::string& address,
             std::function<void(manager::dispatcher::ProbeResult)> done) override;

 private:
  Executor& strand_;
  const uint16_t port_;
  std::vector<std::future<void>> probes_;
};

}  // namespace muster::daemon
