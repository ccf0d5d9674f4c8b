#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "agent/runtime/host_facts.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/user_lookup.h"
#include "base/status.h"

namespace muster::agent {

// Texts of the image that the bundle depends on; read by the caller.
struct ImageFiles {
  std::string passwd;
  std::string group;
};

// A container's config.json (OCI runtime specification 1.0) by Docker's rules. Pure: the same
// arguments give the same document. Errors are the user's: an unknown user, capability or signal,
// no command, something this node does not allow.
Result<boost::json::object> make_bundle(const ContainerRequest& request, const HostFacts& host,
                                        const ImageFiles& files);

// The absolute cgroup path of a container, below every controller's mount point.
std::string cgroup_path(std::string_view instance_id, std::string_view container_id);
// Stands where a container's id does for the cgroup of this instance's netd, which ends with the
// rest at teardown.
inline constexpr const char* kNetdCgroup = "netd";

// The parts, for tests and for exec.

// Entrypoint and command: a command in the spec replaces the image's entrypoint and drops its cmd;
// args alone replace the cmd.
Result<std::vector<std::string>> container_args(const v1::ContainerSpec& spec,
                                                const ImageConfig& image);
// Later lists win over earlier ones, a name keeps its first place; "NAME" alone unsets.
std::vector<std::string> merge_env(const std::vector<std::vector<std::string>>& lists);
// PATH, HOSTNAME, TERM, then the image's, the spec's, the extra ones, HOME when nobody set it.
std::vector<std::string> container_env(const ContainerRequest& request, const std::string& home);
// The OCI `process.user` object.
boost::json::object user_object(const ResolvedUser& user);
// The OCI `process.capabilities` object: bounding for all, effective and permitted for root only.
boost::json::object capabilities_object(const std::vector<std::string>& names, bool root);
// The OCI `linux.resources` object.
boost::json::object resources_object(const v1::TaskSpec& spec, const HostFacts& host,
                                     bool privileged);
// The OCI `mounts` array. Sorted so that a mount never hides one that is inside it.
Result<boost::json::array> mounts_array(const ContainerRequest& request, const HostFacts& host,
                                        bool with_init);

// Where an init program is bound in the container.
inline constexpr std::string_view kInitTarget = "/sbin/docker-init";

}  // namespace muster::agent
