#pragma once

#include <grpcpp/create_channel.h>

#include <memory>
#include <string>

#include "agent/session/grpc/grpc_link.h"
#include "base/security/tls/credentials.h"

namespace muster::agent {

// A connection of its own to the manager at `address`, with the certificate that is in force now.
// Internal to the adapter.
inline std::shared_ptr<grpc::Channel> open_channel(
    const std::string& address, const CredentialsNow& credentials,
    const grpc::ChannelArguments& arguments = security::manager_channel_arguments()) {
  return grpc::CreateCustomChannel(address, security::channel_credentials(credentials()),
                                   arguments);
}

}  // namespace muster::agent
