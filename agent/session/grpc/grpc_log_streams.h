#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/logs/log_publisher.h"
#include "agent/session/grpc/grpc_link.h"

namespace muster::agent {

// Streams of log lines over gRPC with mTLS to the manager whose address ("host:port") `manager`
// gives: the one that the session is with, since it asked for the lines. Connections of their own:
// lines that nobody takes must not fill the one that heartbeats go over.
std::unique_ptr<LogStreamFactory> make_grpc_log_streams(std::function<std::string()> manager,
                                                        CredentialsNow credentials);

}  // namespace muster::agent
