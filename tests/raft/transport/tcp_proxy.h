#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace muster::raft {

// A link that can break: listens on a port of the kernel's choice and passes bytes on to another.
class TcpProxy {
 public:
  explicit TcpProxy(uint16_t target)
      : target_(target), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_.get(), 64), 0);
    EXPECT_EQ(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~TcpProxy() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    eventfd_write(wake_.get(), 1);
    thread_.join();
  }

  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
  // Nothing is passed on any more, and nothing ends.
  void freeze(bool frozen = true) {
    std::lock_guard lock(mutex_);
    frozen_ = frozen;
    eventfd_write(wake_.get(), 1);
  }
  // Resets all connections; with `close`, nobody listens any more either.
  void reset(bool close) {
    std::lock_guard lock(mutex_);
    if (close) listener_.reset();
    for (Pair& pair : pairs_) {
      for (UniqueFd* fd : {&pair.near, &pair.far}) {
        const linger hard{1, 0};
        setsockopt(fd->get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        fd->reset();
      }
    }
    pairs_.clear();
    eventfd_write(wake_.get(), 1);
  }

 private:
  struct Pair {
    UniqueFd near;
    UniqueFd far;
    std::string to_near;
    std::string to_far;
    bool over = false;
  };
  static constexpr size_t kBufferMax = 256 << 10;

  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
  }

  static short wanted(const std::string& in, const std::string& out) {
    return static_cast<short>((in.size() < kBufferMax ? POLLIN : 0) | (out.empty() ? 0 : POLLOUT));
  }
  // Moves what can be; false when the connection is over.
  static bool move(const UniqueFd& from, std::string& buffer, const UniqueFd& to) {
    char bytes[65536];
    while (buffer.size() < kBufferMax) {
      const ssize_t got = recv(from.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (got == 0) return false;
      if (got < 0) {
        if (errno != EAGAIN) return false;
        break;
      }
      buffer.append(bytes, static_cast<size_t>(got));
    }
    while (!buffer.empty()) {
      const ssize_t sent =
          ::send(to.get(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN;
      buffer.erase(0, static_cast<size_t>(sent));
    }
    return true;
  }

  void accept_all() {
    while (listener_) {
      UniqueFd near(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!near) return;
      UniqueFd far(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const sockaddr_in address = loopback(target_);
      if (connect(far.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        continue;
      }
      pairs_.push_back({std::move(near), std::move(far), {}, {}, false});
    }
  }

  void run() {
    std::vector<pollfd> fds;
    while (true) {
      {
        std::lock_guard lock(mutex_);
        if (stopping_) return;
        fds.assign(1, {wake_.get(), POLLIN, 0});
        if (!frozen_) {
          if (listener_) fds.push_back({listener_.get(), POLLIN, 0});
          for (const Pair& pair : pairs_) {
            fds.push_back({pair.near.get(), wanted(pair.to_far, pair.to_near), 0});
            fds.push_back({pair.far.get(), wanted(pair.to_near, pair.to_far), 0});
          }
        }
      }
      poll(fds.data(), fds.size(), -1);
      eventfd_t ignored = 0;
      eventfd_read(wake_.get(), &ignored);
      std::lock_guard lock(mutex_);
      if (frozen_) continue;
      accept_all();
      pairs_.remove_if([](Pair& pair) {
        return !move(pair.near, pair.to_far, pair.far) || !move(pair.far, pair.to_near, pair.near);
      });
    }
  }

  const uint16_t target_;
  uint16_t port_ = 0;
  UniqueFd wake_;
  std::mutex mutex_;
  bool stopping_ = false;
  bool frozen_ = false;
  UniqueFd listener_;
  std::list<Pair> pairs_;
  std::thread thread_;
};

}  // namespace muster::raft
