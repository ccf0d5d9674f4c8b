// The end of a lab, whatever there is of it.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/remove_tree.h"
#include "deploy/lab/cables.h"
#include "deploy/lab/lab.h"
#include "deploy/lab/node_cgroups.h"

namespace muster::deploy::lab {
namespace {

constexpr Duration kKillPatience = 15s;

Status end_processes(const LabFiles& files) {
  const std::vector<InitProcess> inits = find_inits(files.dir());
  for (const InitProcess& init : inits) MUSTER_TRY(signal_process(init.process, SIGKILL));
  for (const InitProcess& init : inits)
    MUSTER_TRY(await_end(init.process, kKillPatience).with_context(init.node));
  return ok_status();
}

// Somebody else's lab needs the host to forward, too.
bool others_need_forwarding(const LabFiles& files) {
  const std::vector<std::string> labs = list_labs(files.base);
  return std::any_of(labs.begin(), labs.end(), [&](const std::string& other) {
    if (other == files.name) return false;
    const auto state = load_state({files.base, other});
    return state && state->nat;
  });
}

Status end_way_out(const LabFiles& files, const Result<LabState>& state) {
  if (state && !state->nat) return ok_status();
  const bool ours = state && state->ip_forward_set;
  if (!ours || !others_need_forwarding(files)) return close_way_out(files.name, ours);
  // Whoever is last takes it back.
  for (const std::string& other : list_labs(files.base)) {
    const LabFiles heir{files.base, other};
    auto inherited = load_state(heir);
    if (other == files.name || !inherited || !inherited->nat) continue;
    inherited->ip_forward_set = true;
    MUSTER_TRY(save_state(heir, *inherited));
    break;
  }
  return close_way_out(files.name, false);
}

Status remove_cgroups(const LabFiles& files) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(files.dir(), error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_directory(error)) MUSTER_TRY(remove_cgroups_of(it->path().string() + "/data"));
  }
  return remove_cgroup(files.cgroup());
}

// The caller holds the lab's lock, if there is something to lock.
Status remove_all(const LabFiles& files) {
  const Result<LabState> state = load_state(files);
  // The folder goes last: as long as it is there, this can be done again.
  MUSTER_TRY(end_processes(files));
  MUSTER_TRY(remove_host_cable(files.name));
  MUSTER_TRY(end_way_out(files, state));
  MUSTER_TRY(remove_cgroups(files));
  MUSTER_TRY(remove_tree(files.dir()));
  rmdir(files.base.c_str());  // if it was the last one
  return ok_status();
}

}  // namespace

Status Lab::tear_down() {
  return remove_all(files_);
}

Status tear_down(const LabContext& context, const std::string& name) {
  if (geteuid() != 0)
    return permission_denied("a lab needs root, for its namespaces and interfaces");
  MUSTER_TRY(check_lab_name(name));
  const LabFiles files{context.base, name};
  UniqueFd lock;
  if (std::filesystem::exists(files.dir())) {
    MUSTER_ASSIGN(lock, lock_lab(files));
  } else if (find_inits(files.dir()).empty()) {
    return not_found("there is no lab \"{}\" (\"muster lab ls\" shows those there are)", name);
  }
  return remove_all(files);
}

}  // namespace muster::deploy::lab
