#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/security/tls_identity.h"
#include "base/security/unlock_key.h"
#include "deploy/daemon/identity_plan.h"
#include "deploy/daemon/work_pool.h"
#include "manager/ca/grpc/ca_client.h"

namespace muster::daemon {

// This node's certificate: in memory for everybody, on disk for the next start, and as new as it
// has to be. It is renewed before it ends, when the node's role changes, and when the root is
// rotated; the trust and the lock follow what the managers say. Lives on the daemon's lifecycle
// strand.
class NodeIdentity {
 public:
  struct Deps {
    Executor& strand;
    WorkPool& pool;  // asking managers blocks
    Rng& rng;
    Log log;
    std::function<std::vector<std::string>()> managers;
    std::function<void()> changed;  // another certificate, another trust
    // The certificate ended, or is not valid yet, and nobody gave another one.
    std::function<void(const std::string&)> trouble;
    std::function<void(const std::string&)> removed;  // managers say that the node is none any more
    // Signs by this node's own copy of the swarm's root, for when no manager can: a manager has
    // one.
    std::function<Result<v1::IssueCertificateResponse>(const std::string& signing_request_pem)>
        sign_own;
  };
  using Lock = std::optional<security::UnlockKey>;

  // `identity` is what lies in `dir`, wrapped with `lock`.
  NodeIdentity(Deps deps, std::filesystem::path dir,
               std::shared_ptr<security::TlsIdentity> identity, Lock lock);
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
  std::filesystem::path dir_;
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
