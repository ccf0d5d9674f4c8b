#include <signal.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <filesystem>

#include "base/security/unlock_key.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/swarm_text.h"
#include "raft/storage/log_inspection.h"

namespace muster::deploy::cli {
namespace {

namespace fs = std::filesystem;
using raft::Entry;
using raft::EntryKind;
using raft::Index;
using raft::LogInspection;

std::string_view word_of(EntryKind kind) {
  switch (kind) {
    case EntryKind::kEmpty: return "empty";
    case EntryKind::kData: return "data";
    case EntryKind::kMembers: return "members";
  }
  return "unknown";
}

std::string_view role_of(const raft::Member& member) {
  if (member.outgoing) return member.voter ? "voter" : "voter, leaving";
  return member.voter ? "voter" : "learner";
}

std::string members_text(const raft::Members& members) {
  std::string out;
  for (const raft::Member& member : members.list) {
    out += fmt::format("{}{:x} ({}) at {} ({})", out.empty() ? "" : ", ", member.id.value,
                       member.node_id, member.address, role_of(member));
  }
  return out.empty() ? "nobody" : out;
}

boost::json::array members_json(const raft::Members& members) {
  boost::json::array out;
  for (const raft::Member& member : members.list) {
    boost::json::object one;
    one["ID"] = fmt::format("{:x}", member.id.value);
    one["Node"] = member.node_id;
    one["Address"] = member.address;
    one["Role"] = role_of(member);
    out.push_back(std::move(one));
  }
  return out;
}

// What the log holds of the group: of its newest membership entry, which counts from the moment it
// is appended, or of the snapshot.
struct Group {
  raft::Members members;
  Index index = 0;
};

Group newest_group(const LogInspection& log) {
  Group group{log.snapshot().members, log.snapshot().index};
  // What cannot be read is told where the entries are listed.
  (void)log.entries(log.snapshot().index + 1, UINT64_MAX, [&](const Entry& entry, size_t) {
    if (entry.kind != EntryKind::kMembers) return;
    if (auto members = raft::decode_members(entry.bytes())) {
      group = {*std::move(members), entry.index};
    }
  });
  return group;
}

struct Range {
  Index from = 0;
  Index to = UINT64_MAX;
};

std::string summary(const LogInspection& log, const fs::path& dir,
                    const std::vector<fs::path>& set_aside) {
  const auto& known = log.known();
  const auto& hard = log.hard_state();
  const auto& mark = log.snapshot();
  const Group group = newest_group(log);
  const auto row = [](std::string_view name, bool readable, const std::string& text) {
    return fmt::format("{:<10} {}\n", name, readable ? text : "unreadable");
  };
  std::string out = row("Log:", true, dir.string());
  out += row("Cluster:", true, log.identity().cluster_id);
  out += row("Node:", true, log.identity().node_id);
  out += row("Member:", true, fmt::format("{:x}", log.identity().member.value));
  out += row("Term:", known.hard_state,
             fmt::format("{}, voted for {}", hard.term,
                         hard.vote ? fmt::format("{:x}", hard.vote.value) : "nobody"));
  out += row("Snapshot:", known.snapshot,
             mark.index == 0 ? std::string("none")
                             : fmt::format("of entry {}, term {}", mark.index, mark.term));
  out += row("Entries:", known.end,
             log.last_index() < log.first_index()
                 ? fmt::format("none after {}", log.last_index())
                 : fmt::format("{} to {}, the last of term {}", log.first_index(), log.last_index(),
                               log.last_term()));
  out += row("Writes:", known.end, fmt::format("{}", log.steps()));
  out += row("Data keys:", true,
             fmt::format("{}, {}", log.data_keys(),
                         log.wrapped() ? "wrapped with the unlock key" : "not wrapped"));
  out +=
      row("Group:", known.snapshot || group.index != 0,
          fmt::format("{} (as of {})", members_text(group.members),
                      group.index == 0 ? "the beginning" : fmt::format("entry {}", group.index)));
  for (const auto& file : log.files()) {
    // A damaged log may have named it in a write that is not shown.
    const bool spare = !file.current && known.snapshot && log.damage().ok();
    out += row("File:", true,
               fmt::format("{}, {} bytes{}", file.name, file.bytes,
                           spare ? ", left over: goes at the next start" : ""));
  }
  if (!log.damage().ok()) out += row("Damage:", true, log.damage().message());
  for (const fs::path& aside : set_aside) {
    out += row("Set aside:", true,
               fmt::format("{0} (was damaged; --data-dir {0} shows it)", aside.string()));
  }
  return out;
}

// What is wrong with it, entries and snapshot read to their ends.
Status verdict(const LogInspection& log, const Status& entries) {
  MUSTER_TRY(log.damage());
  MUSTER_TRY(entries);
  if (log.snapshot().index == 0) return ok_status();
  const auto size = log.read_snapshot();
  return size ? ok_status() : size.error();
}

Status print_text(Run& run, const LogInspection& log, Range range) {
  run.line(
      fmt::format("\n{:<12} {:<8} {:<8} {:>9}  {}", "INDEX", "TERM", "KIND", "SIZE", "MEMBERS"));
  const auto show = [&](const Entry& entry, size_t) {
    std::string detail;
    if (entry.kind == EntryKind::kMembers) {
      const auto members = raft::decode_members(entry.bytes());
      detail = members ? members_text(*members) : members.error().message();
    }
    std::string line = fmt::format("{:<12} {:<8} {:<8} {:>9}  {}", entry.index, entry.term,
                                   word_of(entry.kind), entry.bytes().size(), detail);
    line.erase(line.find_last_not_of(' ') + 1);
    run.line(line);
  };
  const auto trouble = [&](const Status& what) { run.line(fmt::format("-- {}", what.message())); };
  return verdict(log, log.entries(range.from, range.to, show, trouble));
}

Status print_json(Run& run, const LogInspection& log, const fs::path& dir, Range range) {
  const Group group = newest_group(log);
  const auto& known = log.known();
  boost::json::object out;
  out["Log"] = dir.string();
  out["Cluster"] = log.identity().cluster_id;
  out["Node"] = log.identity().node_id;
  out["Member"] = fmt::format("{:x}", log.identity().member.value);
  // What cannot be read is left out.
  if (known.hard_state) {
    out["Term"] = log.hard_state().term;
    const raft::MemberId vote = log.hard_state().vote;
    out["Vote"] = vote ? fmt::format("{:x}", vote.value) : "";
  }
  if (log.snapshot().index != 0) {
    boost::json::object snapshot;
    snapshot["Index"] = log.snapshot().index;
    snapshot["Term"] = log.snapshot().term;
    snapshot["Members"] = members_json(log.snapshot().members);
    out["Snapshot"] = std::move(snapshot);
  }
  if (known.snapshot) out["First"] = log.first_index();
  if (known.end) {
    out["Last"] = log.last_index();
    out["LastTerm"] = log.last_term();
    out["Writes"] = log.steps();
  }
  out["DataKeys"] = log.data_keys();
  out["Wrapped"] = log.wrapped();
  out["Group"] = members_json(group.members);
  boost::json::array files;
  for (const auto& file : log.files()) {
    boost::json::object one;
    one["Name"] = file.name;
    one["Bytes"] = file.bytes;
    one["Current"] = file.current;
    files.push_back(std::move(one));
  }
  out["Files"] = std::move(files);
  boost::json::array entries;
  const Status listed = log.entries(range.from, range.to, [&](const Entry& entry, size_t) {
    boost::json::object one;
    one["Index"] = entry.index;
    one["Term"] = entry.term;
    one["Kind"] = word_of(entry.kind);
    one["Size"] = entry.bytes().size();
    if (entry.kind == EntryKind::kMembers) {
      if (const auto members = raft::decode_members(entry.bytes())) {
        one["Members"] = members_json(*members);
      }
    }
    entries.push_back(std::move(one));
  });
  out["Entries"] = std::move(entries);
  const Status found = verdict(log, listed);
  out["Damage"] = found.message();
  run.line(boost::json::serialize(out));
  return found;
}

Flags::Setter index_setter(std::string name, Index* target) {
  return [name = std::move(name), target](const std::string& text) -> Status {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *target);
    if (error == std::errc() && end == text.data() + text.size()) return ok_status();
    return usage_error(fmt::format("invalid argument \"{}\" for --{}: not an index", text, name));
  };
}

// Where the log is: `data_dir` is musterd's, or a log's own, as one that was set aside.
fs::path log_dir(const fs::path& data_dir) {
  return (LogInspection::is_log(data_dir) ? data_dir : data_dir / "raft").lexically_normal();
}

// Logs that musterd has moved out of its way since they were damaged.
std::vector<fs::path> logs_set_aside(const fs::path& dir) {
  std::vector<fs::path> out;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(dir.parent_path(), error)) {
    if (item.path().filename().string().starts_with(dir.filename().string() + ".damaged-"))
      out.push_back(item.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// The key that opens a locked log, from the user.
Result<std::string> unlock_key_of(Run& run) {
  Signals signals({SIGINT, SIGTERM});
  MUSTER_ASSIGN(const std::string text, read_hidden_line(run, signals, "Enter unlock key: "));
  if (text.empty()) {
    return fail(invalid_argument(
        "the log is locked and no unlock key was given: it is read from standard input"));
  }
  MUSTER_ASSIGN(const auto key, security::UnlockKey::parse(text));
  return std::string(key.bytes());
}

}  // namespace

// Works on the files: the daemon is not asked, and must not be running.
Result<int> debug_raft_log(Run& run) {
  std::string data_dir = "/var/lib/muster";
  Range range;
  bool json = false;
  run.flags.value("data-dir", &data_dir, "DIR",
                  "musterd's data directory, or a log that was set aside");
  run.flags.custom("from", "INDEX", "first entry to list", index_setter("from", &range.from));
  run.flags.custom("to", "INDEX", "last entry to list", index_setter("to", &range.to));
  run.flags.toggle("json", &json, "print one JSON object");
  MUSTER_TRY(run.parse(0, 0));
  const fs::path dir = log_dir(fs::path(run.world.current_dir) / data_dir);
  const std::vector<fs::path> set_aside = logs_set_aside(dir);
  auto log = LogInspection::open(dir, std::nullopt);
  if (!log && log.error().reason() == "locked") {
    MUSTER_ASSIGN(std::string key, unlock_key_of(run));
    log = LogInspection::open(dir, std::move(key));
  }
  if (!log && log.error().code() == StatusCode::kNotFound && !set_aside.empty()) {
    return fail(not_found("{}; one that was damaged is set aside: --data-dir {}",
                          log.error().message(), set_aside.back().string()));
  }
  if (!log) return fail(log.error());
  if (json) {
    MUSTER_TRY(print_json(run, **log, dir, range));
  } else {
    run.out(summary(**log, dir, set_aside));
    MUSTER_TRY(print_text(run, **log, range));
  }
  return 0;
}

}  // namespace muster::deploy::cli
