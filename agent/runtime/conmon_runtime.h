#pragma once

#include <boost/json/object.hpp>
#include <memory>
#include <string>

#include "agent/runtime/cgroup.h"
#include "agent/runtime/exit_watcher.h"
#include "agent/runtime/host_facts.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/seccomp_filter.h"
#include "base/log.h"

namespace muster::agent {

struct RuntimeOptions {
  std::string runtime = "crun";    // "crun" or "runc", a name in PATH or a path
  std::string monitor = "conmon";  // likewise
  std::string instance_id;         // of this musterd; part of every name
  // Volatile state (exit files, the runtime's own state): /run/muster/<instance>. Shared by all
  // processes of the instance, gone with a reboot as the containers are.
  std::string run_dir;
  // muster-runtime-shim; empty = beside this program, then /usr/libexec/muster. Only needed on
  // hybrid hosts with crun.
  std::string shim;
  bool allow_privileged = false;
  bool init_by_default = false;
};

// Where things of one container are. Fixed names, so that a successor finds them.
struct BundlePaths {
  explicit BundlePaths(const std::string& bundle_dir);
  std::string config;       // config.json
  std::string pid;          // of the container's first process, host's numbering
  std::string monitor_pid;  // conmon's
  std::string log;          // container.log, conmon's k8s-file format
  std::string monitor_log;  // what conmon itself has to say
  std::string control;      // conmon's FIFO "ctl": terminal size, log reopening
};

// Runtime through conmon and an OCI command line runtime. See runtime.h for the contract.
class ConmonRuntime final : public Runtime {
 public:
  ConmonRuntime(RuntimeOptions options, HostFacts host, Log log);
  // Finds the programs and starts the watcher. UNAVAILABLE when one is missing, with the package
  // to install.
  Status open();

  RuntimeInfo info() const override;
  Result<ContainerState> start(const ContainerRequest& request) override;
  Status watch_exit(const std::string& container_id, const std::string& bundle_dir,
                    std::function<void(ContainerExit)> exited) override;
  Result<ContainerState> inspect(const std::string& container_id,
                                 const std::string& bundle_dir) override;
  Status kill(const std::string& container_id, int signal) override;
  Status remove(const std::string& container_id, const std::string& bundle_dir) override;
  Result<std::vector<std::string>> list() override;

  // Removes what is left of this instance once its containers are gone: the parents of their
  // cgroups. Kills whatever is still in them. At `swarm leave`.
  Status teardown();

  bool is_crun() const { return is_crun_; }
  const HostFacts& host() const { return host_; }
  const Cgroups& cgroups() const { return cgroups_; }
  const RuntimeOptions& options() const { return options_; }
  // Where exec sessions keep their files.
  std::string exec_dir() const { return options_.run_dir + "/exec"; }
  std::string cgroup_of(const std::string& container_id) const;
  // argv and environment to call the OCI runtime with, global options included.
  std::vector<std::string> runtime_command() const;
  std::vector<std::string> runtime_env() const;
  // The container's first process, checked against its cgroup; NOT_FOUND when it has ended.
  Result<int64_t> first_process(const std::string& container_id) const;
  // Whether that process lives and has not begun to end. The kernel ends all others of the
  // container before the first one can be seen as ended.
  bool is_alive(const std::string& container_id) const;

 private:
  void add_compiled_seccomp(boost::json::object& config);
  Status write_bundle(const ContainerRequest& request);
  Result<int64_t> create(const ContainerRequest& request);
  Status release(const std::string& container_id);
  // A pidfd of the container's conmon; none if it does not run.
  UniqueFd open_monitor(const std::string& container_id, const std::string& bundle_dir) const;
  std::string state_dir() const { return options_.run_dir + "/oci"; }
  std::string exit_dir() const { return options_.run_dir + "/exits"; }
  std::string socket_dir() const { return options_.run_dir + "/attach"; }
  std::string container_state_dir(const std::string& id) const { return state_dir() + "/" + id; }

  RuntimeOptions options_;
  HostFacts host_;
  Log log_;
  Cgroups cgroups_;
  bool is_crun_ = true;
  bool use_shim_ = false;
  std::string runtime_path_;
  std::string monitor_path_;
  std::string runtime_version_;
  SeccompCache seccomp_;
  std::unique_ptr<ExitWatcher> watcher_;
};

// The error of a failed creation in a user's words, from what the OCI runtime printed.
Status explain_runtime_error(std::string_view output, const std::string& program);

// Probes the host and opens a ConmonRuntime.
Result<std::unique_ptr<ConmonRuntime>> make_runtime(RuntimeOptions options, Log log);

}  // namespace muster::agent
