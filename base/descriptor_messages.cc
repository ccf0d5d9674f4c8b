#include "base/descriptor_messages.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace muster {
namespace {

// Aligned as the kernel's headers in it are.
struct Control {
  alignas(cmsghdr) char bytes[CMSG_SPACE(kDescriptorsMax * sizeof(int))] = {};
};

void enclose(const std::vector<int>& descriptors, Control& control, msghdr& header) {
  const size_t size = descriptors.size() * sizeof(int);
  header.msg_control = control.bytes;
  header.msg_controllen = CMSG_SPACE(size);
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(rights), descriptors.data(), size);
}

// All of them, also where they will not be kept: they are this process's now.
void take(msghdr& header, std::vector<UniqueFd>& out) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof descriptor);
      out.emplace_back(descriptor);
    }
  }
}

}  // namespace

int send_descriptors(int fd, std::string_view bytes, const std::vector<int>& descriptors) {
  if (descriptors.size() > kDescriptorsMax) return EINVAL;
  Control control;
  msghdr header{};
  if (!descriptors.empty()) enclose(descriptors, control, header);
  while (true) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    const ssize_t sent = ::sendmsg(fd, &header, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(sent));
    if (bytes.empty()) return 0;
    // A stream took a part, and the descriptors with it.
    header.msg_control = nullptr;
    header.msg_controllen = 0;
  }
}

int receive_descriptors(int fd, MessageLimits limits, DescriptorMessage& out) {
  MUSTER_CHECK(limits.descriptors <= kDescriptorsMax, "no message brings as many descriptors");
  out = {};
  DescriptorMessage got;
  got.bytes.resize(limits.bytes);
  Control control;
  iovec part{got.bytes.data(), got.bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  ssize_t size = 0;
  do {
    header.msg_control = control.bytes;
    // Not CMSG_SPACE, which has room for one more.
    header.msg_controllen = CMSG_LEN(limits.descriptors * sizeof(int));
    size = ::recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return errno;
  take(header, got.descriptors);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return EMSGSIZE;
  if (size == 0 && got.descriptors.empty()) return ECONNRESET;
  got.bytes.resize(static_cast<size_t>(size));
  out = std::move(got);
  return 0;
}

}  // namespace muster
