#pragma once

#include <functional>
#include <set>
#include <string>

#include "base/status.h"
#include "base/unique_fd.h"
#include "overlay/dataplane/container/attach_plan.h"
#include "overlay/dataplane/kernel/namespaces.h"
#include "overlay/dataplane/kernel/netlink.h"

namespace muster::overlay {

// A way into a container's namespace that needs no thread there.
struct Inside {
  NetlinkSocket socket;  // rtnetlink
  UniqueFd ns;
};

// Makes the container's namespace, or finds the one it has, with its settings. Notes in the plan
// which interfaces exist already. On a thread of its own.
Result<Inside> prepare_namespace(NamespaceDir& pins, const ContainerNetworkRequest& request,
                                 AttachPlan& plan);
// The namespace of a container that runs, with settings for IPv6 where it is to enter a network
// that has it, and the names of its interfaces. NOT_FOUND where there is none.
Result<Inside> enter_namespace(const NamespaceDir& pins, const std::string& container_id, bool v6,
                               std::set<std::string>& interfaces);
// Once all pairs are made: addresses, up, routes.
Status configure_inside(NetlinkSocket& inside, AttachPlan& plan);

// What a former process left: for each pinned namespace that `wanted` names, its addresses but
// those of loopback and link-local ones. Namespaces that cannot be entered are left out.
Status visit_addresses(const NamespaceDir& pins, const std::vector<std::string>& wanted,
                       const std::function<void(const std::string& name, const Ip& ip)>& visit);

}  // namespace muster::overlay
