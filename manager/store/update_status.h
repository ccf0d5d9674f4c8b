#pragma once

#include "muster/v1/objects.pb.h"

namespace muster::manager::store {

// Whether slots are being replaced: the state is updating or rollback_started.
bool is_updating(const v1::UpdateStatus& status);
// An update or a rollback that stopped in the middle.
bool is_paused(const v1::UpdateStatus& status);
// Updating or going back, or paused in the middle of either.
bool is_unfinished(const v1::UpdateStatus& status);
// Started or paused.
bool is_rollback(const v1::UpdateStatus& status);

}  // namespace muster::manager::store
