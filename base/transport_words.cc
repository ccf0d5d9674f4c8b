#include "base/transport_words.h"

#include <utility>

namespace muster {
namespace {

struct Words {
  std::string_view sign;
  std::string_view words;
};

// In this order: the first that is found says the most.
constexpr Words kWords[] = {
    {"CERTIFICATE_VERIFY_FAILED",
     "its certificate is not one of this swarm's, or has expired (the clocks of this host and of "
     "the manager may differ)"},
    {"certificate verify failed",
     "its certificate is not one of this swarm's, or has expired (the clocks of this host and of "
     "the manager may differ)"},
    {"Connection refused", "connection refused: no manager listens there"},
    {"No route to host", "no route to host"},
    {"Network is unreachable", "the network is unreachable"},
    {"Network unreachable", "the network is unreachable"},
    {"DNS resolution failed", "the name cannot be resolved"},
    {"Connection timed out", "no answer in time"},
    {"handshaker shutdown", "no answer in time"},
    {"Deadline Exceeded", "no answer in time"},
    {"keepalive watchdog timeout", "no answer in time"},
    {"WRONG_VERSION_NUMBER", "what answers there does not speak TLS"},
    {"wrong version number", "what answers there does not speak TLS"},
    {"Connection reset by peer", "the connection was closed by the other side"},
    {"Socket closed", "the connection was closed by the other side"},
};

constexpr std::string_view kNoCause = "failed to connect to all addresses; last error: ";

}  // namespace

std::string transport_words(std::string_view grpc_message) {
  for (const auto& [sign, words] : kWords) {
    if (grpc_message.find(sign) != std::string_view::npos) return std::string(words);
  }
  if (grpc_message.starts_with(kNoCause)) grpc_message.remove_prefix(kNoCause.size());
  return std::string(grpc_message);
}

}  // namespace muster
