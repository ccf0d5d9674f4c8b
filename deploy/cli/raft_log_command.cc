#include <signal.h>

#include <boost/json.hpp>
#include <charconv>
#include <filesystem>

#include "base/security/unlock_key.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/swarm_text.h"
#include "raft/storage/log_inspection.h"

namespace muster::deploy::cli {
namespace {

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

Result<Group> newest_group(const LogInspection& log) {
  Group group{log.snapshot().members, log.snapshot().index};
  MUSTER_TRY(log.entries(log.snapshot().index + 1, UINT64_MAX, [&](const Entry& entry, size_t) {
    if (entry.kind != EntryKind::kMembers) return;
    if (auto members = raft::decode_members(entry.bytes())) {
      group = {*std::move(members), entry.index};
    }
  }));
  return group;
}

struct Range {
  Index from = 0;
  Index to = UINT64_MAX;
};

std::string summary(const LogInspection& log, const std::filesystem::path& dir,
                    const Group& group) {
  const auto& hard = log.hard_state();
  const auto& mark = log.snapshot();
  std::string out = fmt::format("Log:       {}\n", dir.string());
  out += fmt::format("Cluster:   {}\nNode:      {}\nMember:    {:x}\n", log.identity().cluster_id,
                     log.identity().node_id, log.identity().member.value);
  out += fmt::format("Term:      {}, voted for {}\n", hard.term,
                     hard.vote ? fmt::format("{:x}", hard.vote.value) : "nobody");
  out += mark.index == 0 ? std::string("Snapshot:  none\n")
                         : fmt::format("Snapshot:  of entry {}, term {}\n", mark.index, mark.term);
  out += log.last_index() < log.first_index()
             ? fmt::format("Entries:   none after {}\n", log.last_index())
             : fmt::format("Entries:   {} to {}, the last of term {}\n", log.first_index(),
                           log.last_index(), log.last_term());
  out += fmt::format("Writes:    {}\n", log.steps());
  out += fmt::format("Data keys: {}, {}\n", log.data_keys(),
                     log.wrapped() ? "wrapped with the unlock key" : "not wrapped");
  out += fmt::format("Group:     {} (as of {})\n", members_text(group.members),
                     group.index == 0 ? "the beginning" : fmt::format("entry {}", group.index));
  for (const auto& file : log.files()) {
    out += fmt::format("File:      {}, {} bytes{}\n", file.name, file.bytes,
                       file.current ? "" : ", left over: goes at the next start");
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

Status print_text(Run& run, const LogInspection& log, const std::filesystem::path& dir,
                  Range range) {
  auto group = newest_group(log);
  Status read = group ? ok_status() : group.error();
  run.out(summary(log, dir, group ? *group : Group{log.snapshot().members, log.snapshot().index}));
  run.line(
      fmt::format("\n{:<12} {:<8} {:<8} {:>9}  {}", "INDEX", "TERM", "KIND", "SIZE", "MEMBERS"));
  const Status listed = log.entries(range.from, range.to, [&](const Entry& entry, size_t) {
    std::string detail;
    if (entry.kind == EntryKind::kMembers) {
      const auto members = raft::decode_members(entry.bytes());
      detail = members ? members_text(*members) : members.error().message();
    }
    std::string line = fmt::format("{:<12} {:<8} {:<8} {:>9}  {}", entry.index, entry.term,
                                   word_of(entry.kind), entry.bytes().size(), detail);
    line.erase(line.find_last_not_of(' ') + 1);
    run.line(line);
  });
  return verdict(log, read.ok() ? listed : read);
}

Status print_json(Run& run, const LogInspection& log, const std::filesystem::path& dir,
                  Range range) {
  const auto group = newest_group(log);
  boost::json::object out;
  out["Log"] = dir.string();
  out["Cluster"] = log.identity().cluster_id;
  out["Node"] = log.identity().node_id;
  out["Member"] = fmt::format("{:x}", log.identity().member.value);
  out["Term"] = log.hard_state().term;
  const raft::MemberId vote = log.hard_state().vote;
  out["Vote"] = vote ? fmt::format("{:x}", vote.value) : "";
  if (log.snapshot().index != 0) {
    boost::json::object snapshot;
    snapshot["Index"] = log.snapshot().index;
    snapshot["Term"] = log.snapshot().term;
    snapshot["Members"] = members_json(log.snapshot().members);
    out["Snapshot"] = std::move(snapshot);
  }
  out["First"] = log.first_index();
  out["Last"] = log.last_index();
  out["LastTerm"] = log.last_term();
  out["Writes"] = log.steps();
  out["DataKeys"] = log.data_keys();
  out["Wrapped"] = log.wrapped();
  out["Group"] = members_json(group ? group->members : log.snapshot().members);
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
  const Status found = verdict(log, group ? listed : group.error());
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

}  // namespace

// Works on the files: the daemon is not asked, and must not be running.
Result<int> debug_raft_log(Run& run) {
  std::string data_dir = "/var/lib/muster";
  Range range;
  bool json = false;
  run.flags.value("data-dir", &data_dir, "DIR", "musterd's data directory");
  run.flags.custom("from", "INDEX", "first entry to list", index_setter("from", &range.from));
  run.flags.custom("to", "INDEX", "last entry to list", index_setter("to", &range.to));
  run.flags.toggle("json", &json, "print one JSON object");
  MUSTER_TRY(run.parse(0, 0));
  const std::filesystem::path dir =
      (std::filesystem::path(run.world.current_dir) / data_dir / "raft").lexically_normal();
  auto log = LogInspection::open(dir, std::nullopt);
  if (!log && log.error().reason() == "locked") {
    Signals signals({SIGINT, SIGTERM});
    MUSTER_ASSIGN(const std::string text, read_hidden_line(run, signals, "Enter unlock key: "));
    MUSTER_ASSIGN(const auto key, security::UnlockKey::parse(text));
    log = LogInspection::open(dir, std::string(key.bytes()));
  }
  if (!log) return fail(log.error());
  MUSTER_TRY(json ? print_json(run, **log, dir, range) : print_text(run, **log, dir, range));
  return 0;
}

}  // namespace muster::deploy::cli
