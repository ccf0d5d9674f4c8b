#pragma once

#include <memory>
#include <string>

#include "agent/session/link.h"
#include "base/executor.h"
#include "base/security/key_files.h"

namespace muster::agent {

// Streams over gRPC with mTLS to the manager at `address` ("host:port"). Thread-safe factory,
// events posted to `strand`.
std::unique_ptr<LinkFactory> make_grpc_link_factory(Executor& strand, std::string address,
                                                    const security::NodeCredentials& credentials);

}  // namespace muster::agent
