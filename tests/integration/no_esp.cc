// Loaded into musterd with LD_PRELOAD: a host whose kernel has no IPsec, as one without the module
// xfrm_user.
#include <dlfcn.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>

extern "C" int socket(int domain, int type, int protocol) {
  using Socket = int (*)(int, int, int);
  static const auto kernel_socket = reinterpret_cast<Socket>(dlsym(RTLD_NEXT, "socket"));
  if (domain == AF_NETLINK && protocol == NETLINK_XFRM) {
    errno = EPROTONOSUPPORT;
    return -1;
  }
  return kernel_socket(domain, type, protocol);
}
