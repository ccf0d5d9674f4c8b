#pragma once

#include <grpcpp/support/status.h>

#include "base/status.h"

namespace muster::daemon {

// The wire form of a status: the same code and message. Reasons travel in trailing metadata
// ("muster-reason"), which the caller adds where it has a server context.
inline grpc::Status to_grpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), status.message());
}

}  // namespace muster::daemon
