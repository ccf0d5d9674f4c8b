#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "base/security/key_files.h"
#include "base/security/x509.h"
#include "base/status.h"

namespace muster::security {

// The certificate, key and trust this process goes by, which change while it runs: servers take the
// newest for every connection they accept, channels are made anew (tls/credentials.h). Keys are in
// memory alone.
//
// Thread-safe.
class TlsIdentity {
 public:
  struct Current {
    NodeCredentials credentials;
    CertificateFacts facts;
    CertificateIssuer issuer;
    uint64_t generation = 0;  // grows with every replacement
  };

  // INVALID_ARGUMENT when they are no credentials; UNAUTHENTICATED when certificate and key, or
  // certificate and trust, do not belong together. Their time is not checked: see renewal.h.
  static Result<std::shared_ptr<TlsIdentity>> create(NodeCredentials credentials);

  std::shared_ptr<const Current> current() const;
  // Checked as by create(); of the same node in the same cluster, whatever its role. On an error
  // what was in force stays so.
  Status replace(NodeCredentials credentials);

 private:
  explicit TlsIdentity(std::shared_ptr<const Current> current) : current_(std::move(current)) {}

  mutable std::mutex mutex_;  // guards the pointer
  std::shared_ptr<const Current> current_;
};

}  // namespace muster::security
