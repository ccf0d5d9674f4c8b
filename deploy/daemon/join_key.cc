#include "deploy/daemon/join_key.h"

#include "base/security/x509.h"

namespace muster::daemon {

Result<std::string> JoinKey::take(const std::string& token) {
  again_ = !key_pem_.empty() && token == token_;
  if (!again_) {
    MUSTER_ASSIGN(key_pem_, security::generate_key());
    token_ = token;
  }
  return key_pem_;
}

bool JoinKey::ended(const Status& status) {
  const bool unanswered =
      status.code() == StatusCode::kUnavailable || status.code() == StatusCode::kDeadlineExceeded;
  if (unanswered) return false;
  key_pem_.clear();
  return again_ && status.reason() == "node-removed";
}

}  // namespace muster::daemon
