#include "deploy/lab/lab.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <sstream>

#include "base/file.h"
#include "deploy/lab/cables.h"
#include "deploy/lab/node_space.h"

namespace muster::deploy::lab {
namespace {

constexpr int kPollMs = 20;
constexpr Duration kStopPatience = 30s;
constexpr Duration kKillPatience = 15s;
constexpr Duration kListPatience = 3s;

// What the kernel would give without swapping; 0 when it does not say.
uint64_t available_memory() {
  const std::string text = read_file("/proc/meminfo", 1 << 16).value_or("");
  constexpr std::string_view kField = "MemAvailable:";
  const size_t at = text.find(kField);
  if (at == std::string::npos) return 0;
  return std::strtoull(text.c_str() + at + kField.size(), nullptr, 10) * 1024;
}

Status check_programs(const LabWish& wish) {
  if (access(wish.musterd.c_str(), X_OK) != 0)
    return not_found(
        "{} is not there, or no program: a lab needs musterd beside muster, or "
        "--musterd PATH",
        wish.musterd);
  if (find_program("docker-registry").empty())
    return not_found(
        "docker-registry is not installed, which serves a lab's images: apt install "
        "docker-registry");
  if (find_program("setsid").empty()) return not_found("setsid (util-linux) is not installed");
  return ok_status();
}

// What no new lab may be given: this host's, and what other labs were given whether they run or
// not.
Result<std::vector<overlay::Prefix>> taken_subnets(const std::string& base) {
  MUSTER_ASSIGN(std::vector<overlay::Prefix> taken, taken_prefixes());
  for (const std::string& other : list_labs(base)) {
    if (const auto state = load_state({base, other})) taken.push_back(state->plan.subnet);
  }
  return taken;
}

Status check_new(const LabFiles& files) {
  if (!std::filesystem::exists(files.dir())) {
    if (find_inits(files.dir()).empty()) return ok_status();
    return already_exists(
        "processes of an earlier lab \"{0}\" run, whose folder is gone: \"muster lab down --name "
        "{0}\" ends them",
        files.name);
  }
  MUSTER_ASSIGN(const LabState state, load_state(files));
  return already_exists(
      "lab {0} exists already, with {1} nodes: \"muster lab ls --name {0}\" shows it, \"muster lab "
      "down --name {0}\" removes it, --name NAME makes another one",
      files.name, state.plan.nodes.size() - 1);
}

// A program's path by a PATH that is not ours; as it is when there is none of that name.
std::string look_up(const std::string& program, const std::string& search_path) {
  if (program.find('/') != std::string::npos) return program;
  std::istringstream folders(search_path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string path = folder + "/" + program;
    if (!folder.empty() && access(path.c_str(), X_OK) == 0) return path;
  }
  return program;
}

}  // namespace

Result<Lab> Lab::create(LabContext context, const LabWish& wish) {
  if (geteuid() != 0)
    return fail(permission_denied("a lab needs root, for its namespaces and interfaces"));
  MUSTER_TRY(check_wish(wish));
  MUSTER_TRY(check_programs(wish));
  Lab lab(std::move(context), {});
  lab.files_ = {lab.context_.base, wish.name};
  MUSTER_TRY(check_paths(lab.files_));
  MUSTER_ASSIGN(const UniqueFd planning, lock_base(lab.files_.base));
  const Status reserved = lab.reserve(wish);
  if (reserved.ok()) return lab;
  rmdir(lab.files_.base.c_str());  // unless there are other labs
  return fail(reserved);
}

Status Lab::reserve(const LabWish& wish) {
  MUSTER_TRY(check_new(files_));
  MUSTER_TRY(check_memory(wish, available_memory()));
  MUSTER_ASSIGN(const auto taken, taken_subnets(files_.base));
  MUSTER_ASSIGN(const overlay::Prefix subnet, choose_subnet(taken));
  state_.plan = make_plan(wish, subnet);
  state_.nat = wish.nat;
  state_.log_level = wish.log_level;
  state_.musterd = wish.musterd;
  MUSTER_TRY(make_directory(files_.dir(), 0700));
  MUSTER_ASSIGN(lock_, lock_lab(files_));
  return save();
}

Result<Lab> Lab::open(LabContext context, const std::string& name) {
  Lab lab(std::move(context), {});
  lab.files_ = {lab.context_.base, name};
  MUSTER_ASSIGN(lab.state_, load_state(lab.files_));
  return lab;
}

Result<Lab> Lab::open_locked(LabContext context, const std::string& name) {
  MUSTER_ASSIGN(UniqueFd lock, lock_lab({context.base, name}));
  MUSTER_ASSIGN(Lab lab, open(std::move(context), name));
  lab.lock_ = std::move(lock);
  return lab;
}

void Lab::say(std::string_view line) const {
  if (context_.say) context_.say(line);
}

Status Lab::await(std::string_view what, Duration patience,
                  const std::function<Result<bool>()>& done) const {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    MUSTER_ASSIGN(const bool there, done());
    if (there) return ok_status();
    if (cancelled()) return Status(StatusCode::kCancelled, "broken off");
    if (std::chrono::steady_clock::now() >= deadline)
      return Status(StatusCode::kDeadlineExceeded,
                    fmt::format("waited {} in vain for {}", format_duration(patience), what));
    poll(nullptr, 0, kPollMs);
  }
}

Result<NodePlan> Lab::find(const std::string& node) const {
  MUSTER_ASSIGN(const auto group, parse_group(state_.plan, node));
  if (group.size() != 1) return fail(invalid_argument("\"{}\" is not one node", node));
  return *state_.plan.find(group[0]);
}

std::optional<Held> Lab::main_process(const NodePlan& node) const {
  const auto init = find_init(files_.dir(), node.name);
  if (!init) return std::nullopt;
  return find_in_node(*init, files_.config(node.name));
}

Result<Held> Lab::need_process(const NodePlan& node) const {
  auto process = main_process(node);
  if (process) return *std::move(process);
  return fail(failed_precondition("{0} does not run: \"muster lab start {0}\"", node.name));
}

Status Lab::stop(const std::vector<std::string>& nodes) {
  for (const std::string& name : nodes) {
    MUSTER_ASSIGN(const NodePlan node, find(name));
    MUSTER_ASSIGN(const Held process, need_process(node));
    if (process.view.state == 'T')
      return failed_precondition("{0} is paused: \"muster lab resume {0}\" first, or kill it",
                                 node.name);
    state_.ended[node.name] = "stopped";
    MUSTER_TRY(save());
    MUSTER_TRY(signal_process(process, SIGTERM));
    MUSTER_TRY(await_end(process, kStopPatience).with_context(node.name));
  }
  return ok_status();
}

Status Lab::kill(const std::vector<std::string>& nodes, bool all_processes) {
  for (const std::string& name : nodes) {
    MUSTER_ASSIGN(const NodePlan node, find(name));
    if (all_processes && node.role == Role::kRegistry)
      return invalid_argument("{} is the lab's switch too: without it no node reaches another",
                              node.name);
    const auto init = find_init(files_.dir(), node.name);
    if (!init) return failed_precondition("nothing of {} runs", node.name);
    state_.ended[node.name] = "killed";
    if (all_processes) {
      MUSTER_TRY(save());
      MUSTER_TRY(signal_process(init->process, SIGKILL));
      MUSTER_TRY(await_end(init->process, kKillPatience).with_context(node.name));
      continue;
    }
    MUSTER_ASSIGN(const Held process, need_process(node));
    MUSTER_TRY(save());
    MUSTER_TRY(signal_process(process, SIGKILL));
    MUSTER_TRY(await_end(process, kKillPatience).with_context(node.name));
  }
  return ok_status();
}

Status Lab::pause(const std::vector<std::string>& nodes) {
  for (const std::string& name : nodes) {
    MUSTER_ASSIGN(const NodePlan node, find(name));
    MUSTER_ASSIGN(const Held process, need_process(node));
    MUSTER_TRY(signal_process(process, SIGSTOP));
  }
  return ok_status();
}

Status Lab::resume(const std::vector<std::string>& nodes) {
  for (const std::string& name : nodes) {
    MUSTER_ASSIGN(const NodePlan node, find(name));
    MUSTER_ASSIGN(const Held process, need_process(node));
    MUSTER_TRY(signal_process(process, SIGCONT));
  }
  return ok_status();
}

// A node that does not run gets its cuts when it is started.
Status Lab::apply_to(const std::vector<std::string>& nodes) const {
  for (const std::string& node : nodes) {
    const auto init = find_init(files_.dir(), node);
    if (init) MUSTER_TRY(apply_cuts(state_.plan, state_.cuts, *init));
  }
  return ok_status();
}

Status Lab::cut(const std::string& a, const std::optional<std::string>& b, bool one_way, Cut kind) {
  MUSTER_ASSIGN(const auto first, parse_group(state_.plan, a));
  std::vector<std::string> second = others(state_.plan, first);
  if (b) {
    MUSTER_ASSIGN(second, parse_group(state_.plan, *b));
  }
  if (second.empty())
    return invalid_argument("there is no node left that \"{}\" could be cut off from", a);
  MUSTER_TRY(add_cuts(state_.cuts, first, second, one_way, kind));
  MUSTER_TRY(save());
  MUSTER_TRY(apply_to(second));
  return one_way ? ok_status() : apply_to(first);
}

Result<size_t> Lab::heal(const std::optional<std::string>& a, const std::optional<std::string>& b) {
  std::vector<std::string> all;
  for (const NodePlan& node : state_.plan.nodes) all.push_back(node.name);
  std::vector<std::string> first = all;
  std::vector<std::string> second = all;
  if (a) {
    MUSTER_ASSIGN(first, parse_group(state_.plan, *a));
  }
  if (b) {
    MUSTER_ASSIGN(second, parse_group(state_.plan, *b));
  }
  const size_t healed = heal_cuts(state_.cuts, first, second);
  MUSTER_TRY(save());
  // All nodes, whatever is noted down: a command that was killed may have left rules.
  MUSTER_TRY(apply_to(all));
  return healed;
}

std::vector<NodeView> Lab::view() const {
  const std::vector<InitProcess> inits = find_inits(files_.dir());
  std::vector<NodeView> out;
  for (const NodePlan& node : state_.plan.nodes) {
    NodeView view;
    view.plan = node;
    view.cut_off_from = describe_cuts(state_.cuts, node.name);
    const bool powered = std::any_of(inits.begin(), inits.end(), [&](const InitProcess& init) {
      return init.node == node.name;
    });
    const auto process = main_process(node);
    if (process) {
      view.pid = process->view.pid;
      view.state = process->view.state == 'T' ? "paused" : "running";
    } else if (!powered) {
      view.state = "off";
    } else {
      const auto it = state_.ended.find(node.name);
      view.state = it != state_.ended.end() ? it->second : "ended";
    }
    out.push_back(std::move(view));
  }
  return out;
}

void Lab::ask_cluster(std::vector<NodeView>& nodes) const {
  // All at once, since one that is cut off answers late; those that are not are believed first.
  std::vector<std::future<Result<std::string>>> healthy, others;
  for (const NodeView& node : nodes) {
    if (node.plan.role == Role::kRegistry || node.state != "running") continue;
    auto answer = std::async(std::launch::async, [this, name = node.plan.name] {
      return call_muster(context_.muster, files_.socket(name),
                         {"node", "ls", "--format", std::string(kNodeListFormat)}, kListPatience,
                         context_.cancelled);
    });
    (node.cut_off_from.empty() ? healthy : others).push_back(std::move(answer));
  }
  std::vector<ClusterNode> known;
  for (auto* group : {&healthy, &others}) {
    for (auto& answer : *group) {
      if (!known.empty()) break;
      if (const auto text = answer.get()) known = parse_node_list(*text);
    }
  }
  for (NodeView& node : nodes) {
    if (const ClusterNode* found = find_node(known, node.plan.name)) node.cluster = *found;
  }
}

Result<Process> Lab::enter(const std::string& node, std::vector<std::string> words,
                           const std::string& shell) const {
  MUSTER_ASSIGN(const NodePlan plan, find(node));
  const auto init = find_init(files_.dir(), plan.name);
  if (!init)
    return fail(failed_precondition("nothing of {0} runs: \"muster lab start {0}\"", node));
  ProcessOptions options;
  options.argv = std::move(words);
  if (options.argv.empty()) options.argv = {shell.empty() ? "/bin/sh" : shell};
  const char* path = getenv("PATH");
  const char* home = getenv("HOME");
  const std::string search_path =
      fmt::format("{}:{}", std::filesystem::path(context_.muster).parent_path().string(),
                  path != nullptr ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
  options.argv[0] = look_up(options.argv[0], search_path);
  options.env = clean_environment({{"MUSTER_SOCKET", "unix://" + files_.socket(plan.name)},
                                   {"MUSTER_LAB", files_.name},
                                   {"MUSTER_LAB_DIR", files_.base},
                                   {"PATH", search_path}});
  options.in = options.out = options.err = ProcessOptions::Stream::kInherit;
  options.working_dir = home != nullptr && access(home, X_OK) == 0 ? home : "/";
  return spawn_inside(*init, options);
}

}  // namespace muster::deploy::lab
