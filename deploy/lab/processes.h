#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"

// The processes of labs, as the kernel knows them. No numbers are kept anywhere: a lab's processes
// are found by what they are, so nothing is lost with a command that was killed, and no number that
// was used again is taken for one of ours.
namespace muster::deploy::lab {

// The words of the program that is process 1 of a node (node_init.h); what follows them on its
// command line is the lab's folder and the node's name.
inline constexpr std::string_view kInitWords[] = {"lab", "init-node"};

struct ProcessView {
  int64_t pid = 0;
  std::vector<std::string> argv;
  char state = '?';  // as in proc(5): R, S, T for stopped, Z for dead
  int64_t parent = 0;
  bool inner_init = false;  // process 1 of a namespace below ours
  uint64_t pid_namespace = 0;
  uint64_t owner = 0;
};

// Of the texts of /proc/PID/cmdline, stat and status.
std::vector<std::string> parse_cmdline(std::string_view text);
char parse_process_state(std::string_view stat);
int64_t parse_parent(std::string_view stat);
bool parse_inner_init(std::string_view status);

// nullopt when there is none any more.
std::optional<ProcessView> view_process(int64_t pid);
std::vector<ProcessView> list_processes();

// A process that is surely the one found: held by a descriptor and looked at again afterwards.
struct Held {
  ProcessView view;
  UniqueFd pidfd;
};

struct InitProcess {
  Held process;
  std::string lab_dir;
  std::string node;
};

// Of the labs below `base`, or of one lab when `lab_dir` is given as its folder.
std::vector<InitProcess> find_inits(const std::string& base);
std::optional<InitProcess> find_init(const std::string& lab_dir, const std::string& node);
// The child of the node's process 1 that has `word` on its command line, whatever the program:
// servers are known by the configuration they are started with.
std::optional<Held> find_in_node(const InitProcess& init, std::string_view word);

Status signal_process(const Held& process, int signal);
// Until it has ended; DEADLINE_EXCEEDED.
Status await_end(const Held& process, Duration timeout);

}  // namespace muster::deploy::lab
