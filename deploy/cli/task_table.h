#pragma once

#include <map>
#include <string>
#include <vector>

#include "deploy/cli/listing.h"
#include "deploy/cli/run.h"

namespace muster::deploy::cli {

// The table of tasks that service ps, stack ps, node ps and task ls share.
struct TaskTable {
  std::vector<v1::Task> tasks;
  std::map<std::string, v1::Revision> revisions;  // by id
  std::map<std::string, std::string> node_names;  // by id
  bool no_resolve = false;

  // Docker's order: name naturally, newest first; older attempts of a slot are marked " \_ ".
  Listing listing(const ListOptions& options, int64_t now_ns) const;

  // Adds the tasks that the filter selects, with their revisions.
  Status fetch(Run& run, const v1::ListFilter& filter);
  Status fetch_nodes(Run& run);
  // --filter of the ps commands: id, name, node, desired-state, service.
  Status apply(const Filters& filters);
};

// "web.1" of a service: what tasks are called in tables and logs.
std::string revision_id(const v1::Task& task);
// Hostname, else id, of all nodes.
Result<std::map<std::string, std::string>> node_names(Run& run);
// "*:8080->80/tcp, ..." of host-mode or ingress ports.
std::string ports_text(const google::protobuf::RepeatedPtrField<v1::PortConfig>& ports,
                       bool ingress_only);
// Without a digest when there is a tag; as ls and ps show it.
std::string image_text(const std::string& image, bool no_trunc);

}  // namespace muster::deploy::cli
