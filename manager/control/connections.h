#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"
#include "manager/store/snapshot.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// Rules for networks in use: how they grow, and which tasks enter and leave them while they run.
// Pure.

// What a user typed for a task: its id, its name ("web.3": the one that runs, if any), its
// container's name ("web.3.<task id>") or id (12 digits at least), or a unique prefix of its id.
// NOT_FOUND, or INVALID_ARGUMENT where it means several.
Result<store::Ptr<v1::Task>> resolve_task(const store::Snapshot& state, std::string_view reference);

// The network as it will be when it has further subnets. FAILED_PRECONDITION for one that cannot
// grow, as it has no subnets; INVALID_ARGUMENT and ALREADY_EXISTS as when a network is made.
Result<v1::Network> grown(const store::Snapshot& state, const v1::Network& network,
                          const google::protobuf::RepeatedPtrField<v1::IpamPool>& pools);
// Sets and removes labels; keeps them sorted.
void change_labels(v1::Annotations& annotations,
                   const google::protobuf::RepeatedPtrField<v1::KeyValue>& set,
                   const google::protobuf::RepeatedPtrField<std::string>& removed);

// The task as it is when it is to enter the network: the allocator gives it an address there.
// PERMISSION_DENIED for a network that is not attachable, FAILED_PRECONDITION for tasks and
// networks this cannot be done with, ALREADY_EXISTS for a task that is in it and for an address in
// use, RESOURCE_EXHAUSTED for a network without a free address.
Result<v1::Task> connected(const store::Snapshot& state, const v1::Network& network,
                           const v1::Task& task, const v1::ConnectNetworkRequest& request);
// What a task that runs is to enter and has no address in yet, with the reason; empty when there is
// nothing of it. For people: the allocator decides by itself.
std::string waits_for(const store::Snapshot& state, const v1::Task& task);
// The task as it is when it has left the network. FAILED_PRECONDITION for one that its service is
// in, NOT_FOUND with reason "not-connected" for one that the task is not in.
Result<v1::Task> disconnected(const store::Snapshot& state, const v1::Network& network,
                              const v1::Task& task);

}  // namespace muster::manager::control
