#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

struct nl_msg;
struct nl_sock;
struct nlattr;
struct nlmsghdr;

namespace muster::overlay {

// One netlink request. `what` says in words what it does, for the error message: "add link x".
class Message {
 public:
  // `room`: bytes that all of it may take; smaller is quicker where there are thousands.
  Message(int type, int flags, std::string what, size_t room = 4096);
  Message(Message&&) noexcept;
  Message& operator=(Message&&) noexcept;
  ~Message();

  // The fixed header that follows nlmsghdr: ifinfomsg, ifaddrmsg, rtmsg, nfgenmsg.
  template <class Header>
  Message& header(const Header& h) {
    return raw(&h, sizeof(h));
  }
  Message& raw(const void* data, size_t size);
  Message& put(int attribute, const void* data, size_t size);
  Message& put(int attribute, std::string_view text);  // with the closing zero
  Message& put_u8(int attribute, uint8_t value);
  Message& put_u16(int attribute, uint16_t value);
  Message& put_u32(int attribute, uint32_t value);
  Message& begin(int attribute);
  Message& end();
  // This errno of the kernel counts as done.
  Message& tolerate(int error);

  const nlmsghdr* wire() const;
  const std::string& what() const { return what_; }
  bool tolerated(int error) const;

 private:
  nl_msg* message_ = nullptr;
  std::string what_;
  std::vector<int> tolerated_;
  std::vector<nlattr*> open_;
};

// Whether `status` is of a NetlinkSocket and says that the kernel refused a request with this
// errno: EOPNOTSUPP for what it has no module for, EADDRINUSE for a port that is taken, ...
bool refused_with(const Status& status, int error);

// A netlink socket. It stays in the network namespace of the thread that opened it, whatever
// happens to that thread later. Not thread-safe.
class NetlinkSocket {
 public:
  // `protocol`: NETLINK_ROUTE, NETLINK_NETFILTER, ...
  static Result<NetlinkSocket> open(int protocol);
  NetlinkSocket(NetlinkSocket&&) noexcept;
  NetlinkSocket& operator=(NetlinkSocket&&) noexcept;
  ~NetlinkSocket();

  // Sends all requests, a hundred in a system call, and waits until all are done. They take effect
  // one after another; a failing one does not stop those behind it. The first failure is returned,
  // with the kernel's own explanation where it gives one. NLM_F_REQUEST and NLM_F_ACK are added.
  Status run(const std::vector<Message>& messages);
  Status run(const Message& message);
  // Sends one request and hands every answer to `visit`. `dump`: a listing (NLM_F_DUMP), of which
  // nothing is handed over before all of it is there; one that was changed meanwhile, so that rows
  // may be missing, is taken anew a few times.
  Status query(const Message& message, bool dump, const std::function<void(nlmsghdr*)>& visit);
  // A listing whose rows are handed over as they come, so that a table of any size takes no memory:
  // for those of which the kernel never says that they were changed meanwhile (connections). On
  // failure some may have been handed over.
  Status stream(const Message& message, const std::function<void(nlmsghdr*)>& visit);

 private:
  explicit NetlinkSocket(nl_sock* socket) : socket_(socket) {}
  Status run_some(const Message* messages, size_t count);
  // `again` (may be null): the listing was changed under way.
  Status ask(const Message& message, uint16_t flags, const std::function<void(nlmsghdr*)>& visit,
             bool* again);
  Status send(const std::string& bytes);
  // Receives one datagram into buffer_.
  Result<size_t> receive();
  void drain();

  nl_sock* socket_ = nullptr;
  uint32_t sequence_ = 1;
  std::vector<char> buffer_;
};

}  // namespace muster::overlay
