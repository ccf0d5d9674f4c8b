#pragma once

#include <google/protobuf/message_lite.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::overlay::dns {

// Messages on a stream: four bytes of length, highest first, then the message.
std::string encode_frame(const google::protobuf::MessageLite& message);

class FrameReader {
 public:
  static constexpr size_t kFrameMax = 64 << 20;

  void add(std::string_view bytes) { buffer_.append(bytes); }
  // The next whole message's bytes, nothing while some are missing. RESOURCE_EXHAUSTED for one that
  // is too long: the stream cannot be read on.
  Result<std::optional<std::string>> next();

 private:
  std::string buffer_;
  size_t read_ = 0;
};

// "<run-dir>/netd.sock" and what guards it.
std::string netd_socket(const std::string& run_dir);
std::string netd_lock(const std::string& run_dir);

}  // namespace muster::overlay::dns
