#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"

// What clients asked a cluster and what they were told, with times of one monotonic clock.
namespace muster::history {

enum class Kind {
  kRead,    // has to be linearizable
  kPlain,   // of one manager's own copy: may be old, see sessions.h
  kCreate,  // there must be none
  kUpdate,  // from the value `from`: compare and set
  kRemove,
};

enum class Outcome {
  kOk,
  // The value was not the one that was asked for (update), there was one (create), there was none
  // (read, remove).
  kRefused,
  kFailed,   // the cluster says that nothing was done
  kUnknown,  // may have been done, or may be done later
};

std::string_view to_string(Kind kind);
std::string_view to_string(Outcome outcome);

// One operation of one client on one register. A register has a value or is absent, as at the
// beginning; no value is written twice.
struct Operation {
  uint64_t id = 0;  // of the history
  uint64_t client = 0;
  std::string manager;  // who answered; with Outcome::kUnknown who was asked last
  Kind kind = Kind::kRead;
  std::string key;
  std::string from;   // update: the value that is replaced
  std::string value;  // what is written, or what was read; empty = absent
  Outcome outcome = Outcome::kUnknown;
  uint64_t version = 0;  // the cluster's, of what was written or read; 0 = not told
  TimePoint begin;
  std::optional<TimePoint> end;  // none: still under way
};

// The file: a line when an operation begins and one when it ends, so that what is written so far is
// a history at any time.
//   b ID CLIENT KIND KEY FROM VALUE NANOSECONDS
//   e ID OUTCOME MANAGER VALUE VERSION NANOSECONDS
// Empty fields are "-"; lines that begin with "#" are for readers.
std::string begin_line(const Operation& op);
std::string end_line(const Operation& op);

// Operations in the order of their beginning. What has not ended has the outcome unknown. A last
// line without its line feed is being written, and left out. DATA_LOSS names a line that is none.
Result<std::vector<Operation>> parse_history(std::string_view text);

// "update of r3 by client 2, from 1.7 to 2.9: ok at version 88, 12.340000000 to 12.360000000"
std::string describe(const Operation& op);

}  // namespace muster::history
