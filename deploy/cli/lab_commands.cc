#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>

#include "base/file.h"
#include "deploy/cli/lab_commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/paths.h"
#include "deploy/cli/quantities.h"
#include "deploy/lab/lab.h"
#include "deploy/lab/log_tail.h"
#include "deploy/lab/node_init.h"

namespace muster::deploy::cli {
namespace {

using lab::Lab;
using lab::LabContext;

constexpr int64_t kFollowPollMs = 100;

Result<std::string> own_program() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return fail(errno_status(errno, "/proc/self/exe"));
  return std::string(path, static_cast<size_t>(length));
}

// Which lab a command is about.
struct LabFlags {
  std::string name;
  std::string dir;

  void declare(Run& run) {
    run.flags.value("name", &name, "LAB",
                    "which lab (environment: MUSTER_LAB; default: the only one)");
    run.flags.value("dir", &dir, "DIR",
                    "folder of the labs (environment: MUSTER_LAB_DIR; default: "
                    "/var/lib/muster-lab)");
  }

  Result<LabContext> context(Run& run) const {
    LabContext context;
    MUSTER_ASSIGN(context.muster, own_program());
    std::string base = dir.empty() ? run.env("MUSTER_LAB_DIR") : dir;
    if (base.empty()) base = lab::kDefaultBase;
    // Processes are found by this path, so it has one form.
    context.base =
        std::filesystem::weakly_canonical(absolute_path(base, run.world.current_dir)).string();
    return context;
  }

  // The name that was given, or that of the only lab there is.
  Result<std::string> which(Run& run, const LabContext& context) const {
    if (!name.empty()) return name;
    if (const std::string given = run.env("MUSTER_LAB"); !given.empty()) return given;
    const std::vector<std::string> labs = lab::list_labs(context.base);
    if (labs.empty())
      return fail(not_found("there is no lab in {} (\"muster lab up\" makes one)", context.base));
    if (labs.size() > 1)
      return fail(invalid_argument("there are several labs ({}): say which one with --name",
                                   join(labs, ", ")));
    return labs[0];
  }

  Result<Lab> open(Run& run, bool to_change) const {
    if (geteuid() != 0)
      return fail(permission_denied("a lab needs root, for its namespaces and interfaces"));
    MUSTER_ASSIGN(LabContext about, context(run));
    MUSTER_ASSIGN(const std::string lab_name, which(run, about));
    return to_change ? Lab::open_locked(std::move(about), lab_name)
                     : Lab::open(std::move(about), lab_name);
  }
};

Result<int> parse_count(std::string_view flag, const std::string& text) {
  int count = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, count);
  if (error != std::errc() || stop != end)
    return fail(usage_error(fmt::format("invalid argument \"{}\" for --{}: a number", text, flag)));
  return count;
}

// What a lab that did not come up says for itself.
void show_logs_of_ended(Run& run, const Lab& made) {
  for (const lab::NodeView& node : made.view()) {
    if (node.state != "ended") continue;
    run.warn(fmt::format("---- last lines of {}", made.files().log(node.plan.name)));
    run.warn(lab::log_tail(made.files().log(node.plan.name), 10));
  }
}

void show_what_now(Run& run, const Lab& made, const lab::LabWish& wish) {
  const std::string name = wish.name;
  const auto count = [](int n, std::string_view what) {
    return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
  };
  run.out(
      fmt::format("\nLab {0} is up: {1}, {2}, a registry at {3}.\n\n"
                  "    export MUSTER_SOCKET=unix://{4}   # muster talks to manager1\n"
                  "    muster node ls\n"
                  "    muster lab ssh --name {0} manager1      # a shell on a node\n"
                  "    muster lab kill --name {0} manager1     # and see what happens\n"
                  "    muster lab down --name {0}\n",
                  name, count(wish.managers, "manager"), count(wish.workers, "worker"),
                  made.state().plan.registry(), made.files().socket("manager1")));
}

Status bring_up(Run& run, Lab& made, bool keep) {
  Status up = made.bring_up();
  if (up.ok()) return up;
  show_logs_of_ended(run, made);
  const std::string name = made.files().name;
  if (keep)
    return up.with_context(
        fmt::format("lab {0} did not come up, and is kept (\"muster lab down --name {0}\")", name));
  const Status down = made.tear_down();
  if (!down.ok())
    run.warn(
        fmt::format("muster: cannot remove what there is of lab {}: {}", name, down.message()));
  return up.with_context(fmt::format("lab {} did not come up", name));
}

using Change = std::function<Status(Lab&, const std::vector<std::string>&)>;

// The commands that take nodes and print their names when it is done.
Result<int> change_nodes(Run& run, const LabFlags& flags, const Change& change) {
  MUSTER_TRY(run.parse(1, -1));
  MUSTER_ASSIGN(Lab made, flags.open(run, true));
  for (const std::string& node : run.args) {
    MUSTER_ASSIGN(const auto known, made.find(node));
  }
  return for_each_name(run, run.args, [&](const std::string& node) -> Status {
    MUSTER_TRY(change(made, {node}));
    run.line(node);
    return ok_status();
  });
}

Status add_rows(Listing& listing, const LabContext& context, const std::string& name) {
  const auto opened = Lab::open(context, name);
  if (!opened) {
    // It has to be seen, or nobody would take it down.
    listing.add({name, "-", "-", "damaged", "-", "", "", "", "", "", ""});
    return ok_status();
  }
  std::vector<lab::NodeView> nodes = opened->view();
  opened->ask_cluster(nodes);
  for (const lab::NodeView& node : nodes) {
    const bool server = node.plan.role == lab::Role::kRegistry;
    const lab::ClusterNode known = node.cluster.value_or(lab::ClusterNode{});
    const std::string address = server ? opened->state().plan.registry() : node.plan.address.str();
    listing.add({name, node.plan.name, std::string(to_string(node.plan.role)), node.state, address,
                 known.status, known.availability, known.manager_status, node.cut_off_from,
                 node.pid != 0 ? std::to_string(node.pid) : "",
                 server ? "" : "unix://" + opened->files().socket(node.plan.name)});
  }
  return ok_status();
}

// Copies what is behind the descriptor's offset.
Status copy_rest(Run& run, int fd) {
  char buffer[65536];
  while (true) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_status(errno, "read the log");
    if (n == 0) return ok_status();
    run.out({buffer, static_cast<size_t>(n)});
  }
}

}  // namespace

Result<int> lab_up(Run& run) {
  LabFlags flags;
  lab::LabWish wish;
  std::string managers = "1";
  std::string workers = "0";
  bool keep = false;
  flags.declare(run);
  run.flags.value("managers", &managers, "N", "managers of the swarm (1)");
  run.flags.value("workers", &workers, "N", "workers of the swarm (0)");
  run.flags.toggle("nat", &wish.nat, "let the nodes reach what this host reaches");
  run.flags.toggle("keep", &keep, "keep a lab that does not come up, to look at it");
  run.flags.value("log-level", &wish.log_level, "LEVEL", "of the nodes: debug, info, warn, error");
  run.flags.value("musterd", &wish.musterd, "PATH", "the daemon (default: beside this program)");
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_ASSIGN(wish.managers, parse_count("managers", managers));
  MUSTER_ASSIGN(wish.workers, parse_count("workers", workers));
  if (!wish.log_level.empty() && wish.log_level != "debug" && wish.log_level != "info" &&
      wish.log_level != "warn" && wish.log_level != "error")
    return fail(usage_error(
        fmt::format("invalid log level \"{}\": debug, info, warn or error", wish.log_level)));
  MUSTER_ASSIGN(LabContext context, flags.context(run));
  wish.name = flags.name.empty() ? run.env("MUSTER_LAB") : flags.name;
  if (wish.name.empty()) wish.name = "lab";
  if (wish.musterd.empty())
    wish.musterd = std::filesystem::path(context.muster).parent_path() / "musterd";
  wish.musterd = absolute_path(wish.musterd, run.world.current_dir);

  Signals signals({SIGINT, SIGTERM});
  bool stopped = false;
  context.cancelled = [&] { return stopped = stopped || signals.pop() != 0; };
  context.say = [&](std::string_view line) { run.line(line); };
  MUSTER_ASSIGN(Lab made, Lab::create(context, wish));
  MUSTER_TRY(bring_up(run, made, keep));
  show_what_now(run, made, wish);
  return 0;
}

Result<int> lab_ls(Run& run) {
  LabFlags flags;
  ListOptions options;
  flags.declare(run);
  options.declare(run.flags, false);
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(options.filters.check({}));
  if (geteuid() != 0)
    return fail(permission_denied("a lab needs root, for its namespaces and interfaces"));
  MUSTER_ASSIGN(const LabContext context, flags.context(run));
  std::vector<std::string> labs = lab::list_labs(context.base);
  if (!flags.name.empty()) {
    if (std::find(labs.begin(), labs.end(), flags.name) == labs.end())
      return fail(not_found("there is no lab \"{}\"", flags.name));
    labs = {flags.name};
  }
  Listing listing({{"Lab", "LAB"},
                   {"Node", "NODE"},
                   {"Role", "ROLE"},
                   {"State", "STATE"},
                   {"Address", "ADDRESS"},
                   {"Status", "STATUS"},
                   {"Availability", "AVAILABILITY"},
                   {"ManagerStatus", "MANAGER STATUS"},
                   {"CutOffFrom", "CUT OFF FROM"},
                   {"Pid", "PID", false},
                   {"Socket", "SOCKET", false}});
  for (const std::string& name : labs) MUSTER_TRY(add_rows(listing, context, name));
  MUSTER_TRY(options.print(run, listing, "Node"));
  return 0;
}

Result<int> lab_ssh(Run& run) {
  LabFlags flags;
  flags.declare(run);
  run.flags.stop_at_first_argument();
  MUSTER_TRY(run.parse(1, -1));
  MUSTER_ASSIGN(const Lab made, flags.open(run, false));
  // Ctrl-C is for the program inside.
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGQUIT, SIG_IGN);
  // As ssh and kubectl have it, a "--" before the command is none of it.
  auto command = run.args.begin() + 1;
  if (command != run.args.end() && *command == "--") ++command;
  MUSTER_ASSIGN(Process process,
                made.enter(run.args[0], {command, run.args.end()}, run.env("SHELL")));
  MUSTER_ASSIGN(const auto exit, process.wait(Duration(-1)));
  if (!exit) return fail(internal_error("{} is lost", run.args[0]));
  return exit->signal != 0 ? 128 + exit->signal : exit->code;
}

Result<int> lab_start(Run& run) {
  LabFlags flags;
  flags.declare(run);
  MUSTER_TRY(run.parse(0, -1));
  MUSTER_ASSIGN(Lab made, flags.open(run, true));
  std::vector<std::string> nodes = run.args;
  if (nodes.empty()) {
    for (const lab::NodeView& node : made.view()) {
      if (node.pid == 0) nodes.push_back(node.plan.name);
    }
  }
  MUSTER_TRY(made.start(nodes));
  for (const std::string& node : nodes) run.line(node);
  return 0;
}

Result<int> lab_stop(Run& run) {
  LabFlags flags;
  flags.declare(run);
  return change_nodes(run, flags, [](Lab& made, const auto& nodes) { return made.stop(nodes); });
}

Result<int> lab_kill(Run& run) {
  LabFlags flags;
  bool all = false;
  flags.declare(run);
  run.flags.toggle("all-processes", &all, "containers and all else too, as when the power fails");
  return change_nodes(run, flags,
                      [&](Lab& made, const auto& nodes) { return made.kill(nodes, all); });
}

Result<int> lab_pause(Run& run) {
  LabFlags flags;
  flags.declare(run);
  return change_nodes(run, flags, [](Lab& made, const auto& nodes) { return made.pause(nodes); });
}

Result<int> lab_resume(Run& run) {
  LabFlags flags;
  flags.declare(run);
  return change_nodes(run, flags, [](Lab& made, const auto& nodes) { return made.resume(nodes); });
}

Result<int> lab_partition(Run& run) {
  LabFlags flags;
  bool one_way = false;
  bool refuse = false;
  flags.declare(run);
  run.flags.toggle("one-way", &one_way, "only what goes from the first to the second is lost");
  run.flags.toggle("refuse", &refuse, "connections are refused, instead of nothing being answered");
  MUSTER_TRY(run.parse(1, 2));
  MUSTER_ASSIGN(Lab made, flags.open(run, true));
  MUSTER_TRY(made.cut(run.args[0], run.args.size() > 1 ? std::optional(run.args[1]) : std::nullopt,
                      one_way, refuse ? lab::Cut::kRefuse : lab::Cut::kSilent));
  return 0;
}

Result<int> lab_heal(Run& run) {
  LabFlags flags;
  flags.declare(run);
  MUSTER_TRY(run.parse(0, 2));
  MUSTER_ASSIGN(Lab made, flags.open(run, true));
  const auto group = [&](size_t i) {
    return run.args.size() > i ? std::optional(run.args[i]) : std::nullopt;
  };
  MUSTER_ASSIGN(const size_t healed, made.heal(group(0), group(1)));
  if (healed == 0 && !run.args.empty())
    return fail(failed_precondition("nothing is cut between these nodes"));
  return 0;
}

Result<int> lab_logs(Run& run) {
  LabFlags flags;
  bool follow = false;
  std::string tail;
  flags.declare(run);
  run.flags.toggle("follow,f", &follow, "go on with what is written from now on");
  run.flags.value("tail,n", &tail, "N", "only the last N lines");
  MUSTER_TRY(run.parse(1, 1));
  std::optional<int> lines;
  if (!tail.empty() && tail != "all") {
    MUSTER_ASSIGN(lines, parse_count("tail", tail));
  }
  MUSTER_ASSIGN(const Lab made, flags.open(run, false));
  MUSTER_ASSIGN(const lab::NodePlan node, made.find(run.args[0]));
  const std::string path = made.files().log(node.name);
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(errno_status(errno, path));
  if (lines) lseek(fd.get(), lab::tail_offset(fd.get(), *lines), SEEK_SET);
  Signals signals({SIGINT, SIGTERM});
  while (true) {
    MUSTER_TRY(copy_rest(run, fd.get()));
    if (!follow) return 0;
    wait_readable({signals.fd()}, kFollowPollMs);
    if (signals.pop() != 0) return 0;
  }
}

Result<int> lab_down(Run& run) {
  LabFlags flags;
  bool all = false;
  flags.declare(run);
  run.flags.toggle("all", &all, "every lab");
  MUSTER_TRY(run.parse(0, 0));
  if (geteuid() != 0)
    return fail(permission_denied("a lab needs root, for its namespaces and interfaces"));
  MUSTER_ASSIGN(const LabContext context, flags.context(run));
  std::vector<std::string> labs;
  if (all) {
    if (!flags.name.empty()) return fail(usage_error("--all and --name exclude each other"));
    std::set<std::string> names;
    for (const std::string& name : lab::list_labs(context.base)) names.insert(name);
    // Those whose folder somebody deleted are processes all the same.
    for (const lab::InitProcess& init : lab::find_inits(context.base))
      names.insert(std::filesystem::path(init.lab_dir).filename().string());
    labs.assign(names.begin(), names.end());
  } else {
    MUSTER_ASSIGN(std::string name, flags.which(run, context));
    labs.push_back(std::move(name));
  }
  return for_each_name(run, labs, [&](const std::string& name) -> Status {
    MUSTER_TRY(lab::tear_down(context, name));
    run.line(fmt::format("Lab {} is gone.", name));
    return ok_status();
  });
}

Result<int> lab_init_node(Run& run) {
  MUSTER_TRY(run.parse(2, 2));
  return fail(lab::run_node_init(run.args[0], run.args[1]));
}

}  // namespace muster::deploy::cli
