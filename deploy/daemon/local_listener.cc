#include "deploy/daemon/local_listener.h"

#include <fcntl.h>
#include <grp.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/file.h"

namespace muster::daemon {
namespace {

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return fail(invalid_argument("the socket path {} is longer than {} bytes", path,
                                 sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

bool answers(const sockaddr_un& address) {
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

LocalListener::~LocalListener() {
  stop();
}

Status LocalListener::listen(const std::string& path) {
  MUSTER_ASSIGN(const sockaddr_un address, unix_address(path));
  MUSTER_TRY(make_directory(std::filesystem::path(path).parent_path(), 0755));
  if (answers(address)) {
    return failed_precondition("another musterd already listens on {}", path);
  }
  // What a killed musterd left there goes; somebody's file does not.
  struct stat there {};
  if (lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) {
      return failed_precondition("{} exists and is not a socket", path);
    }
    if (unlink(path.c_str()) != 0)
      return errno_status(errno, fmt::format("cannot remove {}", path));
  }
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno_status(errno, "cannot make a socket");
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_status(errno, fmt::format("cannot bind {}", path));
  }
  if (const group* muster = getgrnam("muster")) {
    if (chown(path.c_str(), 0, muster->gr_gid) != 0) {
      log_->warn("the group of {} was not set: {}", path, std::strerror(errno));
    }
  }
  if (chmod(path.c_str(), 0660) != 0) return errno_status(errno, fmt::format("chmod {}", path));
  if (::listen(fd.get(), 128) != 0) return errno_status(errno, fmt::format("listen on {}", path));
  path_ = path;
  socket_ = std::move(fd);
  return ok_status();
}

void LocalListener::start(grpc::Server& server) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) == 0) {
    wake_read_ = UniqueFd(fds[0]);
    wake_write_ = UniqueFd(fds[1]);
  }
  thread_ = std::thread([this, &server] { accept_loop(server); });
}

void LocalListener::accept_loop(grpc::Server& server) {
  pthread_setname_np(pthread_self(), "local-listener");
  while (true) {
    pollfd polled[2] = {{socket_.get(), POLLIN, 0}, {wake_read_.get(), POLLIN, 0}};
    if (poll(polled, 2, -1) < 0 && errno != EINTR) return;
    if (polled[1].revents != 0) return;
    UniqueFd client(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) continue;
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) continue;
    security::Principal caller;
    caller.kind = security::Principal::Kind::kLocalUser;
    caller.uid = credentials.uid;
    caller.gid = credentials.gid;
    {
      // A descriptor's number is reused only after gRPC closed it, so the entry is never stale
      // for a living connection.
      std::lock_guard lock(mutex_);
      peers_[fmt::format("fd:{}", client.get())] = caller;
    }
    grpc::AddInsecureChannelFromFd(&server, client.release());
  }
}

void LocalListener::stop() {
  if (thread_.joinable()) {
    wake_write_.reset();
    thread_.join();
  }
  if (socket_) {
    // In this order: a successor may bind the path as soon as nobody answers on it.
    unlink(path_.c_str());
    socket_.reset();
  }
}

security::Principal LocalListener::principal(const grpc::ServerContextBase& context) const {
  std::lock_guard lock(mutex_);
  const auto it = peers_.find(context.peer());
  return it == peers_.end() ? security::Principal{} : it->second;
}

}  // namespace muster::daemon
