#pragma once

#include <memory>
#include <string>

#include "agent/logs/log_publisher.h"
#include "base/security/key_files.h"

namespace muster::agent {

// Streams of log lines over gRPC with mTLS to the manager at `address` ("host:port"). A connection
// of their own: lines that nobody takes must not fill the one that heartbeats go over.
std::unique_ptr<LogStreamFactory> make_grpc_log_streams(
    const std::string& address, const security::NodeCredentials& credentials);

}  // namespace muster::agent
