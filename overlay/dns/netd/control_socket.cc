#include "overlay/dns/netd/control_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace muster::overlay::dns {

Result<UniqueFd> listen_for_root(const std::string& path, int type) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(invalid_argument("{} is too long", path));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd out(socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!out) return fail(errno_status(errno, "socket"));
  ::unlink(path.c_str());
  const mode_t mask = ::umask(0177);
  const int bound = bind(out.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::umask(mask);
  if (bound != 0) return fail(errno_status(error, path));
  if (::listen(out.get(), 8) != 0) return fail(errno_status(errno, path));
  return out;
}

UniqueFd accept_root(int listener, const Log& log) {
  while (true) {
    UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) return fd;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0) {
      return fd;
    }
    log->warn("a process of user {} is turned away", peer.uid);
  }
}

}  // namespace muster::overlay::dns
