#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "muster/v1/objects.pb.h"

namespace muster::agent {

// What this node mended of its kernel's network, as its managers are told it. The first repair is
// told at once; those that follow together, kBetween apart: a program that undoes what musterd does
// costs the managers one write a minute.
//
// Lives on the strand that it was given. Bounds: kLast sentences.
class RepairReport {
 public:
  static constexpr Duration kBetween = 1min;
  static constexpr size_t kLast = 8;

  using Tell = std::function<void(const v1::NetworkRepairs&)>;
  RepairReport(Executor& strand, Tell tell);
  ~RepairReport();

  // Differences that were found and mended, in words.
  void add(const std::vector<std::string>& found);

 private:
  void tell_now();

  Executor& strand_;
  const Tell tell_;
  uint64_t differences_ = 0;
  int64_t at_ns_ = 0;
  std::deque<std::string> last_;
  Executor::TimerId timer_ = 0;  // while what comes is told later
  bool untold_ = false;
};

}  // namespace muster::agent
