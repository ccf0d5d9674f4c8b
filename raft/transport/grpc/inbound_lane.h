#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>

#include "base/security/principal.h"

namespace muster::raft {

class Inbound;

// The answering side of Raft.Lane; deletes itself.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* answer_lane(
    std::shared_ptr<Inbound> inbound, grpc::CallbackServerContext& context,
    security::Principal caller);

}  // namespace muster::raft
