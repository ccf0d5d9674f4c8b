#include "tests/history/checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_set>

namespace muster::history {
namespace {

using State = uint32_t;  // number of a value; 0 = absent
constexpr State kAbsent = 0;

// An operation as the search sees it.
struct Step {
  const Operation* op = nullptr;
  State from = kAbsent;
  State value = kAbsent;
};

// The state after the operation was carried out in `state` with the outcome it had; nothing when it
// cannot have been.
std::optional<State> carry_out(const Step& step, State state) {
  const bool refused = step.op->outcome == Outcome::kRefused;
  switch (step.op->kind) {
    case Kind::kPlain: return state;
    case Kind::kRead:
      if (state != step.value) return std::nullopt;
      return state;
    case Kind::kCreate:
      if ((state != kAbsent) != refused) return std::nullopt;
      return refused ? state : step.value;
    case Kind::kUpdate:
      if ((state != step.from) != refused) return std::nullopt;
      return refused ? state : step.value;
    case Kind::kRemove:
      if ((state == kAbsent) != refused) return std::nullopt;
      return kAbsent;
  }
  return std::nullopt;
}

// Which steps are done, and what the register holds then.
struct Done {
  std::vector<uint64_t> bits;
  State state = kAbsent;

  bool operator==(const Done&) const = default;
};
struct DoneHash {
  size_t operator()(const Done& done) const {
    uint64_t hash = done.state + 0x9e3779b97f4a7c15;
    for (const uint64_t word : done.bits) {
      hash = (hash ^ word) * 0xff51afd7ed558ccd;
      hash ^= hash >> 32;
    }
    return hash;
  }
};

// The beginnings and ends of steps in the order of time, as a list out of which what is done is
// taken and into which it is put back.
class Timeline {
 public:
  static constexpr size_t kEnd = 0;  // before the first and behind the last

  explicit Timeline(const std::vector<Step>& steps) {
    struct At {
      TimePoint time;
      bool end;
      size_t step;
    };
    std::vector<At> order;
    for (size_t i = 0; i < steps.size(); ++i) {
      order.push_back({steps[i].op->begin, false, i});
      // What is unknown has no end: it may be done at any time.
      if (steps[i].op->outcome != Outcome::kUnknown && steps[i].op->end)
        order.push_back({*steps[i].op->end, true, i});
    }
    // Of one moment, beginnings come first: the two may overlap.
    std::stable_sort(order.begin(), order.end(), [](const At& a, const At& b) {
      return a.time != b.time ? a.time < b.time : a.end < b.end;
    });
    entries_.resize(order.size() + 1);
    end_of_.assign(steps.size(), kEnd);
    for (size_t i = 0; i < order.size(); ++i) {
      entries_[i + 1] = {order[i].step, order[i].end, i, i + 2};
      if (order[i].end) end_of_[order[i].step] = i + 1;
      ends_ += order[i].end ? 1 : 0;
    }
    entries_[kEnd].next = order.empty() ? kEnd : 1;
    entries_[kEnd].previous = order.size();
    if (!order.empty()) entries_.back().next = kEnd;
  }

  size_t first() const { return entries_[kEnd].next; }
  size_t next(size_t at) const { return entries_[at].next; }
  size_t step(size_t at) const { return entries_[at].step; }
  bool is_end(size_t at) const { return entries_[at].end; }
  // Steps that have to be done still.
  size_t ends() const { return ends_; }

  // With the beginning at `at`, the end.
  void take(size_t at) {
    unlink(at);
    if (const size_t end = end_of_[entries_[at].step]; end != kEnd) {
      unlink(end);
      --ends_;
    }
  }
  // In the reverse order of taking.
  void put_back(size_t at) {
    if (const size_t end = end_of_[entries_[at].step]; end != kEnd) {
      link(end);
      ++ends_;
    }
    link(at);
  }

 private:
  struct Entry {
    size_t step = 0;
    bool end = false;
    size_t previous = 0;
    size_t next = 0;
  };
  void unlink(size_t at) {
    entries_[entries_[at].previous].next = entries_[at].next;
    entries_[entries_[at].next].previous = entries_[at].previous;
  }
  void link(size_t at) {
    entries_[entries_[at].previous].next = at;
    entries_[entries_[at].next].previous = at;
  }

  std::vector<Entry> entries_;  // [0] is the anchor of the ring
  std::vector<size_t> end_of_;
  size_t ends_ = 0;
};

class Search {
 public:
  Search(std::vector<Step> steps, uint64_t steps_max)
      : steps_(std::move(steps)), steps_max_(steps_max), timeline_(steps_) {
    now_.bits.assign(steps_.size() / 64 + 1, 0);
  }

  Verdict::Answer run() {
    size_t at = timeline_.first();
    for (uint64_t tried = 0; timeline_.ends() != 0; ++tried) {
      if (tried == steps_max_) return Verdict::Answer::kUndecided;
      if (timeline_.is_end(at)) {
        // It had to be done by now, after what was: some of that was wrong.
        note_stuck(at);
        if (taken_.empty()) return Verdict::Answer::kNo;
        at = take_back();
      } else if (try_next(at)) {
        at = timeline_.first();
      } else {
        at = timeline_.next(at);
      }
    }
    return Verdict::Answer::kYes;
  }

  // How far it came at best: what fits nowhere, and what else was not done by then.
  std::string explain(const std::string& key, const std::vector<std::string>& names,
                      Verdict::Answer answer) const {
    if (answer == Verdict::Answer::kUndecided)
      return fmt::format("{}: too many orders to try", key);
    std::string out = fmt::format("{}: no place for the {}\n  after {} operations it held {}", key,
                                  describe(*stuck_), most_done_ - 1,
                                  stuck_state_ == kAbsent ? "nothing" : names[stuck_state_]);
    for (const Operation* op : beside_) out += fmt::format("\n  beside it: {}", describe(*op));
    return out;
  }

 private:
  // False: it cannot be what comes next, or was tried.
  bool try_next(size_t at) {
    const size_t step = timeline_.step(at);
    const auto after = carry_out(steps_[step], now_.state);
    if (!after) return false;
    Done done = now_;
    done.state = *after;
    done.bits[step / 64] |= uint64_t{1} << (step % 64);
    if (!tried_.insert(done).second) return false;
    taken_.push_back({at, now_.state});
    now_ = std::move(done);
    timeline_.take(at);
    return true;
  }

  // Where to go on.
  size_t take_back() {
    const auto [at, before] = taken_.back();
    taken_.pop_back();
    const size_t step = timeline_.step(at);
    now_.bits[step / 64] &= ~(uint64_t{1} << (step % 64));
    now_.state = before;
    timeline_.put_back(at);
    return timeline_.next(at);
  }

  void note_stuck(size_t at) {
    if (taken_.size() + 1 <= most_done_) return;
    most_done_ = taken_.size() + 1;
    stuck_ = steps_[timeline_.step(at)].op;
    stuck_state_ = now_.state;
    beside_.clear();
    for (size_t i = timeline_.first(); i != at; i = timeline_.next(i)) {
      const Operation* op = steps_[timeline_.step(i)].op;
      if (op != stuck_) beside_.push_back(op);
    }
  }

  struct Taken {
    size_t at;
    State before;
  };
  const std::vector<Step> steps_;
  const uint64_t steps_max_;
  Timeline timeline_;
  Done now_;
  std::vector<Taken> taken_;
  std::unordered_set<Done, DoneHash> tried_;

  size_t most_done_ = 0;
  const Operation* stuck_ = nullptr;
  State stuck_state_ = kAbsent;
  std::vector<const Operation*> beside_;
};

// What says nothing about the register.
bool left_out(const Operation& op) {
  if (op.kind == Kind::kPlain || op.outcome == Outcome::kFailed) return true;
  return op.kind == Kind::kRead && op.outcome == Outcome::kUnknown;
}

}  // namespace

Verdict check_linearizable(const std::vector<Operation>& history, uint64_t steps_max) {
  std::map<std::string, std::vector<const Operation*>> by_key;
  Verdict verdict;
  for (const Operation& op : history) {
    if (left_out(op)) continue;
    by_key[op.key].push_back(&op);
    ++verdict.checked;
  }
  for (const auto& [key, ops] : by_key) {
    std::vector<std::string> names = {""};
    std::map<std::string, State> numbers = {{"", kAbsent}};
    const auto number_of = [&](const std::string& name) {
      const auto [known, fresh] = numbers.try_emplace(name, static_cast<State>(names.size()));
      if (fresh) names.push_back(name);
      return known->second;
    };
    std::vector<Step> steps;
    for (const Operation* op : ops) {
      steps.push_back({op, number_of(op->from), number_of(op->value)});
    }
    Search search(std::move(steps), steps_max);
    verdict.answer = search.run();
    if (verdict.ok()) continue;
    verdict.why = search.explain(key, names, verdict.answer);
    break;
  }
  return verdict;
}

}  // namespace muster::history
