#include "manager/store/update_status.h"

namespace muster::manager::store {

bool is_updating(const v1::UpdateStatus& status) {
  return status.state() == v1::UpdateStatus::UPDATING ||
         status.state() == v1::UpdateStatus::ROLLBACK_STARTED;
}

bool is_paused(const v1::UpdateStatus& status) {
  return status.state() == v1::UpdateStatus::PAUSED ||
         status.state() == v1::UpdateStatus::ROLLBACK_PAUSED;
}

bool is_unfinished(const v1::UpdateStatus& status) {
  return is_updating(status) || is_paused(status);
}

bool is_rollback(const v1::UpdateStatus& status) {
  return status.state() == v1::UpdateStatus::ROLLBACK_STARTED ||
         status.state() == v1::UpdateStatus::ROLLBACK_PAUSED;
}

}  // namespace muster::manager::store
