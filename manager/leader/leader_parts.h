#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "manager/store/store.h"

namespace muster::manager::leader {

// One loop that only the leader runs: allocator, orchestrator, scheduler, dispatcher.
class LeaderPart {
 public:
  virtual ~LeaderPart() = default;
  // Begins from the store's state alone, however often it has run before.
  virtual void start() = 0;
  // Idempotent; after it the part proposes nothing more.
  virtual void stop() = 0;
};

// A part made of two functions, for loops that do not know of this interface.
std::unique_ptr<LeaderPart> make_part(std::function<void()> start, std::function<void()> stop);

// Starts the leader's parts in the order they were added when this manager begins to lead, and
// stops them in the reverse order when it ceases to. The store leads before the first part starts
// and until the last has stopped. Fencing is the store's: what a part still proposes after its term
// has ended is rejected by the term it carries.
//
// Lives on the store's strand, and outlives nothing it was given.
class LeaderParts {
 public:
  LeaderParts(store::Store& store, Log log) : store_(store), log_(std::move(log)) {}
  ~LeaderParts() { end_leading(); }

  // Before the first term.
  void add(std::string name, std::unique_ptr<LeaderPart> part);

  // This manager leads `term`, with every commit of before in the store. A term that follows
  // another without an end between them ends that one first; so does the same term again when the
  // store has given it up, as it does when it cannot know what became of a change.
  void lead(uint64_t term);
  // Idempotent.
  void end_leading();
  // 0 when it does not lead.
  uint64_t term() const { return term_; }

 private:
  struct Named {
    std::string name;
    std::unique_ptr<LeaderPart> part;
  };

  store::Store& store_;
  Log log_;
  std::vector<Named> parts_;
  uint64_t term_ = 0;
};

}  // namespace muster::manager::leader
