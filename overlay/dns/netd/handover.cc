#include "overlay/dns/netd/handover.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "overlay/dns/netd/frames.h"

namespace muster::overlay::dns {
namespace {

constexpr size_t kDescriptors = 3;     // of a container
constexpr size_t kDescriptorsMax = 6;  // of a connection: two sockets, two pipes
constexpr size_t kControl = CMSG_SPACE(kDescriptorsMax * sizeof(int));
using Message = std::array<char, kHandoverMessage>;

Status broken() {
  return unavailable("the other netd broke off");
}

void make_blocking(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  const timeval limit{kHandoverTimeout / 1s, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

Status send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return broken();
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return ok_status();
}

// No byte more: descriptors come with the bytes behind them.
Status read_exactly(int fd, char* to, size_t size) {
  while (size > 0) {
    const ssize_t got = recv(fd, to, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return broken();
    to += got;
    size -= static_cast<size_t>(got);
  }
  return ok_status();
}

Result<v1::NetdReply> read_reply(int fd) {
  unsigned char head[4];
  MUSTER_TRY(read_exactly(fd, reinterpret_cast<char*>(head), sizeof head));
  const size_t size = size_t{head[0]} << 24 | head[1] << 16 | head[2] << 8 | head[3];
  if (size > FrameReader::kFrameMax) return fail(broken());
  std::string body(size, '\0');
  MUSTER_TRY(read_exactly(fd, body.data(), size));
  v1::NetdReply reply;
  if (!reply.ParseFromString(body)) return fail(broken());
  return reply;
}

Status send_descriptors(int fd, const std::string& id, const std::vector<int>& descriptors) {
  Message message{};
  if (id.size() >= message.size()) return invalid_argument("\"{}\" is too long", id);
  if (descriptors.size() > kDescriptorsMax) return internal_error("too many descriptors");
  std::memcpy(message.data(), id.data(), id.size());
  iovec bytes{message.data(), message.size()};
  const size_t size = descriptors.size() * sizeof(int);
  alignas(cmsghdr) char control[kControl] = {};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = CMSG_SPACE(size);
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(rights), descriptors.data(), size);
  const ssize_t sent = sendmsg(fd, &header, MSG_NOSIGNAL);
  return sent == static_cast<ssize_t>(message.size()) ? ok_status() : broken();
}

// What they belong to, empty at the end.
Result<std::string> read_descriptors(int fd, std::vector<UniqueFd>& descriptors) {
  Message message{};
  iovec bytes{message.data(), message.size()};
  alignas(cmsghdr) char control[kControl] = {};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_WAITALL);
  const cmsghdr* rights = got >= 0 ? CMSG_FIRSTHDR(&header) : nullptr;
  if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    const size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(rights) + i * sizeof(int), sizeof descriptor);
      descriptors.emplace_back(descriptor);
    }
  }
  if (got != static_cast<ssize_t>(message.size())) return fail(broken());
  std::string id(message.data(), strnlen(message.data(), message.size()));
  if (id.empty() != descriptors.empty()) return fail(broken());
  return id;
}

}  // namespace

Status send_handover(int fd, const v1::NetdUpdate& state,
                     const std::map<std::string, HandedSockets>& sockets,
                     const std::vector<HandedRelay>& relays) {
  make_blocking(fd);
  v1::NetdReply reply;
  *reply.mutable_state() = state;
  MUSTER_TRY(send_all(fd, encode_frame(reply)));
  for (const auto& [id, handed] : sockets) {
    MUSTER_TRY(send_descriptors(fd, id, {handed.ns, handed.udp, handed.tcp}));
  }
  for (const HandedRelay& relay : relays) {
    MUSTER_TRY(send_descriptors(fd, std::string(kHandedRelay) + relay.text, relay.descriptors));
  }
  return ok_status();
}

Status send_handover_end(int fd) {
  return send_all(fd, std::string(kHandoverMessage, '\0'));
}

Result<Handover> receive_handover(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof address.sun_path) {
    return fail(invalid_argument("{} is too long", socket_path));
  }
  std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(errno_status(errno, socket_path));
  }
  make_blocking(fd.get());
  MUSTER_ASSIGN([[maybe_unused]] const v1::NetdReply hello, read_reply(fd.get()));
  v1::NetdCommand command;
  command.mutable_handover();
  MUSTER_TRY(send_all(fd.get(), encode_frame(command)));
  MUSTER_ASSIGN(v1::NetdReply reply, read_reply(fd.get()));
  if (!reply.has_state()) return fail(broken());
  Handover out;
  out.state = std::move(*reply.mutable_state());
  while (true) {
    std::vector<UniqueFd> descriptors;
    MUSTER_ASSIGN(const std::string id, read_descriptors(fd.get(), descriptors));
    if (id.empty()) return out;
    if (id.starts_with(kHandedRelay)) {
      out.relays.push_back({id.substr(kHandedRelay.size()), std::move(descriptors), {}});
      continue;
    }
    if (descriptors.size() != kDescriptors) return fail(broken());
    NamespaceHopper::ResolverSockets& sockets = out.sockets[id];
    sockets.ns = std::move(descriptors[0]);
    sockets.udp = std::move(descriptors[1]);
    sockets.tcp = std::move(descriptors[2]);
  }
}

}  // namespace muster::overlay::dns
