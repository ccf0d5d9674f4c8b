#include "deploy/cli/spec_flags.h"

namespace muster::deploy::cli {

void SpecFlags::declare_list(Flags& flags, For command, std::string_view name, ListChange* change,
                             std::string value_name, std::string help, char letter) {
  if (command == For::kCreate) {
    std::string names(name);
    if (letter != 0) names += fmt::format(",{}", letter);
    flags.list(names, &change->add, std::move(value_name), std::move(help));
    return;
  }
  flags.list(fmt::format("{}-add", name), &change->add, value_name, help + " (add or change)");
  flags.list(fmt::format("{}-rm", name), &change->remove, "NAME", help + " (remove)");
}

void SpecFlags::declare_process(Flags& flags, For command) {
  if (command == For::kCreate) {
    flags.value("name", &name, "NAME", "name of the service (default: a random one)");
    flags.value("mode", &mode, "replicated|global|replicated-job|global-job",
                "how many tasks there are, and whether they end");
    flags.list("env-file", &env_files_, "FILE", "read environment variables from a file");
    flags.value("max-concurrent", &max_concurrent, "N", "of a job: tasks at a time");
  } else {
    flags.value("image", &image, "IMAGE", "image of the service");
    flags.value("args", &args, "COMMAND", "arguments of the command");
    flags.toggle("force", &force, "replace all tasks even if nothing changed");
    flags.value("max-concurrent", &max_concurrent, "N", "of a job: tasks at a time");
  }
  flags.value("replicas", &replicas, "N", "number of tasks");
  flags.value("replicas-max-per-node", &max_per_node_, "N", "tasks per node (0 = unlimited)");
  flags.value("entrypoint", &entrypoint_, "COMMAND", "replace the image's entrypoint");
  flags.value("workdir,w", &workdir_, "DIR", "working directory in the container");
  flags.value("user,u", &user_, "USER[:GROUP]", "user to run as");
  flags.value("hostname", &hostname_, "NAME", "container's hostname; may hold a template");
  flags.toggle("tty,t", &tty_, "give the process a terminal");
  flags.toggle("read-only", &read_only_, "mount the root file system read-only");
  flags.toggle("init", &init_, "run an init as PID 1 that forwards signals and reaps");
  flags.value("isolation", &isolation_, "default", "of Windows nodes; only \"default\" is taken");
  flags.value("credential-spec", &credential_spec_, "SPEC", "of Windows nodes; not supported");
  flags.value("stop-signal", &stop_signal_, "SIGNAL", "signal that ends the container");
  flags.value("stop-grace-period", &stop_grace_, "DURATION",
              "time between the stop signal and a kill (10s)");
  flags.value("drain-timeout", &drain_timeout_, "DURATION",
              "how long connections may go on before the stop signal (5s; 0 = not at all)");
}

void SpecFlags::declare_lists(Flags& flags, For command) {
  declare_list(flags, command, "label", &labels_, "K=V", "service label", 'l');
  declare_list(flags, command, "container-label", &container_labels_, "K=V", "container label");
  declare_list(flags, command, "env", &env_, "NAME=VALUE", "environment variable", 'e');
  declare_list(flags, command, "group", &groups_, "GROUP", "additional group of the process");
  declare_list(flags, command, "mount", &mounts_, "type=T,source=S,target=T", "mount");
  declare_list(flags, command, "publish", &publish_, "PORT:TARGET", "published port", 'p');
  declare_list(flags, command, "network", &networks_, "NETWORK", "network");
  declare_list(flags, command, "dns", &dns_, "IP", "name server");
  declare_list(flags, command, "dns-option", &dns_options_, "OPTION", "resolver option");
  declare_list(flags, command, "dns-search", &dns_search_, "DOMAIN", "search domain");
  declare_list(flags, command, "host", &hosts_, "NAME:IP", "line of /etc/hosts");
  declare_list(flags, command, "secret", &secrets_, "SECRET", "secret");
  declare_list(flags, command, "config", &configs_, "CONFIG", "config");
  declare_list(flags, command, "constraint", &constraints_, "EXPR", "placement constraint");
  declare_list(flags, command, "placement-pref", &preferences_, "spread=LABEL",
               "placement preference");
  declare_list(flags, command, "generic-resource", &generic_, "KIND=N",
               "user-defined resource to reserve");
  declare_list(flags, command, "ulimit", &ulimits_, "NAME=SOFT[:HARD]", "ulimit");
  declare_list(flags, command, "sysctl", &sysctls_, "K=V", "kernel parameter of the namespace");
  flags.list("cap-add", &cap_add_, "CAP", "capability to add");
  flags.list("cap-drop", &cap_drop_, "CAP", "capability to drop");
  flags.list("log-opt", &log_options_.add, "K=V", "option of the log driver");
  flags.value("log-driver", &log_driver_, "NAME", "log driver");
}

void SpecFlags::declare_policies(Flags& flags) {
  flags.value("limit-cpu", &limit_cpu_, "CPUS", "most CPUs a task may use");
  flags.value("limit-memory", &limit_memory_, "BYTES", "most memory a task may use");
  flags.value("limit-pids", &limit_pids_, "N", "most processes in a task (0 = unlimited)");
  flags.value("reserve-cpu", &reserve_cpu_, "CPUS", "CPUs the node has to have free");
  flags.value("reserve-memory", &reserve_memory_, "BYTES", "memory the node has to have free");
  flags.value("memory-swap", &swap_, "BYTES", "swap beside the memory limit (-1 = unlimited)");
  flags.value("memory-swappiness", &swappiness_, "0-100", "swappiness (-1 = default)");
  flags.value("oom-score-adj", &oom_score_adj_, "N", "preference of the kernel's OOM killer");
  flags.value("endpoint-mode", &endpoint_mode_, "vip|dnsrr", "how the name resolves");
  flags.value("endpoint-balancing", &balancing_, "round-robin|least-connection|source-hash",
              "which task gets the next connection (round-robin)");
  flags.value("endpoint-affinity", &affinity_, "DURATION",
              "how long after its last connection a client gets the same task (0 = no affinity)");
  flags.value("endpoint-weight-label", &weight_label_, "KEY",
              "node label with the share, 1 to 100, of the tasks there (\"\" = all alike)");

  flags.value("health-cmd", &health_cmd_, "COMMAND", "shell command that checks the health");
  flags.value("health-interval", &health_interval_, "DURATION", "time between checks");
  flags.value("health-timeout", &health_timeout_, "DURATION", "time a check may take");
  flags.value("health-retries", &health_retries_, "N", "failures in a row to be unhealthy");
  flags.value("health-start-period", &health_start_period_, "DURATION",
              "time to start in which failures do not count");
  flags.value("health-start-interval", &health_start_interval_, "DURATION",
              "time between checks while starting");
  flags.toggle("no-healthcheck", &no_healthcheck_, "ignore the image's health check");

  flags.value("restart-condition", &restart_condition_, "none|on-failure|any",
              "when an ended task is replaced (any)");
  flags.value("restart-delay", &restart_delay_, "DURATION", "time before a replacement (5s)");
  flags.value("restart-max-attempts", &restart_attempts_, "N", "replacements (0 = unlimited)");
  flags.value("restart-window", &restart_window_, "DURATION", "time over which attempts count");

  const auto declare_update = [&flags](const char* prefix, UpdateFlags* update,
                                       const char* actions) {
    const auto named = [prefix](const char* name) { return fmt::format("{}-{}", prefix, name); };
    flags.value(named("parallelism"), &update->parallelism, "N", "tasks at a time (0 = all)");
    flags.value(named("delay"), &update->delay, "DURATION", "time between groups of tasks");
    flags.value(named("monitor"), &update->monitor, "DURATION",
                "time after a task's start in which its failure counts (5s)");
    flags.value(named("failure-action"), &update->failure_action, actions,
                "what to do when too many fail");
    flags.value(named("max-failure-ratio"), &update->max_failure_ratio, "RATIO",
                "share of tasks that may fail");
    flags.value(named("order"), &update->order, "start-first|stop-first",
                "what comes first when a task is replaced");
    flags.value(named("progress-deadline"), &update->deadline, "DURATION",
                "time in which a new task has to come up (10m; 0 = no limit)");
  };
  declare_update("update", &update_, "pause|continue|rollback");
  declare_update("rollback", &rollback_, "pause|continue");
}

void SpecFlags::declare(Flags& flags, For command) {
  declare_process(flags, command);
  declare_lists(flags, command);
  declare_policies(flags);
}

}  // namespace muster::deploy::cli
