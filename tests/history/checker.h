#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/history/history.h"

namespace muster::history {

struct Verdict {
  enum class Answer {
    kYes,
    kNo,
    kUndecided,  // the search was broken off: no proof of either
  };
  Answer answer = Answer::kYes;
  std::string why;       // of all but kYes: the register, the operation that fits nowhere
  uint64_t checked = 0;  // operations that were judged

  bool ok() const { return answer == Answer::kYes; }
};

// Steps of the search in one register: far beyond what an honest history needs.
inline constexpr uint64_t kStepsMax = 5'000'000;

// Whether there is one order of all operations that each register could have carried out one after
// the other, in which every operation lies between its beginning and its end (linearizability;
// Herlihy and Wing 1990). A register is judged alone, since that is enough (locality) and keeps it
// cheap: the search of Wing and Gong with Lowe's memory of what was tried (2017), as in Porcupine.
//
// What failed was not done. What is unknown may take effect at any time after its beginning, or
// never. Plain reads are left out.
Verdict check_linearizable(const std::vector<Operation>& history, uint64_t steps_max = kStepsMax);

}  // namespace muster::history
