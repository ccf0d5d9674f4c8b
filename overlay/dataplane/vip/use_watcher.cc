#include "overlay/dataplane/vip/use_watcher.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace muster::overlay {

Result<std::unique_ptr<UseWatcher>> UseWatcher::start(int fd, std::function<void()> serve) {
  std::unique_ptr<UseWatcher> out(new UseWatcher(fd, std::move(serve)));
  out->stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!out->stop_) return fail(errno_status(errno, "eventfd"));
  out->thread_ = std::thread([raw = out.get()] { raw->run(); });
  ::pthread_setname_np(out->thread_.native_handle(), "first-use");
  return out;
}

UseWatcher::~UseWatcher() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

void UseWatcher::run() {
  pollfd watched[] = {{fd_, POLLIN, 0}, {stop_.get(), POLLIN, 0}};
  while (true) {
    if (::poll(watched, 2, -1) < 0 && errno != EINTR) return;
    if (watched[1].revents != 0) return;
    if (watched[0].revents != 0) serve_();
    watched[0].revents = watched[1].revents = 0;
  }
}

}  // namespace muster::overlay
