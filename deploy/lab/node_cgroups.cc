#include "deploy/lab/node_cgroups.h"

#include <algorithm>
#include <boost/json.hpp>

#include "agent/runtime/cgroup.h"
#include "agent/runtime/host_facts.h"
#include "base/file.h"
#include "base/json_fields.h"

namespace muster::deploy::lab {
namespace {

constexpr size_t kInstanceLength = 8;

}  // namespace

std::string instance_of(std::string_view node_json) {
  boost::system::error_code error;
  const boost::json::value parsed = boost::json::parse({node_json.data(), node_json.size()}, error);
  if (error || !parsed.is_object()) return {};
  std::string id = text_at(parsed.get_object(), "instance_id");
  // Half a name would be that of many nodes' cgroups.
  const bool whole = id.size() == kInstanceLength && std::all_of(id.begin(), id.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
                     });
  return whole ? id : std::string();
}

Status remove_cgroups_of(const std::string& data_dir) {
  const auto text = read_file(data_dir + "/node.json", 1 << 20);
  const std::string instance = text ? instance_of(*text) : std::string();
  return instance.empty() ? ok_status() : remove_cgroup("/muster/" + instance);
}

Status remove_cgroup(const std::string& path) {
  return agent::Cgroups(agent::probe_host().cgroups).kill_and_remove(path);
}

}  // namespace muster::deploy::lab
