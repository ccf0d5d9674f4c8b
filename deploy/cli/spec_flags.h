#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "deploy/cli/flags.h"
#include "muster/v1/specs.pb.h"

namespace muster::deploy::cli {

// Changes of a list: "--env" on create, "--env-add" and "--env-rm" on update.
struct ListChange {
  std::vector<std::string> add;
  std::vector<std::string> remove;
  bool empty() const { return add.empty() && remove.empty(); }
};

// --update-* or --rollback-*.
struct UpdateFlags {
  std::optional<std::string> parallelism, delay, monitor, failure_action, max_failure_ratio, order;
  std::optional<std::string> deadline;
  bool any() const {
    return parallelism || delay || monitor || failure_action || max_failure_ratio || order ||
           deadline;
  }
};

// The options of `service create` and `service update` as given; nothing is checked before it is
// applied to a spec.
class SpecFlags {
 public:
  enum class For { kCreate, kUpdate };

  void declare(Flags& flags, For command);

  // INVALID_ARGUMENT with the text Docker has for it where it is known. `env_files` are read
  // through `read_file`; `environment` gives values of "--env NAME".
  Status apply(v1::ServiceSpec* spec, For command,
               const std::map<std::string, std::string>& environment,
               const std::string& current_dir,
               const std::function<Result<std::string>(const std::string&)>& read_file) const;

  // On update networks are the caller's, who can resolve names: the spec holds ids.
  const ListChange& networks() const { return networks_; }
  std::optional<std::string> name, image, mode, replicas, max_concurrent, args;
  bool force = false;

 private:
  void declare_process(Flags& flags, For command);
  void declare_lists(Flags& flags, For command);
  void declare_policies(Flags& flags);
  void declare_list(Flags& flags, For command, std::string_view name, ListChange* change,
                    std::string value_name, std::string help, char letter = 0);

  Status apply_mode(v1::ServiceSpec* spec, For command) const;
  Status apply_process(v1::ContainerSpec* container) const;
  Status apply_environment(
      v1::ContainerSpec* container, For command,
      const std::map<std::string, std::string>& environment,
      const std::function<Result<std::string>(const std::string&)>& read) const;
  Status apply_container_lists(v1::ContainerSpec* container, For command,
                               const std::string& current_dir) const;
  Status apply_mounts(v1::ContainerSpec* container, For command,
                      const std::string& current_dir) const;
  Status apply_dns(v1::ContainerSpec* container) const;
  Status apply_hosts(v1::ContainerSpec* container) const;
  void apply_capabilities(v1::ContainerSpec* container, For command) const;
  Status apply_references(v1::ContainerSpec* container) const;
  Status apply_health(v1::ContainerSpec* container) const;
  Status apply_resources(v1::TaskSpec* task) const;
  Status apply_restart(v1::TaskSpec* task) const;
  Status apply_placement(v1::TaskSpec* task) const;
  Status apply_logging(v1::TaskSpec* task) const;
  Status apply_endpoint(v1::ServiceSpec* spec) const;

  std::optional<std::string> entrypoint_, workdir_, user_, hostname_, stop_signal_, stop_grace_;
  std::optional<std::string> isolation_, credential_spec_;
  std::optional<bool> tty_, read_only_, init_;
  std::vector<std::string> env_files_;
  ListChange labels_, container_labels_, env_, groups_, mounts_, publish_, networks_, dns_,
      dns_options_, dns_search_, hosts_, secrets_, configs_, constraints_, preferences_, generic_,
      ulimits_, sysctls_, log_options_;
  std::vector<std::string> cap_add_, cap_drop_;
  std::optional<std::string> limit_cpu_, limit_memory_, limit_pids_, reserve_cpu_, reserve_memory_,
      swap_, swappiness_, oom_score_adj_, max_per_node_;
  std::optional<std::string> endpoint_mode_, drain_timeout_, balancing_, affinity_, weight_label_;
  std::optional<std::string> health_cmd_, health_interval_, health_timeout_, health_retries_,
      health_start_period_, health_start_interval_;
  bool no_healthcheck_ = false;
  std::optional<std::string> restart_condition_, restart_delay_, restart_attempts_, restart_window_;
  std::optional<std::string> log_driver_;
  UpdateFlags update_, rollback_;
};

// The value of an option, with the option's name before what is wrong with it.
template <class Parse>
auto parsed(const char* flag, const std::string& text, Parse parse) -> decltype(parse(text)) {
  auto result = parse(text);
  if (!result)
    return fail(usage_error(fmt::format("invalid argument \"{}\" for \"--{}\" flag: {}", text, flag,
                                        result.error().message())));
  return result;
}

template <class T, class Match>
void remove_if(google::protobuf::RepeatedPtrField<T>* items, Match match) {
  items->erase(std::remove_if(items->begin(), items->end(), match), items->end());
}

// Without the removed ones, and with the added ones once each.
void change_strings(google::protobuf::RepeatedPtrField<std::string>* items,
                    const ListChange& change);
void change_pairs(google::protobuf::RepeatedPtrField<v1::KeyValue>* pairs,
                  const ListChange& change);

// Pairs as the protos want them: sorted by key, the last of equal keys wins.
void set_pair(google::protobuf::RepeatedPtrField<v1::KeyValue>* pairs, const v1::KeyValue& pair);
void remove_pair(google::protobuf::RepeatedPtrField<v1::KeyValue>* pairs, const std::string& key);

}  // namespace muster::deploy::cli
