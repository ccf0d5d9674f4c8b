#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <sstream>

#include "base/file.h"
#include "tests/history/checker.h"
#include "tests/history/history.h"
#include "tests/history/recorder.h"
#include "tests/history/sessions.h"

namespace muster::history {
namespace {

constexpr Duration kFinishPatience = 60s;
constexpr int kPollMs = 10;
constexpr size_t kFileBytesMax = size_t{1} << 30;

bool writes(const Operation& op) {
  return op.kind != Kind::kRead && op.kind != Kind::kPlain;
}

struct Words {
  std::string file;
  std::vector<std::string> sockets;
  std::string prefix = "register";
  uint64_t clients = 10;
  uint64_t seed = 1;
  uint64_t period_ms = 15;
  double seconds = 10;
};

// Until SIGTERM or SIGINT, which every thread that is started from here has blocked.
Status record(const Words& words) {
  // Clients that wait for nobody leave gRPC without a thread that would see a connection come
  // about, but for one that looks every 5 s.
  setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "20", 0);
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  UniqueFd file(open(words.file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644));
  if (!file) return errno_status(errno, words.file);
  Recorder::Options options;
  for (const std::string& socket : words.sockets) {
    // A lab's socket is LAB/NODE/run/muster.sock.
    const auto node = std::filesystem::path(socket).parent_path().parent_path().filename();
    options.managers.emplace_back(node.empty() ? socket : node.string(), "unix://" + socket);
  }
  options.prefix = words.prefix;
  options.clients = words.clients;
  options.seed = words.seed;
  options.period = Duration(std::chrono::milliseconds(words.period_ms));
  Recorder recorder(options, std::move(file));
  int signal = 0;
  sigwait(&ends, &signal);
  return recorder.finish(kFinishPatience);
}

Status check(const Words& words) {
  MUSTER_ASSIGN(const std::string text, read_file(words.file, kFileBytesMax));
  MUSTER_ASSIGN(const std::vector<Operation> history, parse_history(text));
  uint64_t written = 0;
  uint64_t unknown = 0;
  for (const Operation& op : history) {
    written += writes(op) && op.outcome == Outcome::kOk ? 1 : 0;
    unknown += writes(op) && op.outcome == Outcome::kUnknown ? 1 : 0;
  }
  const Verdict verdict = check_linearizable(history);
  if (verdict.answer == Verdict::Answer::kUndecided)
    return internal_error("undecided: {}", verdict.why);
  if (!verdict.ok()) return internal_error("not linearizable: {}", verdict.why);
  const SessionsVerdict sessions = check_sessions(history);
  if (!sessions.violation.empty()) return internal_error("{}", sessions.violation);
  fmt::print("linearizable: {} operations, {} writes acknowledged and {} unknown; {} plain reads\n",
             verdict.checked, written, unknown, sessions.checked);
  return ok_status();
}

// What is added to a file, without the ends of what began before.
class Additions {
 public:
  // From the end on, as it is now.
  static Result<Additions> of(const std::string& path) {
    Additions additions;
    additions.file_ = UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!additions.file_) return fail(errno_status(errno, path));
    lseek(additions.file_.get(), 0, SEEK_END);
    return additions;
  }

  // As a history, of whole lines.
  Result<std::string> text() {
    char buffer[65536];
    ssize_t n = 0;
    while ((n = ::read(file_.get(), buffer, sizeof buffer)) > 0) {
      text_.append(buffer, static_cast<size_t>(n));
    }
    if (n < 0) return fail(errno_status(errno, "read the history"));
    std::string out;
    std::set<std::string> begun;
    std::istringstream lines(text_.substr(0, text_.rfind('\n') + 1));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string what, id;
      words >> what >> id;
      if (what == "b") begun.insert(id);
      // The first line may have been cut.
      if (what == "b" || (what == "e" && begun.contains(id))) out += line + "\n";
    }
    return out;
  }

 private:
  UniqueFd file_;
  std::string text_;
};

// The first write that begins from now on and is acknowledged.
Status await_write(const Words& words) {
  const TimePoint now = Journal::now();
  const TimePoint until = now + Duration(static_cast<int64_t>(words.seconds * 1e9));
  MUSTER_ASSIGN(Additions additions, Additions::of(words.file));
  while (true) {
    MUSTER_ASSIGN(const std::string text, additions.text());
    MUSTER_ASSIGN(const std::vector<Operation> history, parse_history(text));
    std::optional<TimePoint> first;
    for (const Operation& op : history) {
      if (writes(op) && op.outcome == Outcome::kOk && op.begin >= now &&
          (!first || *op.end < *first))
        first = op.end;
    }
    if (first) {
      fmt::print("{}\n",
                 std::chrono::duration_cast<std::chrono::milliseconds>(*first - now).count());
      return ok_status();
    }
    if (Journal::now() > until)
      return Status(StatusCode::kDeadlineExceeded,
                    fmt::format("no write was acknowledged within {} s", words.seconds));
    poll(nullptr, 0, kPollMs);
  }
}

int run(int argc, char** argv) {
  Words words;
  CLI::App app(
      "muster-history: what clients of a cluster were told, and whether it is linearizable");
  app.require_subcommand(1);
  const auto command = [&](const char* name, const char* help) {
    CLI::App* made = app.add_subcommand(name, help);
    made->add_option("FILE", words.file, "the history")->required();
    return made;
  };
  CLI::App* recording = command("record", "read and write until SIGTERM, and write it down");
  recording->add_option("--socket", words.sockets, "of a manager; once for each")->required();
  recording->add_option("--prefix", words.prefix, "of the registers' names");
  recording->add_option("--clients", words.clients, "that do one thing after another");
  recording->add_option("--seed", words.seed, "of what they do");
  recording->add_option("--period-ms", words.period_ms, "between two operations of a client");
  CLI::App* checking = command("check", "whether it is linearizable, also while it is recorded");
  CLI::App* awaiting = command(
      "await", "until a write that begins from now on is acknowledged; prints the milliseconds");
  awaiting->add_option("--seconds", words.seconds, "at most");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const Status status = *recording ? record(words) : *checking ? check(words) : await_write(words);
  if (status.ok()) return 0;
  fmt::print(stderr, "muster-history: {}\n", status.message());
  return 1;
}

}  // namespace
}  // namespace muster::history

int main(int argc, char** argv) {
  return muster::history::run(argc, argv);
}
