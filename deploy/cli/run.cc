#include "deploy/cli/run.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

extern char** environ;

namespace muster::deploy::cli {
namespace {

constexpr std::string_view kDone = "done";  // reason of a status that is not a failure

Status write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_status(errno, "cannot write to standard output");
    text.remove_prefix(static_cast<size_t>(n));
  }
  return ok_status();
}

// One line for one failure, whatever the server's text looks like.
std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t space = text.find(' ');
    if (space != 0) words.push_back(text.substr(0, space));
    if (space == std::string_view::npos) break;
    text.remove_prefix(space + 1);
  }
  return words;
}

std::string alias_of(const std::string& noun, const std::string& verb) {
  static constexpr struct {
    std::string_view noun, alias, verb;
  } kAliases[] = {
      {"stack", "up", "deploy"},
      {"stack", "down", "rm"},
      {"", "remove", "rm"},
      {"", "list", "ls"},
  };
  for (const auto& entry : kAliases)
    if ((entry.noun.empty() || entry.noun == noun) && entry.alias == verb)
      return std::string(entry.verb);
  return verb;
}

std::string nouns_help() {
  std::string text =
      "Usage:  muster [--socket PATH | --host tcp://HOST:PORT] COMMAND\n\n"
      "Runs container services on a cluster of Linux hosts.\n\nCommands:\n";
  for (const Command& command : commands()) {
    if (command.hidden) continue;
    text += fmt::format("  {:<18} {}\n", command.path, command.summary);
  }
  text +=
      "\nOptions:\n"
      "      --socket PATH   musterd's socket (default unix:///run/muster/muster.sock;\n"
      "                      environment: MUSTER_SOCKET)\n"
      "  -H, --host ADDRESS  the same, or a manager's port: tcp://HOST:PORT (MUSTER_HOST)\n"
      "      --tlscacert FILE, --tlscert FILE, --tlskey FILE\n"
      "                      whom to trust there and who you are: a manager's certificate\n"
      "                      (ca.pem, cert.pem and key.pem in MUSTER_CERT_PATH)\n"
      "      --version       show the version\n"
      "\nRun 'muster COMMAND --help' for the options and examples of a command.\n";
  return text;
}

std::string noun_help(std::string_view noun) {
  std::string text = fmt::format("Usage:  muster {} COMMAND\n\nCommands:\n", noun);
  for (const Command& command : commands()) {
    const auto words = split_words(command.path);
    if (!command.hidden && words.size() == 2 && words[0] == noun)
      text += fmt::format("  {:<12} {}\n", words[1], command.summary);
  }
  return text + fmt::format("\nRun 'muster {} COMMAND --help' for more.\n", noun);
}

const Command* find_command(const std::vector<std::string>& words, size_t* used) {
  for (const Command& command : commands()) {
    const auto path = split_words(command.path);
    if (path[0] != words[0]) continue;
    if (path.size() == 1) {
      *used = 1;
      return &command;
    }
    if (words.size() > 1 && path[1] == alias_of(words[0], words[1])) {
      *used = 2;
      return &command;
    }
  }
  return nullptr;
}

int unknown_command(World& world, const std::vector<std::string>& words) {
  bool is_noun = false;
  for (const Command& command : commands())
    is_noun = is_noun || command.path.starts_with(words[0] + " ");
  if (is_noun && (words.size() == 1 || words[1] == "--help" || words[1] == "-h")) {
    world.out(noun_help(words[0]));
    return 0;
  }
  const std::string what = is_noun ? words[0] + " " + words[1] : words[0];
  world.err(fmt::format("muster: '{}' is not a muster command. See 'muster{} --help'.\n", what,
                        is_noun ? " " + words[0] : ""));
  return 2;
}

int finish(World& world, const Run& run, const Result<int>& result) {
  if (result) return *result;
  const Status& status = result.error();
  if (status.reason() == kDone) return 0;
  if (status.reason() == "usage") {
    world.err(fmt::format("muster: {}. See 'muster {} --help'.\n", one_line(status.message()),
                          run.command().path));
    return 2;
  }
  world.err(fmt::format("muster: {}\n", one_line(status.message())));
  return 1;
}

}  // namespace

World World::of_process() {
  World world;
  const auto out_status = std::make_shared<Status>();
  world.out = [out_status](std::string_view text) {
    if (out_status->ok()) *out_status = write_all(1, text);
  };
  world.out_status = [out_status] { return *out_status; };
  world.err = [](std::string_view text) { (void)write_all(2, text); };
  world.in_is_terminal = isatty(0) != 0;
  world.out_is_terminal = isatty(1) != 0;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (const char* equals = std::strchr(*entry, '='); equals != nullptr)
      world.environment.emplace(std::string(*entry, static_cast<size_t>(equals - *entry)),
                                equals + 1);
  }
  if (char* dir = getcwd(nullptr, 0); dir != nullptr) {
    world.current_dir = dir;
    free(dir);
  } else {
    world.current_dir = "/";
  }
  world.now_ns = [] {
    return static_cast<int64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                    std::chrono::system_clock::now().time_since_epoch())
                                    .count());
  };
  world.connect = [](const Endpoint& endpoint) { return muster::deploy::cli::connect(endpoint); };
  return world;
}

std::string Run::usage() const {
  std::string text = fmt::format("Usage:  muster {}", command_.path);
  if (!flags.all().empty()) text += " [OPTIONS]";
  if (!command_.arguments.empty()) text += fmt::format(" {}", command_.arguments);
  return text;
}

std::string Run::help() const {
  std::string text = fmt::format("{}\n\n{}\n", usage(), command_.summary);
  if (!command_.notes.empty()) text += fmt::format("\n{}\n", command_.notes);
  if (!flags.all().empty()) text += "\nOptions:\n" + flags.help();
  if (!command_.examples.empty()) {
    text += "\nExamples:\n";
    std::string_view rest = command_.examples;
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      text += fmt::format("  muster {}\n", rest.substr(0, end));
      if (end == std::string_view::npos) break;
      rest.remove_prefix(end + 1);
    }
  }
  return text;
}

Status Run::parse(int args_min, int args_max) {
  // The hidden completer asks each command for its options this way.
  if (words_.size() == 1 && words_[0] == "--__flags") {
    for (const Flags::Flag& flag : flags.all()) {
      line(fmt::format("--{}\t{}", flag.name, flag.value_name));
      if (flag.letter != 0) line(fmt::format("-{}\t{}", flag.letter, flag.value_name));
    }
    return Status(StatusCode::kCancelled, "flags shown", std::string(kDone));
  }
  const bool own_h = flags.find('h') != nullptr;
  bool wants_help = false;
  flags.toggle(own_h ? "help" : "help,h", &wants_help, "show this help");
  Result<std::vector<std::string>> parsed = flags.parse(words_);
  if (wants_help) {
    world.out(help());
    return Status(StatusCode::kCancelled, "help shown", std::string(kDone));
  }
  if (!parsed) return parsed.error();
  args = *std::move(parsed);
  const int count = static_cast<int>(args.size());
  const std::string name(command_.path);
  const auto plural = [](int n) { return n == 1 ? "" : "s"; };
  if (args_min == args_max && count != args_min) {
    if (args_min == 0) return usage_error(fmt::format("'muster {}' accepts no arguments", name));
    return usage_error(fmt::format("'muster {}' requires exactly {} argument{}: {}", name, args_min,
                                   plural(args_min), command_.arguments));
  }
  if (count < args_min)
    return usage_error(fmt::format("'muster {}' requires at least {} argument{}: {}", name,
                                   args_min, plural(args_min), command_.arguments));
  if (args_max >= 0 && count > args_max)
    return usage_error(fmt::format("'muster {}' requires at most {} argument{}: {}", name, args_max,
                                   plural(args_max), command_.arguments));
  return ok_status();
}

Client& Run::client() {
  if (client_ == nullptr) client_ = world.connect(endpoint_);
  return *client_;
}

void Run::warn(std::string_view text) {
  world.err(text);
  if (text.empty() || text.back() != '\n') world.err("\n");
}

std::string Run::env(const std::string& name) const {
  const auto it = world.environment.find(name);
  return it == world.environment.end() ? std::string() : it->second;
}

Signals::Signals(std::vector<int> signals) : signals_(std::move(signals)) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals_) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  fd_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

Signals::~Signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals_) sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

int Signals::pop() {
  signalfd_siginfo info{};
  if (::read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
  return static_cast<int>(info.ssi_signo);
}

void wait_readable(std::vector<int> fds, std::optional<int64_t> timeout_ms) {
  std::vector<pollfd> polls;
  for (const int fd : fds)
    if (fd >= 0) polls.push_back({fd, POLLIN, 0});
  int timeout = -1;
  if (timeout_ms) timeout = static_cast<int>(std::clamp<int64_t>(*timeout_ms, 0, 1 << 30));
  (void)::poll(polls.data(), polls.size(), timeout);
}

int for_each_name(Run& run, const std::vector<std::string>& names,
                  const std::function<Status(const std::string&)>& action) {
  int code = 0;
  for (const std::string& name : names) {
    const Status status = action(name);
    if (status.ok()) continue;
    run.warn(fmt::format("muster: {}", one_line(status.message())));
    code = 1;
  }
  return code;
}

int run_program(World& world, const std::vector<std::string>& all_words) {
  std::vector<std::string> words = all_words;
  EndpointOptions where = endpoint_of_environment(world.environment);
  while (!words.empty() && words[0].starts_with("-")) {
    const std::string word = words[0];
    if (word == "--help" || word == "-h") {
      world.out(nouns_help());
      return 0;
    }
    if (word == "--version" || word == "-v") {
      world.out(fmt::format("muster {}\n", MUSTER_VERSION));
      return 0;
    }
    const auto taken = take_endpoint_option(&words, &where);
    if (!taken) {
      world.err(fmt::format("muster: {}. See 'muster --help'.\n", taken.error().message()));
      return 2;
    }
    if (!*taken) {
      world.err(fmt::format("muster: unknown flag: {}. See 'muster --help'.\n", word));
      return 2;
    }
  }
  if (words.empty() || words == std::vector<std::string>{"help"}) {
    world.out(nouns_help());
    return words.empty() ? 2 : 0;
  }
  if (words[0] == "help") {  // "help service create" is "service create --help"
    words.erase(words.begin());
    words.emplace_back("--help");
  }
  size_t used = 0;
  const Command* command = find_command(words, &used);
  if (command == nullptr) return unknown_command(world, words);
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(used));
  const auto endpoint = resolve_endpoint(where, world.current_dir);
  if (!endpoint) {
    world.err(fmt::format("muster: {}\n", endpoint.error().message()));
    return 2;
  }
  Run run(world, *command, std::move(words), *endpoint);
  const int code = finish(world, run, command->run(run));
  if (code != 0 || !world.out_status || world.out_status().ok()) return code;
  // A list that did not arrive whole is not a success, whatever the manager answered.
  world.err(fmt::format("muster: {}\n", world.out_status().message()));
  return 1;
}

}  // namespace muster::deploy::cli
