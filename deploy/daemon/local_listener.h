#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_context.h>

#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "base/log.h"
#include "base/security/principal.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::daemon {

// The Unix socket of the local API. gRPC cannot tell who is at the other end of a Unix socket, so
// connections are accepted here, asked for SO_PEERCRED, and only then handed to the gRPC server.
// Thread-safe.
class LocalListener {
 public:
  explicit LocalListener(Log log) : log_(std::move(log)) {}
  ~LocalListener();

  // Binds `path` with mode 0660, and group "muster" if that group exists. A socket that a dead
  // process left is replaced; one that answers is FAILED_PRECONDITION.
  Status listen(const std::string& path);
  // Starts handing connections to the server, which must outlive stop().
  void start(grpc::Server& server);
  // Closes and removes the socket.
  void stop();

  // The caller of a request that came in through this listener; kNone otherwise.
  security::Principal principal(const grpc::ServerContextBase& context) const;

 private:
  void accept_loop(grpc::Server& server);

  Log log_;
  std::string path_;
  UniqueFd socket_;
  UniqueFd wake_read_, wake_write_;
  std::thread thread_;
  mutable std::mutex mutex_;
  std::map<std::string, security::Principal> peers_;  // by gRPC's name of the connection, "fd:12"
};

}  // namespace muster::daemon
