#include "overlay/dataplane/kernel/netlink.h"

#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace muster::overlay {
namespace {

// Requests sent at once. Should all of them fail, the answers have to fit into a socket's buffer of
// the kernel's default size: what does not is lost.
constexpr size_t kRequestsAtOnce = 128;
constexpr size_t kReceiveBytes = 64 * 1024;

// The extended acknowledgement's text, empty when there is none.
std::string explanation(const nlmsghdr* header) {
  if (!(header->nlmsg_flags & NLM_F_ACK_TLVS)) return {};
  const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(header));
  size_t skip = sizeof(*error);
  if (!(header->nlmsg_flags & NLM_F_CAPPED)) skip += error->msg.nlmsg_len - NLMSG_HDRLEN;
  const size_t length = static_cast<size_t>(nlmsg_datalen(header));
  if (length <= skip) return {};
  const auto* at = reinterpret_cast<const nlattr*>(static_cast<const char*>(nlmsg_data(header)) +
                                                   NLMSG_ALIGN(skip));
  const auto* found = nla_find(at, static_cast<int>(length - skip), NLMSGERR_ATTR_MSG);
  return found != nullptr ? std::string(nla_get_string(found)) : std::string();
}

// Listings that others change meanwhile are taken anew so often.
constexpr int kListings = 5;

// How a listing ended: errno. The kernel tells of what went wrong in its middle in its last message
// alone.
int end_of_listing(const nlmsghdr* header) {
  int error = 0;
  if (nlmsg_datalen(header) >= static_cast<int>(sizeof(error))) {
    std::memcpy(&error, nlmsg_data(header), sizeof(error));
  }
  return error < 0 ? -error : 0;
}

std::string refusal(int error) {
  return fmt::format("errno-{}", error);
}

// `why` may be empty.
Status refused(int error, const std::string& what, const std::string& why) {
  const Status status = errno_status(error, what);
  return {status.code(),
          why.empty() ? status.message() : fmt::format("{} ({})", status.message(), why),
          refusal(error)};
}

Status error_of(const nlmsghdr* header, const std::string& what) {
  const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(header));
  return refused(-error->error, what, explanation(header));
}

}  // namespace

bool refused_with(const Status& status, int error) {
  return status.reason() == refusal(error);
}

Message::Message(int type, int flags, std::string what, size_t room)
    : message_(nlmsg_alloc_size(room)), what_(std::move(what)) {
  MUSTER_CHECK(message_ != nullptr, "out of memory");
  nlmsg_put(message_, NL_AUTO_PORT, NL_AUTO_SEQ, type, 0, flags | NLM_F_REQUEST);
}

Message::Message(Message&& other) noexcept
    : message_(std::exchange(other.message_, nullptr)),
      what_(std::move(other.what_)),
      tolerated_(std::move(other.tolerated_)),
      open_(std::move(other.open_)) {}

Message& Message::operator=(Message&& other) noexcept {
  std::swap(message_, other.message_);
  std::swap(what_, other.what_);
  std::swap(tolerated_, other.tolerated_);
  std::swap(open_, other.open_);
  return *this;
}

Message::~Message() {
  if (message_ != nullptr) nlmsg_free(message_);
}

Message& Message::raw(const void* data, size_t size) {
  MUSTER_CHECK(nlmsg_append(message_, const_cast<void*>(data), size, NLMSG_ALIGNTO) == 0, what_);
  return *this;
}

Message& Message::put(int attribute, const void* data, size_t size) {
  MUSTER_CHECK(nla_put(message_, attribute, static_cast<int>(size), data) == 0, what_);
  return *this;
}

Message& Message::put(int attribute, std::string_view text) {
  const std::string closed(text);
  return put(attribute, closed.c_str(), closed.size() + 1);
}

Message& Message::put_u8(int attribute, uint8_t value) {
  return put(attribute, &value, sizeof(value));
}
Message& Message::put_u16(int attribute, uint16_t value) {
  return put(attribute, &value, sizeof(value));
}
Message& Message::put_u32(int attribute, uint32_t value) {
  return put(attribute, &value, sizeof(value));
}

Message& Message::begin(int attribute) {
  nlattr* nest = nla_nest_start(message_, attribute);
  MUSTER_CHECK(nest != nullptr, what_);
  open_.push_back(nest);
  return *this;
}

Message& Message::end() {
  // Not nla_nest_end(): it drops attributes that turned out empty.
  nla_nest_end_keep_empty(message_, open_.back());
  open_.pop_back();
  return *this;
}

Message& Message::tolerate(int error) {
  tolerated_.push_back(error);
  return *this;
}

const nlmsghdr* Message::wire() const {
  return nlmsg_hdr(message_);
}

bool Message::tolerated(int error) const {
  return std::find(tolerated_.begin(), tolerated_.end(), error) != tolerated_.end();
}

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
  nl_sock* raw = nl_socket_alloc();
  if (raw == nullptr) return fail(resource_exhausted("cannot make a netlink socket"));
  NetlinkSocket socket(raw);
  if (const int error = nl_connect(raw, protocol); error < 0) {
    return fail(internal_error("cannot open a netlink socket: {}", nl_geterror(error)));
  }
  const int on = 1;
  const int fd = nl_socket_get_fd(raw);
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  nl_socket_set_buffer_size(raw, 1 << 20, 1 << 18);
  socket.buffer_.resize(kReceiveBytes);
  return socket;
}

NetlinkSocket::NetlinkSocket(NetlinkSocket&& other) noexcept
    : socket_(std::exchange(other.socket_, nullptr)),
      sequence_(other.sequence_),
      buffer_(std::move(other.buffer_)) {}

NetlinkSocket& NetlinkSocket::operator=(NetlinkSocket&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(sequence_, other.sequence_);
  std::swap(buffer_, other.buffer_);
  return *this;
}

NetlinkSocket::~NetlinkSocket() {
  if (socket_ != nullptr) nl_socket_free(socket_);
}

Status NetlinkSocket::send(const std::string& bytes) {
  const ssize_t sent = ::send(nl_socket_get_fd(socket_), bytes.data(), bytes.size(), 0);
  if (sent < 0) return errno_status(errno, "send to the kernel's netlink");
  return ok_status();
}

Result<size_t> NetlinkSocket::receive() {
  while (true) {
    const ssize_t n = ::recv(nl_socket_get_fd(socket_), buffer_.data(), buffer_.size(), 0);
    if (n >= 0) return static_cast<size_t>(n);
    if (errno != EINTR) return fail(errno_status(errno, "receive from the kernel's netlink"));
  }
}

void NetlinkSocket::drain() {
  while (::recv(nl_socket_get_fd(socket_), buffer_.data(), buffer_.size(), MSG_DONTWAIT) > 0) {
  }
}

Status NetlinkSocket::run(const Message& message) {
  return query(message, false, [](nlmsghdr*) {});
}

Status NetlinkSocket::run(const std::vector<Message>& messages) {
  Status outcome;
  for (size_t at = 0; at < messages.size(); at += kRequestsAtOnce) {
    Status some = run_some(&messages[at], std::min(kRequestsAtOnce, messages.size() - at));
    if (outcome.ok()) outcome = std::move(some);
  }
  return outcome;
}

Status NetlinkSocket::run_some(const Message* messages, size_t count) {
  const uint32_t first = sequence_;
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = bytes.size();
    const nlmsghdr* wire = messages[i].wire();
    bytes.append(reinterpret_cast<const char*>(wire), wire->nlmsg_len);
    bytes.resize(NLMSG_ALIGN(bytes.size()));
    auto* header = reinterpret_cast<nlmsghdr*>(bytes.data() + at);
    header->nlmsg_seq = sequence_++;
    // The kernel answers those that fail in any case, and in order: the last answer says that all
    // are done.
    if (i + 1 == count) header->nlmsg_flags |= NLM_F_ACK;
  }
  MUSTER_TRY(send(bytes));
  Status outcome;
  while (true) {
    MUSTER_ASSIGN(const size_t size, receive());
    int left = static_cast<int>(size);
    for (auto* h = reinterpret_cast<nlmsghdr*>(buffer_.data()); nlmsg_ok(h, left);
         h = nlmsg_next(h, &left)) {
      const uint32_t index = h->nlmsg_seq - first;
      if (h->nlmsg_type != NLMSG_ERROR || index >= count) continue;
      const int error = -static_cast<const nlmsgerr*>(nlmsg_data(h))->error;
      if (error != 0 && !messages[index].tolerated(error) && outcome.ok()) {
        outcome = error_of(h, messages[index].what());
      }
      if (index + 1 == count) return outcome;
    }
  }
}

Status NetlinkSocket::query(const Message& message, bool dump,
                            const std::function<void(nlmsghdr*)>& visit) {
  if (!dump) return ask(message, NLM_F_ACK, visit, nullptr);
  std::vector<std::string> rows;
  Status listed;
  for (int attempt = 0; attempt < kListings; ++attempt) {
    rows.clear();
    bool again = false;
    listed = ask(
        message, NLM_F_DUMP,
        [&](nlmsghdr* h) { rows.emplace_back(reinterpret_cast<const char*>(h), h->nlmsg_len); },
        &again);
    if (!again) break;
  }
  MUSTER_TRY(listed);
  for (std::string& row : rows) visit(reinterpret_cast<nlmsghdr*>(row.data()));
  return ok_status();
}

Status NetlinkSocket::stream(const Message& message, const std::function<void(nlmsghdr*)>& visit) {
  return ask(message, NLM_F_DUMP, visit, nullptr);
}

Status NetlinkSocket::ask(const Message& message, uint16_t flags,
                          const std::function<void(nlmsghdr*)>& visit, bool* again) {
  std::string bytes(reinterpret_cast<const char*>(message.wire()), message.wire()->nlmsg_len);
  auto* header = reinterpret_cast<nlmsghdr*>(bytes.data());
  header->nlmsg_seq = sequence_++;
  header->nlmsg_flags |= flags;
  const uint32_t sequence = header->nlmsg_seq;
  drain();
  MUSTER_TRY(send(bytes));
  while (true) {
    MUSTER_ASSIGN(const size_t size, receive());
    int left = static_cast<int>(size);
    for (auto* h = reinterpret_cast<nlmsghdr*>(buffer_.data()); nlmsg_ok(h, left);
         h = nlmsg_next(h, &left)) {
      if (h->nlmsg_seq != sequence) continue;
      if (again != nullptr && (h->nlmsg_flags & NLM_F_DUMP_INTR)) *again = true;
      if (h->nlmsg_type == NLMSG_DONE) {
        const int error = end_of_listing(h);
        if (error == 0 || message.tolerated(error)) return ok_status();
        return refused(error, message.what(), {});
      }
      if (h->nlmsg_type == NLMSG_ERROR) {
        const int error = -static_cast<const nlmsgerr*>(nlmsg_data(h))->error;
        if (error == 0 || message.tolerated(error)) return ok_status();
        // The listing before was broken off and has only now been read to its end.
        if (again != nullptr && error == EBUSY) *again = true;
        return error_of(h, message.what());
      }
      visit(h);
    }
  }
}

}  // namespace muster::overlay
