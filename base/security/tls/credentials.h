#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/channel_arguments.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/security/access.h"
#include "base/security/key_files.h"
#include "base/security/principal.h"
#include "base/security/tls_identity.h"

namespace muster::security {

// Must run before the first use of gRPC in a process: leaves TLS 1.3 as the only version. gRPC 1.51
// has no setting for it; naming a suite that needs a key nobody has disables 1.2 and below.
void require_tls13();

// For programs that serve: gRPC's locks come with a search for cycles in their order, for all
// threads one after another. It finds errors of gRPC's own, at 4 % of the time of a small write.
void relax_grpc_locks();

// ------------------------------------------------------------ servers

// Serves with the certificate that `identity` has when a connection is accepted; what it trusts is
// as new. Callers are asked for a certificate, and one that is given must be vouched for; callers
// without one are let in as Principal::kNone. `gate`, when given, stands before every method. A
// server keeps both for as long as it lives.
std::shared_ptr<grpc::ServerCredentials> server_credentials(std::shared_ptr<TlsIdentity> identity,
                                                            CallGate gate = {});

// The caller of a TLS server. kNone when it showed no certificate, or one that is no node's.
Principal principal_of_tls(const grpc::ServerContextBase& context);

// ------------------------------------------------------------ channels

// Calls with the node's certificate. The server must hold a manager's certificate of the same
// cluster, vouched for by what the node trusts, and be `expected_node_id` unless that is empty.
// Pair it with manager_channel_arguments().
std::shared_ptr<grpc::ChannelCredentials> channel_credentials(
    const NodeCredentials& node, const std::string& expected_node_id = {});

// For those who have no certificate yet. With a root: the server must hold a manager's certificate
// vouched for by it. Without: nothing is verified; only for fetching the root, whose digest the
// caller compares with its token's before it says anything that matters.
std::shared_ptr<grpc::ChannelCredentials> joiner_channel_credentials(const std::string& root_pem);

// Arguments for channels to a manager: whatever address it is reached by, it goes by the name of
// its role; reconnect backoff 50 ms to 1 s, `connect_max` from the first packet to the end of the
// TLS handshake, no proxy, keepalive 5 s, a connection of its own (no sharing of subchannels).
grpc::ChannelArguments manager_channel_arguments(Duration connect_max = std::chrono::seconds(2));

// The channel to one manager. gRPC cannot change the certificate of a channel, so it is made anew
// once the identity has been replaced: ask get() for every call or stream. Calls under way on an
// earlier one go on undisturbed.
//
// Thread-safe.
class ManagerChannel {
 public:
  ManagerChannel(std::shared_ptr<TlsIdentity> identity, std::string address,
                 std::string expected_node_id = {},
                 grpc::ChannelArguments arguments = manager_channel_arguments());

  std::shared_ptr<grpc::Channel> get();
  const std::string& address() const { return address_; }

 private:
  const std::shared_ptr<TlsIdentity> identity_;
  const std::string address_;
  const std::string expected_node_id_;
  const grpc::ChannelArguments arguments_;
  std::mutex mutex_;  // guards what follows
  uint64_t generation_ = 0;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace muster::security
