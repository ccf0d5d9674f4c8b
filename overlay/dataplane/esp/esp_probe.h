#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <string>

namespace muster::overlay {

// Why this node cannot take part in encrypted networks whose data path is IPv4 (or IPv6); empty: it
// can. Tries it in a network namespace made for that, so that nothing is left over and nothing of
// the host's is touched; takes some 20 ms.
std::string encryption_trouble(bool v6);

// Asks until the answer is that it can: a module may be loaded later, and what it took may have
// been lacking for a moment. Thread-safe.
class EncryptionProbe {
 public:
  using Ask = std::function<std::string(bool v6)>;
  // Empty: encryption_trouble().
  explicit EncryptionProbe(Ask ask = {});

  // As encryption_trouble().
  std::string trouble(bool v6);

 private:
  const Ask ask_;
  std::array<std::atomic<bool>, 2> can_{};  // by family
};

}  // namespace muster::overlay
