#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/security/tls_identity.h"
#include "base/security/unlock_key.h"
#include "base/unique_function.h"
#include "deploy/daemon/identity_plan.h"
#include "manager/ca/enrolment.h"

namespace muster::daemon {

// This node's certificate: in memory for everybody, on disk for the next start, and as new as it
// has to be. Network, disk and time come in as functions: the simulator runs it as it is.
//
// It is renewed before it ends, when the node's role changes, and when the root is
// rotated; the trust and the lock follow what the managers say. Lives on the daemon's lifecycle
// strand.
class NodeIdentity {
 public:
  using Lock = std::optional<security::UnlockKey>;
  using Renewed = UniqueFunction<void(Result<manager::ca::Issued>)>;

  struct Deps {
    Executor& strand;
    Rng& rng;
    Log log;
    // Asks the managers for a new certificate for a new key, by the present one; every attempt
    // ends. `done` comes on the strand, once, never from inside the call; not after the end of the
    // strand.
    std::function<void(const std::shared_ptr<security::TlsIdentity>& identity, WallTime now,
                       Renewed done)>
        renew;
    // Where the credentials lie, wrapped with the lock: as one, or as before.
    std::function<Status(const security::NodeCredentials&, const Lock& lock)> save;
    std::function<Status(const Lock& from, const Lock& to)> rewrap;
    std::function<void()> changed;  // another certificate, another trust
    // The certificate ended, or is not valid yet, and nobody gave another one.
    std::function<void(const std::string&)> trouble;
    std::function<void(const std::string&)> removed;  // managers say that the node is none any more
    // Signs by this node's own copy of the swarm's root, for when no manager can: a manager has
    // one.
    std::function<Result<v1::IssueCertificateResponse>(const std::string& signing_request_pem)>
        sign_own;
  };

  // `identity` is what was saved, wrapped with `lock`.
  NodeIdentity(Deps deps, std::shared_ptr<security::TlsIdentity> identity, Lock lock);
  ~NodeIdentity();

  void start();
  const std::shared_ptr<security::TlsIdentity>& tls() const { return identity_; }
  bool manager() const;
  const Lock& lock() const { return lock_; }

  void heard(const v1::ClusterFeed& feed);
  // Somebody refused the certificate, or said that it is outdated.
  void renew_soon(const std::string& why);
  // Wraps the key on disk with another lock, or with none.
  Status set_lock(const Lock& lock);

 private:
  void arm(Duration wait, std::string why);
  void renew();
  void renewed(const Result<manager::ca::Issued>& answer);
  Status take(security::NodeCredentials credentials);
  void failed(const Status& why);
  Status sign_own();
  Duration until_due() const;

  Deps deps_;
  std::shared_ptr<security::TlsIdentity> identity_;
  Lock lock_;
  WallTime due_;
  bool under_way_ = false;
  std::optional<v1::ClusterFeed> meanwhile_;  // heard while a renewal was under way
  unsigned failures_ = 0;
  Executor::TimerId timer_ = 0;
  TimePoint timer_due_;
  std::string armed_why_;  // what a renewal was asked for; empty: a look
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace muster::daemon
