#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace muster::deploy::cli {

// How far a deploy came. One that ends half-way says what is there and what is not: nothing is
// rolled back, since the same deploy again goes on from there.
class StackLedger {
 public:
  explicit StackLedger(std::string stack) : stack_(std::move(stack)) {}

  // "network shop_default", in the order in which it will be done.
  void plan(std::string step) { steps_.push_back({std::move(step), false}); }
  void done(const std::string& step);

  // `why` with what was done before and what was not. As it is while nothing was done.
  Status stopped(const Status& why) const;

 private:
  struct Step {
    std::string name;
    bool done = false;
  };
  std::string stack_;
  std::vector<Step> steps_;
};

}  // namespace muster::deploy::cli
