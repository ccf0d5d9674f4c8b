#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <string>

#include "base/status.h"

namespace muster::manager::control {

// Trailing metadata of answers: the stable reason of an error; where the leader is, when somebody
// else was asked; the store's version that an answer of the leader reflects.
inline constexpr const char* kReasonKey = "muster-reason";
inline constexpr const char* kLeaderKey = "muster-leader";
inline constexpr const char* kVersionKey = "muster-version";
// In a read's own metadata, whatever its value: the answer is to reflect every change that was
// acknowledged anywhere before the read began. The leader, asked or not, has a majority confirm it.
inline constexpr const char* kLinearizableKey = "muster-linearizable";

inline grpc::Status to_grpc(const Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), status.message()};
}

inline void add_reason(grpc::ServerContextBase& context, const Status& status) {
  if (!status.reason().empty()) context.AddTrailingMetadata(kReasonKey, status.reason());
}

// Of an answer that has come; empty when it is not there.
inline std::string trailer_of(const grpc::ClientContext& context, const char* key) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto it = trailers.find(key);
  return it == trailers.end() ? std::string() : std::string(it->second.data(), it->second.size());
}

}  // namespace muster::manager::control
