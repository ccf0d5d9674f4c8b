#include "overlay/dns/netd/frames.h"

#include <cstdint>

namespace muster::overlay::dns {

std::string encode_frame(const google::protobuf::MessageLite& message) {
  const std::string body = message.SerializeAsString();
  const auto size = static_cast<uint32_t>(body.size());
  std::string out;
  out.reserve(body.size() + 4);
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(size >> shift));
  return out + body;
}

Result<std::optional<std::string>> FrameReader::next() {
  const std::string_view left = std::string_view(buffer_).substr(read_);
  if (left.size() < 4) return std::optional<std::string>();
  uint32_t size = 0;
  for (size_t i = 0; i < 4; ++i) size = size << 8 | static_cast<uint8_t>(left[i]);
  if (size > kFrameMax) return fail(resource_exhausted("a message of {} bytes", size));
  if (left.size() - 4 < size) return std::optional<std::string>();
  std::optional<std::string> out(left.substr(4, size));
  read_ += 4 + size;
  if (read_ == buffer_.size() || read_ > (1 << 20)) {
    buffer_.erase(0, read_);
    read_ = 0;
  }
  return out;
}

std::string netd_socket(const std::string& run_dir) {
  return run_dir + "/netd.sock";
}
std::string netd_lock(const std::string& run_dir) {
  return run_dir + "/netd.lock";
}

}  // namespace muster::overlay::dns
