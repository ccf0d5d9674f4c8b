#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "deploy/cli/client.h"
#include "deploy/cli/endpoint.h"
#include "deploy/cli/flags.h"

namespace muster::deploy::cli {

// Everything a command sees of the world, so that tests can be the world.
struct World {
  std::function<void(std::string_view)> out;
  std::function<void(std::string_view)> err;
  // What went wrong with a write to `out`, once; absent for worlds whose `out` cannot fail.
  std::function<Status()> out_status;
  int in_fd = 0;
  int out_fd = 1;  // asked for its size when out_is_terminal
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  std::map<std::string, std::string> environment;
  std::string current_dir;          // absolute
  std::function<int64_t()> now_ns;  // Unix time
  std::function<std::unique_ptr<Client>(const Endpoint& endpoint)> connect;

  static World of_process();
};

// What an argument of a command names, for completion.
enum class Completes {
  kNothing,
  kFiles,
  kService,
  kStack,
  kNode,
  kNetwork,
  kSecret,
  kConfig,
  kVolume,
  kImage,
  kTask,
  kContainer
};

class Run;

struct Command {
  std::string_view path;       // "service create"
  std::string_view arguments;  // "IMAGE [COMMAND] [ARG...]"
  std::string_view summary;
  std::string_view examples;  // lines without "muster"; may be empty
  Completes completes = Completes::kNothing;
  Result<int> (*run)(Run&) = nullptr;  // the exit code
  bool hidden = false;
  std::string_view notes = {};  // what help says after the summary
};

// One invocation of one command.
class Run {
 public:
  Run(World& world, const Command& command, std::vector<std::string> words, Endpoint endpoint)
      : world(world), command_(command), words_(std::move(words)), endpoint_(std::move(endpoint)) {}

  World& world;
  Flags flags;
  std::vector<std::string> args;  // after parse()

  // Takes the options and checks the number of arguments; max < 0 = any number. A request for help
  // is served here: the status then has the reason "done" and the command just returns it.
  Status parse(int args_min, int args_max);

  Client& client();
  const Endpoint& endpoint() const { return endpoint_; }
  const Command& command() const { return command_; }
  std::string usage() const;

  void out(std::string_view text) { world.out(text); }
  void line(std::string_view text) {
    world.out(text);
    world.out("\n");
  }
  void warn(std::string_view text);
  std::string env(const std::string& name) const;

 private:
  std::string help() const;

  const Command& command_;
  std::vector<std::string> words_;
  Endpoint endpoint_;
  std::unique_ptr<Client> client_;
};

// While it lives, the given signals arrive here and nowhere else. Make it before the first call of
// client(), whose threads inherit the mask.
class Signals {
 public:
  explicit Signals(std::vector<int> signals);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_.get(); }
  // The next signal, or 0.
  int pop();

 private:
  std::vector<int> signals_;
  UniqueFd fd_;
};

// Waits until one of `fds` is readable (negative ones are left out) or the time is over.
void wait_readable(std::vector<int> fds, std::optional<int64_t> timeout_ms);

// For each name: `action`; failures are told one line each, and the answer is 1 then.
int for_each_name(Run& run, const std::vector<std::string>& names,
                  const std::function<Status(const std::string&)>& action);

// The whole program after main(): finds the command and runs it.
int run_program(World& world, const std::vector<std::string>& words);

// All commands in the order of the help.
const std::vector<Command>& commands();

}  // namespace muster::deploy::cli
