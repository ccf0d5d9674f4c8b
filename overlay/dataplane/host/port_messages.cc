#include "overlay/dataplane/host/port_messages.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "overlay/ipam/port_pool.h"

namespace muster::overlay {
namespace {

constexpr size_t kControl = CMSG_SPACE(kPortSocketsMax * sizeof(int));

// Up to the next slash, which goes, too.
std::string_view next_part(std::string_view& text) {
  const std::string_view part = text.substr(0, text.find('/'));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

}  // namespace

std::string port_socket(const std::string& run_dir) {
  return run_dir + "/port.sock";
}

int send_port_message(int fd, std::string_view text, const std::vector<int>& sockets) {
  if (text.size() > kPortMessageMax || sockets.size() > kPortSocketsMax) return EMSGSIZE;
  iovec bytes{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) char control[kControl] = {};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  if (!sockets.empty()) {
    const size_t size = sockets.size() * sizeof(int);
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(size);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(size);
    std::memcpy(CMSG_DATA(rights), sockets.data(), size);
  }
  while (sendmsg(fd, &header, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

int receive_port_message(int fd, PortMessage& out) {
  out = {};
  std::array<char, kPortMessageMax> buffer;
  iovec bytes{buffer.data(), buffer.size()};
  alignas(cmsghdr) char control[kControl] = {};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof descriptor);
      out.sockets.emplace_back(descriptor);
    }
  }
  if (got == 0) return ECONNRESET;  // no message is empty
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return EMSGSIZE;
  out.text.assign(buffer.data(), static_cast<size_t>(got));
  return 0;
}

std::vector<std::string> names_in(std::string_view kept) {
  std::vector<std::string> out;
  kept.remove_prefix(std::min(kept.size(), kPortKept.size()));
  while (!kept.empty()) {
    const std::string_view name = kept.substr(0, kept.find('\n'));
    out.emplace_back(name);
    kept.remove_prefix(std::min(kept.size(), name.size() + 1));
  }
  return out;
}

std::string kept_name(const FrontendKey& key, bool v6) {
  return fmt::format("{}/{}/{}{}{}", protocol_name(key.protocol), key.port, v6 ? "v6" : "v4",
                     key.bind.empty() ? "" : "/", key.bind);
}

std::optional<NamedPort> parse_kept_name(std::string_view name) {
  NamedPort out;
  const std::string_view protocol = next_part(name);
  const std::string_view number = next_part(name);
  const std::string_view family = next_part(name);
  const auto known = {v1::PortConfig::TCP, v1::PortConfig::UDP, v1::PortConfig::SCTP};
  bool found = false;
  for (const auto candidate : known) {
    if (protocol_name(candidate) != protocol) continue;
    out.key.protocol = candidate;
    found = true;
  }
  const auto read = std::from_chars(number.data(), number.data() + number.size(), out.key.port);
  found = found && read.ec == std::errc() && read.ptr == number.data() + number.size();
  if (!found || out.key.port == 0 || out.key.port > 65535) return std::nullopt;
  if (family != "v4" && family != "v6") return std::nullopt;
  out.v6 = family == "v6";
  out.key.bind = name;
  return out;
}

}  // namespace muster::overlay
