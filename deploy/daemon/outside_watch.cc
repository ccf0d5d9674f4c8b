#include "deploy/daemon/outside_watch.h"

namespace muster::daemon {

OutsideWatch::Verdict OutsideWatch::heard(bool listed, bool led, TimePoint now) {
  if (listed || led) {
    since_.reset();
    return Verdict::kInside;
  }
  if (!since_) {
    since_ = now;
    return Verdict::kLook;
  }
  if (now - *since_ < kPatience) return Verdict::kInside;
  since_.reset();
  return Verdict::kOutside;
}

bool OutsideWatch::look(bool led) {
  if (led) since_.reset();
  return since_.has_value();
}

}  // namespace muster::daemon
