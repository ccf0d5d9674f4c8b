#include "agent/secrets/payloads.h"

#include <string.h>

#include <utility>

namespace muster::agent {

Payload::~Payload() {
  ::explicit_bzero(data.data(), data.size());
}

Status Payloads::apply(const v1::FeedUpdate& step) {
  if (step.complete()) payloads_.clear();
  for (const std::string& id : step.removed_secret_ids()) payloads_.erase(id);
  Status broken;
  std::shared_ptr<Payload> joined;
  for (const v1::SecretAssignment& piece : step.secrets()) {
    if (joined != nullptr && joined->id != piece.id()) {
      broken = data_loss("{} came without its end", joined->name);
      joined.reset();
    }
    if (joined == nullptr) {
      joined = std::make_shared<Payload>();
      joined->id = piece.id();
      joined->name = piece.name();
      joined->config = piece.config();
      joined->template_driver = piece.template_driver();
    }
    joined->data += piece.data();
    if (!piece.more()) payloads_.insert_or_assign(piece.id(), std::exchange(joined, nullptr));
  }
  if (joined != nullptr) broken = data_loss("{} came without its end", joined->name);
  return broken;
}

PayloadPtr Payloads::find(std::string_view id) const {
  const auto found = payloads_.find(id);
  return found == payloads_.end() ? nullptr : found->second;
}

}  // namespace muster::agent
