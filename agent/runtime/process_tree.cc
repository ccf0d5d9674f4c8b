#include "agent/runtime/process_tree.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/process.h"

namespace muster::agent {
namespace {

constexpr uint64_t kExiting = 0x4;  // PF_EXITING of the kernel's sched.h
// One that forks faster than it is stopped is stopped in the end: what it has started is, too.
constexpr int kRoundsMax = 100;

template <class Number>
bool take(std::string_view text, Number& out) {
  return std::from_chars(text.data(), text.data() + text.size(), out).ec == std::errc();
}

}  // namespace

std::optional<ProcessStat> parse_process_stat(std::string_view text) {
  // "pid (name) state ppid pgrp session ...": the name may hold anything, so the last ")" counts.
  const size_t open = text.find(" (");
  const size_t close = text.rfind(") ");
  if (open == std::string_view::npos || close == std::string_view::npos) return std::nullopt;
  std::vector<std::string_view> words;  // from the third field of proc(5) on
  std::string_view rest = text.substr(close + 2);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(' '), rest.size());
    words.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  ProcessStat out;
  uint64_t flags = 0;
  if (words.size() < 20 || !take(text.substr(0, open), out.pid) || !take(words[1], out.parent) ||
      !take(words[3], out.session) || !take(words[6], flags) || !take(words[19], out.start_ticks)) {
    return std::nullopt;
  }
  out.ending = (flags & kExiting) != 0 || words[0] == "Z" || words[0] == "X";
  return out;
}

std::optional<ProcessStat> read_process_stat(int64_t pid) {
  const auto text = read_file(fmt::format("/proc/{}/stat", pid), 4096);
  return text ? parse_process_stat(*text) : std::nullopt;
}

std::vector<ProcessStat> tree_of(const std::vector<ProcessStat>& all, int64_t root) {
  std::set<int64_t> members{root};
  // Numbers wrap around: a child may stand before its parent.
  for (bool grown = true; grown;) {
    grown = false;
    for (const ProcessStat& process : all) {
      const bool in = members.contains(process.parent) || process.session == root;
      if (in && members.insert(process.pid).second) grown = true;
    }
  }
  std::vector<ProcessStat> out;
  for (const ProcessStat& process : all) {
    if (members.contains(process.pid)) out.push_back(process);
  }
  return out;
}

void kill_process_tree(const Cgroups& cgroups, const std::string& cgroup, int64_t root) {
  const auto send = [](const UniqueFd& process, int signal) {
    ::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0);
  };
  std::map<std::pair<int64_t, uint64_t>, UniqueFd> stopped;
  for (int round = 0; round < kRoundsMax; ++round) {
    std::vector<ProcessStat> all;
    for (const int64_t pid : cgroups.processes(cgroup)) {
      if (auto stat = read_process_stat(pid); stat && !stat->ending) all.push_back(*stat);
    }
    bool grown = false;
    for (const ProcessStat& process : tree_of(all, root)) {
      const std::pair key(process.pid, process.start_ticks);
      if (stopped.contains(key)) continue;
      UniqueFd pinned = open_pidfd(process.pid);
      const auto now = read_process_stat(process.pid);
      if (!pinned || !now || now->start_ticks != process.start_ticks) continue;
      send(pinned, SIGSTOP);
      stopped.emplace(key, std::move(pinned));
      grown = true;
    }
    if (!grown) break;
  }
  for (const auto& [key, process] : stopped) send(process, SIGKILL);
}

}  // namespace muster::agent
