#include "overlay/dns/netd/handover.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/descriptor_messages.h"
#include "overlay/dns/netd/frames.h"

namespace muster::overlay::dns {
namespace {

constexpr size_t kDescriptors = 3;  // of a container
// Of a connection: two sockets, two pipes.
constexpr MessageLimits kLimits{kHandoverMessage, 6};

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

Status send_sockets(int fd, const std::string& text, const std::vector<int>& descriptors) {
  if (text.size() >= kHandoverMessage) return invalid_argument("\"{}\" is too long", text);
  if (descriptors.size() > kLimits.descriptors) return internal_error("too many descriptors");
  std::string message = text;
  message.resize(kHandoverMessage, '\0');
  return send_descriptors(fd, message, descriptors) == 0 ? ok_status() : broken();
}

// What they belong to, empty at the end.
Result<std::string> read_sockets(int fd, std::vector<UniqueFd>& descriptors) {
  DescriptorMessage got;
  if (receive_descriptors(fd, kLimits, got) != 0) return fail(broken());
  const size_t size = got.bytes.size();
  got.bytes.resize(kHandoverMessage, '\0');
  MUSTER_TRY(read_exactly(fd, got.bytes.data() + size, kHandoverMessage - size));
  got.bytes.resize(std::min(got.bytes.find('\0'), kHandoverMessage));
  if (got.bytes.empty() != got.descriptors.empty()) return fail(broken());
  descriptors = std::move(got.descriptors);
  return std::move(got.bytes);
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
    MUSTER_TRY(send_sockets(fd, id, {handed.ns, handed.udp, handed.tcp}));
  }
  for (const HandedRelay& relay : relays) {
    MUSTER_TRY(send_sockets(fd, std::string(kHandedRelay) + relay.text, relay.descriptors));
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
    MUSTER_ASSIGN(const std::string id, read_sockets(fd.get(), descriptors));
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
