#pragma once

#include "manager/store/store.h"
#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// A commit as a watcher asked to see it; no events when nothing of it is of interest.
v1::WatchResponse watch_response(const v1::WatchRequest& request, const store::CommitEvent& event);

}  // namespace muster::manager::control
