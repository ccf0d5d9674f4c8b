// Loaded into musterd with LD_PRELOAD: a host whose kernel has no VXLAN, as one without the module.
// What asks for a device of that kind asks for one of a kind that no kernel has, so that the
// refusal is the kernel's own.
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <string>
#include <string_view>

namespace {

// IFLA_INFO_KIND with its length, as the kernel is told it on a little-endian machine.
constexpr std::string_view kKind{"\x0a\0\1\0vxlan\0", 10};

ssize_t kernel_send(int fd, const void* data, size_t size, int flags) {
  using Send = ssize_t (*)(int, const void*, size_t, int);
  static const auto real = reinterpret_cast<Send>(dlsym(RTLD_NEXT, "send"));
  return real(fd, data, size, flags);
}

}  // namespace

extern "C" ssize_t send(int fd, const void* data, size_t size, int flags) {
  const std::string_view told(static_cast<const char*>(data), size);
  const size_t at = told.find(kKind);
  if (at == std::string_view::npos) return kernel_send(fd, data, size, flags);
  std::string other(told);
  other[at + 5] = 'y';
  return kernel_send(fd, other.data(), other.size(), flags);
}
