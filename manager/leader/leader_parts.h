#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"

namespace muster::manager::leader {

// One loop that only the leader runs: allocator, orchestrator, scheduler, dispatcher.
class LeaderPart {
 public:
  virtual ~LeaderPart() = default;
  virtual void start() = 0;
  // Idempotent; after it the part proposes nothing more.
  virtual void stop() = 0;
};

// A part made of two functions, for loops that do not know of this interface.
std::unique_ptr<LeaderPart> make_part(std::function<void()> start, std::function<void()> stop);

// Starts the leader's parts in the order they were added when this manager begins to lead, and
// stops them in the reverse order when it ceases to. Fencing is the store's: what a part still
// proposes after its term has ended is rejected by the term it carries.
//
// Lives on the store's strand.
class LeaderParts {
 public:
  explicit LeaderParts(Log log) : log_(std::move(log)) {}
  ~LeaderParts() { stop(); }

  // Before start().
  void add(std::string name, std::unique_ptr<LeaderPart> part);

  // Both are idempotent.
  void start();
  void stop();
  bool running() const { return running_; }

 private:
  struct Named {
    std::string name;
    std::unique_ptr<LeaderPart> part;
  };

  Log log_;
  std::vector<Named> parts_;
  bool running_ = false;
};

}  // namespace muster::manager::leader
