// What lies in directories of its own beside a log's records: a node's keys, and logs that are set
// aside. Killed or cut from power at any system call.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/security/key_files.h"
#include "raft/storage/rocks_log_store.h"
#include "tests/crash/kill_points.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using kill_points::End;
using kill_points::in_child;
using kill_points::Watch;

class Names : public testing::TestWithParam<End> {
 protected:
  using Steps = std::vector<std::function<Status()>>;
  // What is wrong with what lies there after so many acknowledged steps; empty: nothing.
  using Look = std::function<std::string(size_t acknowledged)>;

  Names() {
    char name[] = "/tmp/muster-crash-XXXXXX";
    root = mkdtemp(name);
  }
  ~Names() override { remove(); }
  void remove() const {
    fs::remove_all(root);
    fs::remove_all(root.string() + ".lost");
  }

  // Ends the process at about `points` of the calls that `steps` make.
  void end_everywhere(const std::function<Status()>& before, const Steps& steps, const Look& look,
                      uint64_t points) {
    uint64_t calls = 0;
    ASSERT_EQ(run(before, steps, 0, 0, calls), steps.size());
    ASSERT_GT(calls, steps.size());
    const uint64_t total = calls;
    for (uint64_t point = 0; point < points; ++point) {
      const uint64_t at = point + 3 >= points ? total : 1 + point * total / points;
      const size_t acknowledged = run(before, steps, at, point, calls);
      const int found = in_child([&] {
        const std::string wrong = look(acknowledged);
        if (!wrong.empty()) fprintf(stderr, "after %zu steps: %s\n", acknowledged, wrong.c_str());
        return wrong.empty() ? 0 : 1;
      });
      ASSERT_EQ(found, 0) << "ended at call " << at << " of " << total << ", seed " << point;
    }
  }

  fs::path root;

 private:
  size_t run(const std::function<Status()>& before, const Steps& steps, uint64_t at, uint64_t seed,
             uint64_t& calls) {
    remove();
    fs::create_directory(root);
    int fds[2];
    EXPECT_EQ(pipe(fds), 0);
    const auto tell = [&](uint64_t word) { return ::write(fds[1], &word, sizeof word) == 8; };
    const int code = in_child([&] {
      if (before && !before().ok()) return 3;
      Watch::get().arm(at, GetParam(), seed, root.string());
      for (const auto& step : steps) {
        if (!step().ok()) return 4;
        if (!tell(0)) return 5;
      }
      return tell(Watch::get().disarm()) ? 0 : 5;
    });
    ::close(fds[1]);
    EXPECT_EQ(code, at == 0 ? 0 : 256 + SIGKILL) << "at call " << at;
    size_t acknowledged = 0;
    calls = 0;
    for (uint64_t word = 0; ::read(fds[0], &word, sizeof word) == ssize_t{sizeof word};) {
      word == 0 ? ++acknowledged : calls = word;
    }
    ::close(fds[0]);
    return acknowledged;
  }
};

INSTANTIATE_TEST_SUITE_P(Ends, Names, testing::Values(End::kKill, End::kPowerCut),
                         [](const auto& info) {
                           return info.param == End::kKill ? "Kill" : "PowerCut";
                         });

// ---------------------------------------------------------------- keys

security::NodeCredentials credentials(int generation) {
  // Nothing of it is parsed.
  return {fmt::format("root {}", generation),
          {fmt::format("certificate {}", generation), fmt::format("secret key {}", generation)}};
}

bool lies_somewhere(const fs::path& dir, const std::string& text) {
  for (const auto& item : fs::recursive_directory_iterator(dir)) {
    if (item.is_regular_file() && !item.is_symlink()) {
      const auto bytes = read_file(item.path());
      if (bytes && bytes->find(text) != std::string::npos) return true;
    }
  }
  return false;
}

TEST_P(Names, ANodeHasTheKeysItHadOrTheNewOnes) {
  const auto lock = security::UnlockKey::generate();
  const fs::path dir = root / "certificates";
  const auto save = [&](int generation, bool wrapped) {
    return [=] {
      return security::save_credentials(dir, credentials(generation),
                                        wrapped ? std::optional(lock) : std::nullopt);
    };
  };
  const auto look = [&](size_t acknowledged) -> std::string {
    // Before they are loaded, which sweeps away what a killed writer has left.
    if (acknowledged >= 3 && lies_somewhere(dir, "secret key")) return "a plain key is left";
    const auto found = security::load_credentials(dir, lock);
    if (!found) {
      const bool none = found.error().code() == StatusCode::kNotFound;
      return none && acknowledged == 0 ? "" : found.error().to_string();
    }
    const auto is = [&](size_t generation) {
      const auto wanted = credentials(static_cast<int>(generation));
      return found->node.key_pem == wanted.node.key_pem &&
             found->node.certificate_pem == wanted.node.certificate_pem &&
             found->root_pem == wanted.root_pem;
    };
    if (!is(acknowledged) && !is(acknowledged + 1)) return "keys of " + found->root_pem;
    const bool wrapped = is(3) || is(4);
    if (wrapped == lies_somewhere(dir, "secret key")) {
      return wrapped ? "a plain key is left beside a wrapped one" : "the search finds no plain key";
    }
    return "";
  };
  end_everywhere(nullptr, {save(1, false), save(2, false), save(3, true), save(4, true)}, look,
                 GetParam() == End::kKill ? 40 : 120);
}

// ---------------------------------------------------------------- logs that are set aside

raft::RocksLogStore::Options log_in(const fs::path& dir, const std::string& node) {
  raft::RocksLogStore::Options options;
  options.dir = dir;
  options.log = null_log();
  options.identity = {"cluster", node, {1}};
  options.free_bytes_min = options.reserve_bytes = 0;
  return options;
}

Status write_entry(raft::LogStore& store) {
  raft::Write write;
  write.hard_state = raft::HardState{1, {}};
  write.entries.push_back({store.last_index() + 1, 1, raft::EntryKind::kData,
                           std::make_shared<const std::string>("entry")});
  return store.write({&write});
}

// The entries of the log of `node` there; nothing when there is none or another's.
std::optional<raft::Index> entries_of(const fs::path& dir, const std::string& node) {
  if (!fs::exists(dir / "log.key")) return std::nullopt;
  const auto store = raft::RocksLogStore::open(log_in(dir, node));
  if (!store || !(*store)->restore()) return std::nullopt;
  return (*store)->last_index();
}

TEST_P(Names, ALogThatIsSetAsideIsThereWholeAndSoIsTheNewOne) {
  const fs::path dir = root / "raft";
  const fs::path aside = root / "raft.damaged-1";
  std::unique_ptr<raft::RocksLogStore> fresh;
  const auto before = [&]() -> Status {
    MUSTER_ASSIGN(const auto old, raft::RocksLogStore::open(log_in(dir, "old")));
    for (int i = 0; i < 3; ++i) MUSTER_TRY(write_entry(*old));
    return ok_status();
  };
  const std::vector<std::function<Status()>> steps = {
      [&]() -> Status {
        MUSTER_ASSIGN(const fs::path moved, raft::set_log_aside(dir));
        return moved == aside ? ok_status() : internal_error("moved to {}", moved.string());
      },
      [&]() -> Status {
        MUSTER_ASSIGN(fresh, raft::RocksLogStore::open(log_in(dir, "new")));
        return write_entry(*fresh);
      }};
  end_everywhere(
      before, steps,
      [&](size_t acknowledged) -> std::string {
        const auto kept = entries_of(fs::exists(aside) ? aside : dir, "old");
        if (kept != raft::Index{3}) return "the old log is not whole";
        if (acknowledged >= 1 && !fs::exists(aside)) return "it is back in its place";
        if (acknowledged >= 2 && entries_of(dir, "new") != raft::Index{1}) return "no new log";
        return "";
      },
      24);
}

}  // namespace
}  // namespace muster
