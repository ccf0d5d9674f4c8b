#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>

#include "base/security/key_files.h"
#include "base/security/principal.h"

namespace muster::security {

// Must run before the first use of gRPC in a process: leaves TLS 1.3 as the only version. gRPC 1.51
// has no setting for it; naming a suite that needs a key nobody has disables 1.2 and below.
void require_tls13();

// Serves with the node's certificate. Callers are asked for a certificate, and one that is given
// must be signed by the root; callers without one are let in as Principal::kNone.
std::shared_ptr<grpc::ServerCredentials> server_credentials(const NodeCredentials& node);

// Calls with the node's certificate and trusts servers signed by the root. Pair it with
// manager_channel_arguments(), which say what name the server must have.
std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const NodeCredentials& node);

// Arguments for channels to a manager: the server must hold a manager's certificate, whatever
// address it is reached by; reconnect backoff 50 ms to 1 s, connect time-out 2 s, no proxy,
// keepalive 5 s, a connection of its own (no sharing of subchannels).
grpc::ChannelArguments manager_channel_arguments();

// The caller of a TLS server. kNone when it showed no certificate.
Principal principal_of_tls(const grpc::ServerContextBase& context);

}  // namespace muster::security
