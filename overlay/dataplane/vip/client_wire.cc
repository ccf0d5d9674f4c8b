#include "overlay/dataplane/vip/client_wire.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace muster::overlay {
namespace {

constexpr int kSendBytes = 8 << 20;
constexpr int kReceiveBytes = 1 << 20;
constexpr int kTakenAtOnce = 500;
constexpr size_t kAttributeTypeMask = 0x3fff;  // NLA_TYPE_MASK

// Room for an answer; one for each thread that asks.
std::array<char, 64 * 1024>& answer_buffer() {
  static thread_local std::array<char, 64 * 1024> buffer;
  return buffer;
}

// Of an acknowledgement or the end of a listing: errno. Both begin with it.
int error_of(const nlmsghdr* header) {
  int error = 0;
  if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(error))) {
    std::memcpy(&error, NLMSG_DATA(header), sizeof(error));
  }
  return error < 0 ? -error : 0;
}

}  // namespace

void Wire::pad() {
  bytes_.resize(NLMSG_ALIGN(bytes_.size()), '\0');
}

uint32_t Wire::begin_raw(uint16_t type, uint16_t flags, const void* header, size_t size) {
  message_ = bytes_.size();
  nlmsghdr head{};
  head.nlmsg_type = type;
  head.nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST);
  head.nlmsg_seq = ++sequence_;
  bytes_.append(reinterpret_cast<const char*>(&head), sizeof(head));
  bytes_.append(static_cast<const char*>(header), size);
  pad();
  return sequence_;
}

void Wire::end() {
  const auto length = static_cast<uint32_t>(bytes_.size() - message_);
  std::memcpy(bytes_.data() + message_ + offsetof(nlmsghdr, nlmsg_len), &length, sizeof(length));
}

void Wire::ask_last() {
  uint16_t flags = 0;
  char* at = bytes_.data() + message_ + offsetof(nlmsghdr, nlmsg_flags);
  std::memcpy(&flags, at, sizeof(flags));
  flags |= NLM_F_ACK;
  std::memcpy(at, &flags, sizeof(flags));
}

void Wire::put(uint16_t attribute, const void* data, size_t size) {
  nlattr head{};
  head.nla_len = static_cast<uint16_t>(sizeof(head) + size);
  head.nla_type = attribute;
  bytes_.append(reinterpret_cast<const char*>(&head), sizeof(head));
  bytes_.append(static_cast<const char*>(data), size);
  pad();
}

void Wire::text(uint16_t attribute, std::string_view value) {
  nlattr head{};
  head.nla_len = static_cast<uint16_t>(sizeof(head) + value.size() + 1);
  head.nla_type = attribute;
  bytes_.append(reinterpret_cast<const char*>(&head), sizeof(head));
  bytes_.append(value);
  bytes_.push_back('\0');
  pad();
}

void Wire::be32(uint16_t attribute, uint32_t value) {
  u32(attribute, htonl(value));
}

size_t Wire::nest(uint16_t attribute) {
  const size_t at = bytes_.size();
  nlattr head{};
  head.nla_type = static_cast<uint16_t>(attribute | NLA_F_NESTED);
  bytes_.append(reinterpret_cast<const char*>(&head), sizeof(head));
  return at;
}

void Wire::close(size_t nest) {
  const size_t size = bytes_.size() - nest;
  MUSTER_CHECK(size <= UINT16_MAX, "a netlink attribute is too large");
  const auto length = static_cast<uint16_t>(size);
  std::memcpy(bytes_.data() + nest + offsetof(nlattr, nla_len), &length, sizeof(length));
}

Result<WireSocket> WireSocket::open(int protocol) {
  WireSocket out;
  out.fd_ = UniqueFd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!out.fd_) return fail(errno_status(errno, "cannot open a netlink socket"));
  const int on = 1;
  ::setsockopt(out.fd_.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  // Listings of one family or table only; older kernels list all, and answers are looked at.
  ::setsockopt(out.fd_.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
  ::setsockopt(out.fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBytes, sizeof(kSendBytes));
  ::setsockopt(out.fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBytes, sizeof(kReceiveBytes));
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::connect(out.fd_.get(), reinterpret_cast<sockaddr*>(&kernel), sizeof(kernel)) != 0) {
    return fail(errno_status(errno, "cannot open a netlink socket"));
  }
  return out;
}

Status WireSocket::send(const Wire& wire) {
  // What an exchange before this one left unread: the kernel may answer one failure twice.
  auto& buffer = answer_buffer();
  while (::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) {
  }
  if (::send(fd_.get(), wire.bytes().data(), wire.bytes().size(), 0) < 0) {
    return errno_status(errno, "send to the kernel's netlink");
  }
  return ok_status();
}

Result<std::vector<WireError>> WireSocket::exchange(const Wire& wire) {
  MUSTER_TRY(send(wire));
  auto& buffer = answer_buffer();
  std::vector<WireError> errors;
  while (true) {
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return errors;
    if (got < 0) return fail(errno_status(errno, "receive from the kernel's netlink"));
    auto left = static_cast<unsigned>(got);
    for (auto* h = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(h, left);
         h = NLMSG_NEXT(h, left)) {
      if (h->nlmsg_type != NLMSG_ERROR || error_of(h) == 0) continue;
      errors.push_back({h->nlmsg_seq, error_of(h)});
    }
  }
}

Status WireSocket::query(const Wire& wire, const std::function<void(const nlmsghdr*)>& visit) {
  MUSTER_TRY(send(wire));
  auto& buffer = answer_buffer();
  while (true) {
    // A listing goes on in the kernel while its answers are taken; there is always one waiting.
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return internal_error("the kernel did not answer");
    if (got < 0) return errno_status(errno, "receive from the kernel's netlink");
    auto left = static_cast<unsigned>(got);
    for (auto* h = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(h, left);
         h = NLMSG_NEXT(h, left)) {
      if (h->nlmsg_seq != wire.last_sequence()) continue;
      if (h->nlmsg_flags & NLM_F_DUMP_INTR) {
        return Status(StatusCode::kAborted, "changed while it was listed");
      }
      if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
        // What goes wrong in the middle of a listing is told at its end.
        const int error = error_of(h);
        if (error == 0) return ok_status();
        if (error == ENOENT) return not_found("no such thing in the kernel");
        return errno_status(error, "ask the kernel's netlink");
      }
      visit(h);
    }
  }
}

Status WireSocket::take(const std::function<void(const nlmsghdr*)>& visit) {
  auto& buffer = answer_buffer();
  for (int taken = 0; taken < kTakenAtOnce; ++taken) {
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return ok_status();
    if (got < 0 && (errno == EINTR || errno == ENOBUFS)) continue;
    if (got < 0) return errno_status(errno, "receive from the kernel's netlink");
    auto left = static_cast<unsigned>(got);
    for (auto* h = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(h, left);
         h = NLMSG_NEXT(h, left)) {
      visit(h);
    }
  }
  return ok_status();
}

std::string_view next_attribute(std::string_view& attributes, uint16_t* type) {
  nlattr head{};
  if (attributes.size() < sizeof(head)) return {};
  std::memcpy(&head, attributes.data(), sizeof(head));
  if (head.nla_len < sizeof(head) || head.nla_len > attributes.size()) return {};
  *type = static_cast<uint16_t>(head.nla_type & kAttributeTypeMask);
  const std::string_view value = attributes.substr(sizeof(head), head.nla_len - sizeof(head));
  attributes.remove_prefix(std::min<size_t>(NLA_ALIGN(head.nla_len), attributes.size()));
  return value;
}

std::string_view find_attribute(std::string_view attributes, uint16_t type) {
  uint16_t found = 0;
  while (true) {
    const std::string_view value = next_attribute(attributes, &found);
    if (value.data() == nullptr || found == type) return value;
  }
}

std::string_view attributes_of(const nlmsghdr* message, size_t header_size) {
  const size_t skip = NLMSG_HDRLEN + NLMSG_ALIGN(header_size);
  if (message->nlmsg_len < skip) return {};
  return {reinterpret_cast<const char*>(message) + skip, message->nlmsg_len - skip};
}

uint32_t be32_of(std::string_view value) {
  uint32_t raw = 0;
  if (value.size() >= sizeof(raw)) std::memcpy(&raw, value.data(), sizeof(raw));
  return ntohl(raw);
}

std::string_view text_of(std::string_view value) {
  return value.substr(0, value.find('\0'));
}

}  // namespace muster::overlay
