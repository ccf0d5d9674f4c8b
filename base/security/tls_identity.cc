#include "base/security/tls_identity.h"

#include <utility>

namespace muster::security {
namespace {

Result<TlsIdentity::Current> examine(NodeCredentials credentials) {
  TlsIdentity::Current current;
  MUSTER_ASSIGN(current.facts, read_certificate(credentials.node.certificate_pem));
  MUSTER_TRY(check_key(credentials.node.certificate_pem, credentials.node.key_pem));
  // Whatever the time: an expired one is a matter for whoever asks about that.
  MUSTER_ASSIGN(current.issuer,
                read_issuer(credentials.node.certificate_pem, credentials.root_pem));
  current.credentials = std::move(credentials);
  return current;
}

}  // namespace

Result<std::shared_ptr<TlsIdentity>> TlsIdentity::create(NodeCredentials credentials) {
  MUSTER_ASSIGN(Current current, examine(std::move(credentials)));
  current.generation = 1;
  return std::shared_ptr<TlsIdentity>(
      new TlsIdentity(std::make_shared<const Current>(std::move(current))));
}

std::shared_ptr<const TlsIdentity::Current> TlsIdentity::current() const {
  std::lock_guard lock(mutex_);
  return current_;
}

Status TlsIdentity::replace(NodeCredentials credentials) {
  MUSTER_ASSIGN(Current next, examine(std::move(credentials)));
  std::lock_guard lock(mutex_);
  const CertificateIdentity& mine = current_->facts.identity;
  if (next.facts.identity.node_id != mine.node_id ||
      next.facts.identity.cluster_id != mine.cluster_id) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("a certificate of node {} in swarm {}; this is node {} in swarm {}",
                              next.facts.identity.node_id, next.facts.identity.cluster_id,
                              mine.node_id, mine.cluster_id));
  }
  next.generation = current_->generation + 1;
  current_ = std::make_shared<const Current>(std::move(next));
  return ok_status();
}

}  // namespace muster::security
