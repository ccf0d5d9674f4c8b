#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "base/time.h"

namespace muster::bench {

// Asks again and again, from one network namespace, until the answer is the wanted one.
struct Question {
  enum class Kind { kName, kConnection };
  Kind kind = Kind::kConnection;
  int ns = -1;          // an open descriptor of the namespace; -1 = ours
  std::string address;  // kName: the address that is the answer; kConnection: where to
  uint16_t port = 0;    // kConnection
  std::string name;     // kName: asked of 127.0.0.11
};

// One thread for each question. A connection counts when the far end has sent a byte.
class Probes {
 public:
  // Between two tries of one question.
  static constexpr int kPauseMs = 4;

  explicit Probes(std::vector<Question> questions);
  ~Probes();

  // When each was answered as wanted, in the order of the questions. UNAVAILABLE names one that was
  // not answered within `patience`.
  Result<std::vector<WallTime>> await(Duration patience);

 private:
  void ask(size_t index);

  std::vector<Question> questions_;
  std::vector<std::atomic<int64_t>> answered_;  // Unix time in ns, 0 = not yet
  std::atomic<bool> stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace muster::bench
