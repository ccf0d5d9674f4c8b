#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::overlay {

// Netlink messages written one after another into one piece of memory, for many small messages to
// many namespaces; netlink.h's Message is for a few large ones.
class Wire {
 public:
  // Starts a message with the fixed header that belongs to its type, and returns its sequence
  // number. The message before it must be complete.
  template <class Header>
  uint32_t begin(uint16_t type, uint16_t flags, const Header& header) {
    return begin_raw(type, flags, &header, sizeof(header));
  }
  void end();

  void put(uint16_t attribute, const void* data, size_t size);
  void text(uint16_t attribute, std::string_view value);  // with the closing zero
  void u8(uint16_t attribute, uint8_t value) { put(attribute, &value, sizeof(value)); }
  void u32(uint16_t attribute, uint32_t value) { put(attribute, &value, sizeof(value)); }
  void be32(uint16_t attribute, uint32_t value);
  // Opens a nest; close() takes what it returned. A nest holds less than 64 KiB.
  size_t nest(uint16_t attribute);
  void close(size_t nest);

  // The last message asks for an answer.
  void ask_last();
  uint32_t last_sequence() const { return sequence_; }
  const std::string& bytes() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }
  void clear() { bytes_.clear(); }

 private:
  uint32_t begin_raw(uint16_t type, uint16_t flags, const void* header, size_t size);
  void pad();

  std::string bytes_;
  size_t message_ = 0;  // where the last one starts
  uint32_t sequence_ = 0;
};

// A message the kernel refused.
struct WireError {
  uint32_t sequence = 0;
  int error = 0;  // errno
};

// A netlink socket that stays in the network namespace of the thread that opened it. Small: there
// are some for every container. Not thread-safe.
class WireSocket {
 public:
  WireSocket() = default;
  static Result<WireSocket> open(int protocol);

  // Sends all of it in one system call. The kernel works it off before that returns, so nothing is
  // waited for; what it refused is returned. Messages without NLM_F_ACK are answered only by
  // errors.
  Result<std::vector<WireError>> exchange(const Wire& wire);
  // Sends one request, with NLM_F_DUMP or NLM_F_ACK, and hands every answer to `visit`, which must
  // not ask anything itself. NOT_FOUND for ENOENT, ABORTED for a listing that changed under way.
  Status query(const Wire& wire, const std::function<void(const nlmsghdr*)>& visit);
  // Hands what the kernel has sent unasked to `visit`, a few hundred messages at most: it may send
  // faster than they are taken. What it had no room for is lost.
  Status take(const std::function<void(const nlmsghdr*)>& visit);
  int fd() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }

 private:
  Status send(const Wire& wire);

  UniqueFd fd_;
};

// Takes the next attribute off the front of a message's or nest's; data() is nullptr when there is
// none.
std::string_view next_attribute(std::string_view& attributes, uint16_t* type);
// The first of that type; data() is nullptr when there is none.
std::string_view find_attribute(std::string_view attributes, uint16_t type);
// What follows the fixed header of `header_size` bytes.
std::string_view attributes_of(const nlmsghdr* message, size_t header_size);
uint32_t be32_of(std::string_view value);
std::string_view text_of(std::string_view value);  // without the closing zero

}  // namespace muster::overlay
