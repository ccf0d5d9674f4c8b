// Loaded into musterd with LD_PRELOAD: a host whose kernel has no br_netfilter. Its settings are
// not there, and what the bridges of new namespaces forward passes by connection tracking, as it
// does without it: the kernel that has it begins with all of it on.
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <string>
#include <string_view>

namespace {

constexpr std::string_view kSettings = "/proc/sys/net/bridge/";

bool is_lacking(const char* path) {
  return std::string_view(path).starts_with(kSettings);
}

template <class Function>
Function kernels(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int kernel_open(const char* path, int flags, mode_t mode) {
  using Open = int (*)(const char*, int, ...);
  static const auto real = kernels<Open>("open");
  return real(path, flags, mode);
}

// In the calling thread's namespace. A kernel that really lacks it has nothing to switch off.
void switch_off() {
  for (const char* name :
       {"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"}) {
    const int fd = kernel_open((std::string(kSettings) + name).c_str(), O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) continue;
    (void)!write(fd, "0", 1);
    close(fd);
  }
}

}  // namespace

extern "C" {

int access(const char* path, int mode) noexcept {
  using Access = int (*)(const char*, int);
  static const auto real = kernels<Access>("access");
  if (!is_lacking(path)) return real(path, mode);
  errno = ENOENT;
  return -1;
}

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | __O_TMPFILE)) != 0) {
    va_list list;
    va_start(list, flags);
    mode = va_arg(list, mode_t);
    va_end(list);
  }
  if (!is_lacking(path)) return kernel_open(path, flags, mode);
  errno = ENOENT;
  return -1;
}

int unshare(int flags) noexcept {
  using Unshare = int (*)(int);
  static const auto real = kernels<Unshare>("unshare");
  const int result = real(flags);
  if (result == 0 && (flags & CLONE_NEWNET) != 0) switch_off();
  return result;
}
}
