#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/security/key_files.h"
#include "base/security/tls_identity.h"
#include "deploy/daemon/node_identity.h"
#include "tests/sim/sim_host_identity.h"

namespace muster::sim {

// A node's certificate as its daemon has it: what lies on the disk, which survives everything, and
// the daemon's own NodeIdentity while the process runs.
class SimIdentity final : public HostIdentity {
 public:
  using Answer = UniqueFunction<void(Result<v1::IssueCertificateResponse>)>;

  struct Deps {
    const Clock& clock;  // of its machine
    Rng& rng;
    // Asks the managers; answers once, on any strand.
    std::function<void(SimIdentity&, v1::IssueCertificateRequest, Answer)> ask;
    std::function<Result<v1::IssueCertificateResponse>(const SimIdentity&, const std::string& csr)>
        sign_own;
    std::function<void(SimIdentity&)> on_changed;  // another certificate, another trust
    std::function<void(SimIdentity&)> on_removed;  // managers say so
  };

  // `name` is for people; the node's id comes from the key that it joins with, as always.
  SimIdentity(Deps deps, std::string name, v1::NodeSpec::Role role);
  ~SimIdentity() override;

  const std::string& name() const { return name_; }
  const std::string& id() const { return id_; }
  v1::NodeSpec::Role joins_as() const { return role_; }
  const Clock& clock() const { return deps_.clock; }

  // ------------------------------------------------------------ the disk
  bool has_certificate() const override { return disk_.has_value(); }
  const security::NodeCredentials& credentials() const { return *disk_; }
  const security::CertificateFacts& facts() const { return facts_; }
  bool manager() const;
  // Grows with every change.
  uint64_t generation() const { return generation_; }
  // When one of the certificates that it shows or trusts begins or ends; sorted.
  const std::vector<WallTime>& instants() const { return instants_; }
  void keep(security::NodeCredentials credentials);
  // As "swarm leave" does it.
  void forget();

  // ------------------------------------------------------------ joining
  const std::string& join_key() const { return join_key_; }
  std::string token;  // it joins with; empty: it asks for one
  bool joining = false;

  // ------------------------------------------------------------ the process
  bool running() const { return identity_ != nullptr; }
  v1::TlsInfo tls() const override;
  void started(Executor& strand, std::function<void()> certificate_changed) override;
  void ended() override;
  void heard(const v1::ClusterFeed& feed) override;
  void outdated(const std::string& why) override;
  void removed(const std::string& why) override;

 private:
  void renew(Executor& strand, const security::TlsIdentity& identity, WallTime now,
             daemon::NodeIdentity::Renewed done);

  Deps deps_;
  const std::string name_;
  const v1::NodeSpec::Role role_;
  std::string join_key_;
  std::string id_;
  std::optional<security::NodeCredentials> disk_;
  mutable std::optional<v1::TlsInfo> described_;  // once somebody asked
  security::CertificateFacts facts_;
  std::vector<WallTime> instants_;
  uint64_t generation_ = 0;
  std::unique_ptr<daemon::NodeIdentity> identity_;
  std::shared_ptr<int> process_;  // dies with it
};

}  // namespace muster::sim
