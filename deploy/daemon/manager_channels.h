#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/executor.h"
#include "base/security/tls/credentials.h"
#include "base/security/tls_identity.h"
#include "deploy/daemon/work_pool.h"
#include "manager/members/reachability.h"

namespace muster::daemon {

// Whether a manager answers at `address` that goes by the identity of this node. To be asked while
// this node does not serve there itself: then it is another process, with a copy of its state. A
// second at most; no time where nobody listens.
bool answers_as_self(const std::shared_ptr<security::TlsIdentity>& identity,
                     const std::string& address);

// Channels to the other managers, kept for requests that are passed on to them: one an address,
// made anew with the node's certificate. Thread-safe.
class ManagerChannels {
 public:
  // `identity`: what the node goes by now; null outside of a swarm.
  explicit ManagerChannels(std::function<std::shared_ptr<security::TlsIdentity>()> identity)
      : identity_(std::move(identity)) {}

  // Answers of any size pass. Null outside of a swarm.
  std::shared_ptr<grpc::Channel> to(const std::string& address);

 private:
  std::function<std::shared_ptr<security::TlsIdentity>()> identity_;
  std::mutex mutex_;
  std::shared_ptr<security::TlsIdentity> known_;  // whose channels these are
  std::map<std::string, std::unique_ptr<security::ManagerChannel>> channels_;
};

// Whether managers answer at their addresses, found out by connecting to them: the handshake says
// that a manager of this swarm is there. A few at a time, each with a thread for as long as it
// takes.
class ManagerReachability final : public manager::members::Reachability {
 public:
  // Answers on `strand`.
  ManagerReachability(Executor& strand,
                      std::function<std::shared_ptr<security::TlsIdentity>()> identity);

  void check(const std::string& address, UniqueFunction<void(Status)> done) override;

 private:
  Executor& strand_;
  std::function<std::shared_ptr<security::TlsIdentity>()> identity_;
  WorkPool pool_;
};

}  // namespace muster::daemon
