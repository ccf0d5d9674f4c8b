#include "overlay/dns/netd/event_loop.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace muster::overlay::dns {
namespace {

// What epoll hands back: the descriptor, and enough of the watch's number to tell it from a later
// watch of the same descriptor.
uint64_t tag(int fd, uint64_t serial) {
  return serial << 32 | static_cast<uint32_t>(fd);
}

}  // namespace

Status EventLoop::open() {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  return epoll_ ? ok_status() : errno_status(errno, "epoll");
}

Status EventLoop::watch(int fd, uint32_t events, Handler handler) {
  const uint64_t serial = next_serial_++ & UINT32_MAX;
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag(fd, serial);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_status(errno, "epoll");
  watches_[fd] = std::make_shared<Watch>(Watch{serial, std::move(handler)});
  return ok_status();
}

void EventLoop::change(int fd, uint32_t events) {
  const auto found = watches_.find(fd);
  if (found == watches_.end()) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag(fd, found->second->serial);
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::unwatch(int fd) {
  if (watches_.erase(fd) != 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

bool EventLoop::send_some(int fd, std::string& out) {
  while (!out.empty()) {
    const ssize_t sent = send(fd, out.data(), out.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN && errno != EINTR) return false;
      change(fd, EPOLLIN | EPOLLOUT);
      return true;
    }
    out.erase(0, static_cast<size_t>(sent));
  }
  change(fd, EPOLLIN);
  return true;
}

EventLoop::TimerId EventLoop::after(Duration delay, std::function<void()> f) {
  const TimerId id = next_timer_++;
  const TimePoint at = now() + std::max(delay, Duration(0));
  timers_.emplace(std::pair(at, id), std::move(f));
  due_[id] = at;
  return id;
}

void EventLoop::cancel(TimerId timer) {
  const auto found = due_.find(timer);
  if (found == due_.end()) return;
  timers_.erase({found->second, timer});
  due_.erase(found);
}

int EventLoop::wait_ms() const {
  if (timers_.empty()) return -1;
  const Duration left = timers_.begin()->first.first - now();
  if (left <= Duration(0)) return 0;
  // Rounded up: woken early, the loop would turn without work.
  return static_cast<int>(std::min<int64_t>((left + 1ms - 1ns) / 1ms, 1'000'000));
}

void EventLoop::run_timers() {
  const TimePoint at = now();
  while (!timers_.empty() && timers_.begin()->first.first <= at) {
    auto node = timers_.extract(timers_.begin());
    due_.erase(node.key().second);
    node.mapped()();
  }
}

Status EventLoop::run() {
  running_ = true;
  epoll_event events[64];
  while (running_) {
    const int count = epoll_wait(epoll_.get(), events, 64, wait_ms());
    if (count < 0 && errno != EINTR) return errno_status(errno, "epoll");
    for (int i = 0; i < count && running_; ++i) {
      const int fd = static_cast<int>(events[i].data.u64 & UINT32_MAX);
      const auto found = watches_.find(fd);
      if (found == watches_.end() || found->second->serial != events[i].data.u64 >> 32) continue;
      const std::shared_ptr<Watch> keep = found->second;
      keep->handler(events[i].events);
    }
    if (running_) run_timers();
  }
  return ok_status();
}

}  // namespace muster::overlay::dns
