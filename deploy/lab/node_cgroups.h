#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::deploy::lab {

// The instance id in the text of a node.json; empty when there is none that names one node.
std::string instance_of(std::string_view node_json);

// Removes the cgroups of the containers of the musterd whose data is there, with what runs in them.
// OK when there are none.
Status remove_cgroups_of(const std::string& data_dir);
// Removes a cgroup by its path, with what runs in it.
Status remove_cgroup(const std::string& path);

}  // namespace muster::deploy::lab
