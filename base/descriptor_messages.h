#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace muster {

// Messages of Unix sockets that bring descriptors beside their bytes (unix(7), SCM_RIGHTS).

// No message brings more, says the kernel (SCM_MAX_FD).
inline constexpr size_t kDescriptorsMax = 253;

// Sends `bytes`, and duplicates of `descriptors` (maybe none) with the first of them. A stream
// takes descriptors only with a byte at least. 0, or the errno: EINVAL for too many descriptors,
// EAGAIN where a socket that does not block has no room, or one that does had none for its
// SO_SNDTIMEO. After a failure a stream may have got a part, other sockets have got nothing.
int send_descriptors(int fd, std::string_view bytes, const std::vector<int>& descriptors);

// What one message may bring.
struct MessageLimits {
  size_t bytes = 0;
  size_t descriptors = 0;  // up to kDescriptorsMax
};
struct DescriptorMessage {
  std::string bytes;
  std::vector<UniqueFd> descriptors;  // closed by exec
};

// Receives one message; of a stream what there is, up to the limit or to the end of the bytes that
// descriptors came with. 0, or the errno with nothing in `out` and nothing left open: ECONNRESET at
// the end, which an empty message without descriptors cannot be told from; EMSGSIZE for one that
// brought more than the limits allow, or descriptors that this process has no room for
// (RLIMIT_NOFILE); EAGAIN when there is none.
int receive_descriptors(int fd, MessageLimits limits, DescriptorMessage& out);

}  // namespace muster
