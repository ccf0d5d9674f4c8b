#pragma once

#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::overlay {

// Tells whether anything was changed of a namespace's interfaces, addresses, routes, rules and
// permanent neighbours, by whomever: the kernel counts changes of rules of nftables, but not of
// these. It is one socket, and asking is one system call that asks the kernel nothing while nothing
// has changed. Changes of local routes (virtual addresses) and of neighbours but the routing mesh's
// gateways are left out in the kernel. Stays in the namespace of the thread that opened it. Not
// thread-safe.
class ChangeWatch {
 public:
  ChangeWatch() = default;
  static Result<ChangeWatch> open();

  // Whether there was a change since the last question.
  bool moved();
  explicit operator bool() const { return static_cast<bool>(fd_); }

 private:
  UniqueFd fd_;
};

}  // namespace muster::overlay
