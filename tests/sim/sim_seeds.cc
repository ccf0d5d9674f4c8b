#include "tests/sim/sim_seeds.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "base/check.h"

namespace muster::sim {
namespace {

struct Child {
  pid_t pid = 0;
  int out = -1;
};

void write_all(int to, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(to, text.data(), text.size());
    if (wrote <= 0) return;
    text.remove_prefix(static_cast<size_t>(wrote));
  }
}

Child start(const std::function<void(int out)>& work) {
  int ends[2];
  MUSTER_CHECK(::pipe(ends) == 0, "no pipe");
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  MUSTER_CHECK(pid >= 0, "no process");
  if (pid == 0) {
    ::close(ends[0]);
    work(ends[1]);
    std::fflush(nullptr);
    ::_exit(0);
  }
  ::close(ends[1]);
  return {pid, ends[0]};
}

// Everything it says, until it ends; nothing: it did not end well.
std::pair<std::string, bool> finish(const Child& child) {
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(child.out, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<size_t>(got));
  }
  ::close(child.out);
  int status = 0;
  ::waitpid(child.pid, &status, 0);
  return {std::move(text), WIFEXITED(status) && WEXITSTATUS(status) == 0};
}

// Lines: "run SEED" before each, "probe COUNT NAME" at the end, "failed TEXT" with line ends as \v.
void work(const SeedPlan& plan, int which, const RunSeed& run, int out) {
  const auto begin = std::chrono::steady_clock::now();
  Probes probes;
  uint64_t ran = 0;
  for (uint64_t i = static_cast<uint64_t>(which); i < plan.seeds;
       i += static_cast<uint64_t>(plan.jobs)) {
    const bool late = plan.seconds > 0 && std::chrono::steady_clock::now() - begin >=
                                              std::chrono::seconds(plan.seconds);
    if (late && ran * static_cast<uint64_t>(plan.jobs) >= plan.at_least) break;
    const uint64_t seed = plan.start + i;
    write_all(out, fmt::format("run {}\n", seed));
    const Status status = run(seed, probes);
    ++ran;
    if (status.ok()) continue;
    std::string text(status.message());
    for (char& c : text) c = c == '\n' ? '\v' : c;
    write_all(out, fmt::format("failed seed {}: {}\n", seed, text));
    break;
  }
  for (const auto& [name, count] : probes.counts()) {
    write_all(out, fmt::format("probe {} {}\n", count, name));
  }
}

void read_lines(const std::string& text, bool ended_well, SeedTotals& totals) {
  std::istringstream lines(text);
  std::string line;
  std::string last;
  while (std::getline(lines, line)) {
    const std::string rest = line.substr(line.find(' ') + 1);
    if (line.starts_with("run ")) {
      ++totals.seeds;
      last = rest;
    } else if (line.starts_with("failed ")) {
      std::string failure = rest;
      for (char& c : failure) c = c == '\v' ? '\n' : c;
      totals.failures.push_back(std::move(failure));
    } else if (line.starts_with("probe ")) {
      const size_t space = rest.find(' ');
      totals.probes.hit(rest.substr(space + 1), std::strtoull(rest.c_str(), nullptr, 10));
    }
  }
  if (!ended_well) totals.failures.push_back("seed " + last + ": the process ended; see above");
}

}  // namespace

SeedTotals run_seeds(const SeedPlan& plan, const RunSeed& run) {
  std::vector<Child> children;
  for (int which = 0; which < plan.jobs; ++which) {
    children.push_back(start([&](int out) { work(plan, which, run, out); }));
  }
  SeedTotals totals;
  for (const Child& child : children) {
    const auto [text, well] = finish(child);
    read_lines(text, well, totals);
  }
  return totals;
}

std::optional<std::string> in_child(const std::function<std::string()>& work) {
  const auto [text, well] = finish(start([&](int out) {
    std::freopen("/dev/null", "w", stderr);
    write_all(out, work());
  }));
  if (!well) return text.empty() ? "the process ended" : text;
  if (text.empty()) return std::nullopt;
  return text;
}

}  // namespace muster::sim
