#pragma once

#include <optional>
#include <string>
#include <vector>

#include "deploy/cli/flags.h"
#include "muster/v1/specs.pb.h"

namespace muster::deploy::cli {

// The options of `swarm init`, `swarm update` and `swarm ca` that become the cluster's spec.
class ClusterFlags {
 public:
  void declare(Flags& flags);
  void declare_cert_expiry(Flags& flags);
  bool any() const;
  const std::optional<bool>& autolock() const { return autolock_; }
  // Over what the spec says.
  Status apply(v1::ClusterSpec* spec) const;

 private:
  Status apply_log_driver(v1::ClusterSpec* spec) const;
  Status apply_raft(v1::ClusterSpec* spec) const;
  Status apply_encryption(v1::EncryptionConfig* encryption) const;

  std::optional<std::string> history_, heartbeat_, grace_, cert_expiry_, retention_, drain_ack_,
      log_driver_, snapshot_interval_, max_snapshots_, key_rotation_, encryption_port_,
      raft_heartbeat_, election_timeout_;
  std::optional<bool> autolock_, encryption_udp_;
  std::vector<std::string> log_options_, external_cas_;
};

// "protocol=cfssl,url=https://...[,cacert=FILE][,KEY=VALUE...]"
Result<v1::ExternalCa> parse_external_ca(const std::string& text);

}  // namespace muster::deploy::cli
