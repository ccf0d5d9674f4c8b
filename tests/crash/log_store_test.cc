// The log of a member: killed or cut from power at any system call, and on disks that fail. After
// each the log is what it was before the step under way or what it is after it, with everything
// that was acknowledged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "raft/storage/rocks_log_store.h"
#include "tests/crash/faulty_env.h"
#include "tests/crash/kill_points.h"

namespace muster::raft {
namespace {

namespace fs = std::filesystem;
using kill_points::End;
using kill_points::in_child;
using kill_points::Watch;

// What the log must hold.
struct Model {
  HardState hard_state;
  SnapshotMark mark;
  Index base = 0;
  Term base_term = 0;
  std::vector<Entry> entries;  // after base

  Index last() const { return base + entries.size(); }
  Term term_of(Index index) const {
    if (index == mark.index) return mark.term;
    return index == base ? base_term : entries[index - base - 1].term;
  }
};

Members group_of(Index index) {
  Members members;
  members.put({{index + 1}, "node", "10.0.0.1:2377", true, false});
  return members;
}
std::string state_at(Index index, Term term) {
  return std::string(3000, 's') + fmt::format("state {} {}", index, term);
}

// One step, on the model and, if there is one, first on the store.
using Step = std::function<Status(LogStore* store, Model& model)>;

void cut_to(Model& model, Index last) {
  model.entries.resize(last - model.base);
}

Status apply(LogStore* store, Model& model, const std::vector<Write>& writes) {
  if (store != nullptr) {
    std::vector<const Write*> pointers;
    for (const Write& write : writes) pointers.push_back(&write);
    MUSTER_TRY(store->write(pointers));
  }
  for (const Write& write : writes) {
    if (write.hard_state) model.hard_state = *write.hard_state;
    if (write.install) {
      model.mark = *write.install;
      model.base = model.mark.index;
      model.base_term = model.mark.term;
      model.entries.clear();
    }
    if (!write.entries.empty()) cut_to(model, write.entries.front().index - 1);
    for (const Entry& entry : write.entries) model.entries.push_back(entry);
  }
  return ok_status();
}

// `count` entries from `from` on, in the model's term or a newer one.
Step entries(Index from_end, size_t count, Term term_up, size_t bytes = 200) {
  return [=](LogStore* store, Model& model) {
    Write write;
    const Term term = model.hard_state.term + term_up;
    if (term_up > 0) write.hard_state = HardState{term, {}};
    for (size_t i = 0; i < count; ++i) {
      const Index index = model.last() - from_end + 1 + i;
      write.entries.push_back({index, term, EntryKind::kData,
                               std::make_shared<const std::string>(
                                   fmt::format("{} {} ", index, term) + std::string(bytes, 'e'))});
    }
    return apply(store, model, {write});
  };
}

Step vote(uint64_t whom) {
  return [=](LogStore* store, Model& model) {
    Write write;
    write.hard_state = HardState{model.hard_state.term + 1, {whom}};
    return apply(store, model, {write});
  };
}

Status lay(LogStore& store, Index index, Term term) {
  MUSTER_ASSIGN(const auto sink, store.create_snapshot(index, term));
  const std::string state = state_at(index, term);
  MUSTER_TRY(sink->add(std::string_view(state).substr(0, 1000)));
  MUSTER_TRY(sink->add(std::string_view(state).substr(1000)));
  return sink->finish();
}

// A snapshot of `back` entries before the end, with `keep` entries kept before its own end.
Step snapshot(Index back, Index keep) {
  return [=](LogStore* store, Model& model) -> Status {
    const Index index = model.last() - back;
    const SnapshotMark mark{index, model.term_of(index), group_of(index)};
    const Index keep_from = index - std::min(index, keep) + 1;
    if (store != nullptr) {
      MUSTER_TRY(lay(*store, mark.index, mark.term));
      MUSTER_TRY(store->set_snapshot(mark, keep_from));
    }
    const Index base = std::max(model.base, keep_from - 1);
    model.base_term = model.term_of(base);
    model.entries.erase(model.entries.begin(),
                        model.entries.begin() + static_cast<ptrdiff_t>(base - model.base));
    model.base = base;
    model.mark = mark;
    return ok_status();
  };
}

// A snapshot from elsewhere, `ahead` entries beyond the end, and entries after it in the same step.
Step install(Index ahead, size_t after) {
  return [=](LogStore* store, Model& model) -> Status {
    const Index index = model.last() + ahead;
    const Term term = model.hard_state.term + 1;
    if (store != nullptr) MUSTER_TRY(lay(*store, index, term));
    Write write;
    write.hard_state = HardState{term, {}};
    write.install = SnapshotMark{index, term, group_of(index)};
    for (size_t i = 1; i <= after; ++i) {
      write.entries.push_back({index + i, term, EntryKind::kEmpty, nullptr});
    }
    return apply(store, model, {write});
  };
}

Step rotate() {
  return [](LogStore* store, Model&) {
    return store == nullptr ? ok_status() : store->rotate_data_key();
  };
}
// To a key that opens with the one the tests open with, or to none, which does, too.
Step rewrap(bool wrapped) {
  return [=](LogStore* store, Model&) {
    if (store == nullptr) return ok_status();
    return store->rewrap(wrapped ? std::optional(std::string(32, 'u')) : std::nullopt);
  };
}

RocksLogStore::Options options_for(const fs::path& dir) {
  RocksLogStore::Options options;
  options.dir = dir;
  options.log = null_log();
  options.identity = {"cluster", "node", {1}};
  options.unlock_key = std::string(32, 'u');
  options.free_bytes_min = options.reserve_bytes = 0;
  return options;
}

// What differs; empty when nothing does.
std::string difference(const LogStore& store, const Model& model) {
  const auto restored = store.restore();
  if (!restored) return restored.error().to_string();
  if (!(restored->hard_state == model.hard_state)) {
    return fmt::format("term {} vote {}, not {} {}", restored->hard_state.term,
                       restored->hard_state.vote.value, model.hard_state.term,
                       model.hard_state.vote.value);
  }
  if (!(restored->snapshot == model.mark)) {
    return fmt::format("a snapshot at {}, not {}", restored->snapshot.index, model.mark.index);
  }
  if (restored->before_term != model.base_term || store.first_index() != model.base + 1 ||
      !(restored->entries == model.entries)) {
    return fmt::format("entries {} to {}, not {} to {}", store.first_index(), store.last_index(),
                       model.base + 1, model.last());
  }
  if (model.mark.index == 0) return "";
  auto source = store.open_snapshot(model.mark.index, model.mark.term);
  if (!source) return source.error().to_string();
  std::string state;
  while (true) {
    const auto chunk = (*source)->next();
    if (!chunk) return chunk.error().to_string();
    if (chunk->empty()) break;
    state += *chunk;
  }
  return state == state_at(model.mark.index, model.mark.term) ? "" : "another state";
}

// Opens the log and compares it with what it was before and after the step under way. In a process
// of its own: RocksDB's threads do not survive a fork. The number of steps it took, or -1.
int check(const RocksLogStore::Options& options, const std::vector<Model>& models, size_t acked) {
  auto store = RocksLogStore::open(options);
  if (!store) {
    fprintf(stderr, "after %zu steps: %s\n", acked, store.error().to_string().c_str());
    return -1;
  }
  std::string why;
  for (size_t taken = acked; taken <= acked + 1 && taken < models.size(); ++taken) {
    const std::string found = difference(**store, models[taken]);
    if (found.empty()) {
      // And it goes on: with a snapshot of all, after which one key is enough.
      Model model = models[taken];
      for (const Step& step :
           {entries(0, 2, 1), snapshot(0, 0), entries(0, 1, 0), snapshot(0, 0)}) {
        if (Status status = step(store->get(), model); !status.ok()) {
          fprintf(stderr, "after %zu steps: cannot go on: %s\n", taken, status.to_string().c_str());
          return -1;
        }
      }
      if ((*store)->data_keys() != 1) {
        fprintf(stderr, "after %zu steps: %zu data keys are left\n", taken, (*store)->data_keys());
        return -1;
      }
      return static_cast<int>(taken);
    }
    why += fmt::format("\n  after {} steps: {}", taken, found);
  }
  fprintf(stderr, "acknowledged %zu steps, but:%s\n", acked, why.c_str());
  return -1;
}

class LogCrash : public testing::TestWithParam<End> {
 protected:
  LogCrash() {
    char name[] = "/tmp/muster-crash-XXXXXX";
    dir = mkdtemp(name);
  }
  ~LogCrash() override {
    fs::remove_all(dir);
    fs::remove_all(lost());
  }
  fs::path lost() const { return dir.string() + ".lost"; }

  // Runs `before` undisturbed and then `steps` up to the call `at`; how many were acknowledged.
  // `calls` tells how many calls there were when it came through.
  size_t run(const std::vector<Step>& before, const std::vector<Step>& steps, bool armed_opening,
             uint64_t at, uint64_t& calls) {
    int fds[2];
    EXPECT_EQ(pipe(fds), 0);
    const int code = in_child([&] {
      const RocksLogStore::Options options = options_for(dir / "raft");
      Model model;
      if (armed_opening) {
        if (!before.empty()) {
          auto store = RocksLogStore::open(options);
          for (const Step& step : before) {
            if (!store || !step(store->get(), model).ok()) return 3;
          }
        }
        Watch::get().arm(at, GetParam(), seed, dir.string());
      }
      auto store = RocksLogStore::open(options);
      if (!store) return 4;
      if (!armed_opening) {
        for (const Step& step : before) {
          if (!step(store->get(), model).ok()) return 5;
        }
        Watch::get().arm(at, GetParam(), seed, dir.string());
      }
      uint64_t word = 0;
      for (const Step& step : steps) {
        if (!step(store->get(), model).ok()) return 6;
        if (::write(fds[1], &word, sizeof word) != 8) {
          return 7;
        }
      }
      word = Watch::get().disarm();
      (void)::write(fds[1], &word, sizeof word);
      return 0;
    });
    close(fds[1]);
    EXPECT_TRUE(code == 0 || code == 256 + SIGKILL) << "code " << code << " at call " << at;
    size_t acked = 0;
    uint64_t word = 0;
    calls = 0;
    while (read(fds[0], &word, sizeof word) == ssize_t{sizeof word}) {
      ++acked;
      calls = word;
    }
    close(fds[0]);
    if (calls != 0) --acked;
    return acked;
  }

  // Ends the process at about `points` of the calls that `steps` make.
  void end_everywhere(const std::vector<Step>& before, const std::vector<Step>& steps,
                      bool armed_opening = false, uint64_t points = 16) {
    std::vector<Model> models(1);
    for (const Step& step : before) ASSERT_TRUE(step(nullptr, models.front()).ok());
    for (const Step& step : steps) {
      models.push_back(models.back());
      ASSERT_TRUE(step(nullptr, models.back()).ok());
    }
    uint64_t calls = 0;
    ASSERT_EQ(run(before, steps, armed_opening, 0, calls), steps.size());
    ASSERT_GT(calls, steps.size());
    const uint64_t total = calls;
    SeededRng rng(total);
    points = std::min(points, total);
    for (uint64_t point = 0; point < points; ++point) {
      fs::remove_all(dir / "raft");
      fs::remove_all(lost());
      const uint64_t from = point * total / points;
      const uint64_t width = std::max<uint64_t>(1, (point + 1) * total / points - from);
      // The last ones after everything was acknowledged.
      const uint64_t at = point + 3 >= points ? total : from + rng.below(width) + 1;
      seed = at + point;
      const size_t acked = run(before, steps, armed_opening, at, calls);
      const int taken =
          in_child([&] { return 100 + check(options_for(dir / "raft"), models, acked); });
      ASSERT_GE(taken, 100) << "ended at call " << at << " of " << total;
      ASSERT_LE(taken, 200) << "ended at call " << at << " of " << total;
    }
  }

  fs::path dir;
  uint64_t seed = 0;  // of what a power cut takes
};

TEST_P(LogCrash, B08_AppendsAndReplacedEnds) {
  end_everywhere({entries(0, 5, 1)}, {entries(0, 3, 0), entries(4, 2, 1), entries(0, 64, 0),
                                      entries(1, 1, 1), entries(30, 1, 2, 100'000)});
}

TEST_P(LogCrash, B10_TermsAndVotes) {
  end_everywhere({}, {vote(1), vote(2), entries(0, 1, 1), vote(3), vote(4), vote(5), vote(6)});
}

TEST_P(LogCrash, B13_Installs) {
  end_everywhere({entries(0, 5, 1), snapshot(2, 0)},
                 {install(20, 0), entries(0, 2, 0), install(1, 2), install(300, 1)});
}

TEST_P(LogCrash, B14_AnInstallIntoAnEmptyLog) {
  end_everywhere({}, {install(20, 0), entries(0, 2, 0)});
}

TEST_P(LogCrash, B31_SnapshotsWithKeptEntries) {
  end_everywhere({entries(0, 20, 1)}, {snapshot(5, 3), entries(0, 3, 1), snapshot(2, 0),
                                       snapshot(0, 100), entries(0, 2, 0), snapshot(1, 1)});
}

TEST_P(LogCrash, KeyRotations) {
  end_everywhere({entries(0, 3, 1), snapshot(1, 0)},
                 {rotate(), entries(0, 3, 0), rewrap(true), rotate(), entries(2, 2, 1),
                  snapshot(1, 0), rewrap(false), snapshot(0, 0)});
}

TEST_P(LogCrash, MakingTheLog) {
  end_everywhere({}, {entries(0, 1, 1)}, true, 24);
}

TEST_P(LogCrash, OpeningTheLogAgain) {
  end_everywhere({entries(0, 30, 1, 10'000), snapshot(5, 2), rotate(), entries(3, 4, 1),
                  install(4, 4), entries(0, 30, 1, 10'000)},
                 {entries(0, 1, 1)}, true, 24);
}

INSTANTIATE_TEST_SUITE_P(Ends, LogCrash, testing::Values(End::kKill, End::kPowerCut),
                         [](const auto& info) {
                           return info.param == End::kKill ? "Kill" : "PowerCut";
                         });

// One log, many lives, steps at random, each life killed at a random call.
class LogLives : public LogCrash {};

TEST_P(LogLives, NothingAcknowledgedIsLostOverManyLives) {
  SeededRng rng(20'262);
  std::vector<Step> taken;
  Model model;
  for (int life = 0; life < 12; ++life) {
    std::vector<Step> steps;
    std::vector<Model> models{model};
    for (int i = 0; i < 30; ++i) {
      Model next = models.back();
      const Index kept = next.last() - std::max(next.base, next.mark.index);
      Step step = entries(0, 1 + rng.below(20), rng.below(2));
      switch (rng.below(8)) {
        case 0: step = vote(rng.below(5)); break;
        case 1: step = entries(rng.below(kept + 1), 1 + rng.below(4), 1); break;
        case 2:
          if (kept > 1) step = snapshot(rng.below(kept - 1), rng.below(10));
          break;
        case 3: step = install(1 + rng.below(9), rng.below(3)); break;
        case 4: step = rewrap(rng.below(2) == 0); break;
        default: break;
      }
      ASSERT_TRUE(step(nullptr, next).ok());
      steps.push_back(std::move(step));
      models.push_back(std::move(next));
    }
    int fds[2];
    ASSERT_EQ(pipe(fds), 0);
    const uint64_t at = 1 + rng.below(400);
    const int code = in_child([&] {
      auto store = RocksLogStore::open(options_for(dir / "raft"));
      if (!store) return 4;
      Watch::get().arm(at, GetParam(), at, dir.string());
      Model scratch = model;
      for (const Step& step : steps) {
        if (!step(store->get(), scratch).ok()) return 6;
        const char byte = 1;
        if (::write(fds[1], &byte, 1) != 1) {
          return 7;
        }
      }
      raise(SIGKILL);
      return 0;
    });
    close(fds[1]);
    ASSERT_EQ(code, 256 + SIGKILL);
    size_t acked = 0;
    for (char byte = 0; read(fds[0], &byte, 1) == 1;) ++acked;
    close(fds[0]);
    // Looked at on a copy: checking goes on with the log.
    fs::remove_all(dir / "copy");
    fs::copy(dir / "raft", dir / "copy", fs::copy_options::recursive);
    const int found =
        in_child([&] { return 100 + check(options_for(dir / "copy"), models, acked); });
    ASSERT_GE(found, 100) << "life " << life << ", call " << at;
    ASSERT_LE(found, 200) << "life " << life << ", call " << at;
    model = models[static_cast<size_t>(found - 100)];
  }
}

INSTANTIATE_TEST_SUITE_P(Ends, LogLives, testing::Values(End::kKill, End::kPowerCut),
                         [](const auto& info) {
                           return info.param == End::kKill ? "Kill" : "PowerCut";
                         });

// ---------------------------------------------------------------- disks that fail

class LogFaults : public testing::TestWithParam<FaultyEnv::Fault> {};

// B35: a failed sync is not tried again, whatever the step was.
TEST_P(LogFaults, B35_AFailedWriteIsFinalAndNothingAcknowledgedIsLost) {
  const std::vector<std::pair<const char*, Step>> kinds = {
      {"append", entries(0, 3, 0)}, {"replace", entries(2, 1, 1)}, {"vote", vote(3)},
      {"snapshot", snapshot(1, 1)}, {"install", install(9, 1)},
  };
  for (const auto& [name, step] : kinds) {
    SCOPED_TRACE(name);
    char path[] = "/tmp/muster-crash-XXXXXX";
    const fs::path dir = mkdtemp(path);
    FaultyEnv env;
    RocksLogStore::Options options = options_for(dir / "raft");
    options.env = &env;
    std::vector<Model> models(1);
    {
      auto store = *RocksLogStore::open(options);
      ASSERT_TRUE(entries(0, 8, 1)(store.get(), models[0]).ok());
      models.push_back(models[0]);
      ASSERT_TRUE(step(nullptr, models[1]).ok());
      env.fault = GetParam();
      Model scratch = models[0];
      const Status failed = step(store.get(), scratch);
      EXPECT_FALSE(failed.ok());
      EXPECT_NE(failed.reason(), "disk-full") << "an error of the disk is no refusal";
      env.fault = FaultyEnv::Fault::kNone;
      for (int i = 0; i < 3; ++i) {
        Model again = models[0];
        EXPECT_EQ(vote(1)(store.get(), again), failed) << "a disk that recovers is not trusted";
      }
      EXPECT_FALSE(store->rotate_data_key().ok());
    }
    auto store = *RocksLogStore::open(options);
    const std::string before = difference(*store, models[0]);
    if (!before.empty()) {
      EXPECT_EQ(difference(*store, models[1]), "") << before;
    }
    store.reset();
    fs::remove_all(dir);
  }
}

INSTANTIATE_TEST_SUITE_P(Faults, LogFaults,
                         testing::Values(FaultyEnv::Fault::kSync, FaultyEnv::Fault::kTornAppend,
                                         FaultyEnv::Fault::kNoSpace));

}  // namespace
}  // namespace muster::raft
