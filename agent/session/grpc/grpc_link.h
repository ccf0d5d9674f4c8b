#pragma once

#include <functional>
#include <memory>

#include "agent/session/link.h"
#include "base/executor.h"
#include "base/security/key_files.h"

namespace muster::agent {

// The node's credentials as they are now; asked for with every connection, from any thread.
using CredentialsNow = std::function<security::NodeCredentials()>;

// Streams over gRPC with mTLS, each over a connection of its own. Thread-safe factory, events
// posted to `strand`.
std::unique_ptr<LinkFactory> make_grpc_link_factory(Executor& strand, CredentialsNow credentials);

}  // namespace muster::agent
