#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::agent {

// Asks addresses for an echo (RFC 792, RFC 4443) and hears who answers.
class EchoProbe {
 public:
  // To be made by a thread in the namespace that they are asked from; `number` tells this one's
  // questions from those of others there.
  static Result<EchoProbe> open(uint16_t number, const std::vector<std::string>& addresses);

  // Those that can be waited for.
  std::vector<int> fds() const;
  // Asks those that have not answered.
  void ask();
  // Takes what has come.
  void take();
  bool finished() const;
  const std::vector<bool>& answered() const { return answered_; }

 private:
  explicit EchoProbe(uint16_t number, std::vector<std::string> addresses)
      : number_(number), addresses_(std::move(addresses)), answered_(addresses_.size()) {}
  void take(int fd, bool v6);

  uint16_t number_;
  std::vector<std::string> addresses_;
  std::vector<bool> answered_;
  UniqueFd v4_, v6_;  // where there are such addresses
};

}  // namespace muster::agent
