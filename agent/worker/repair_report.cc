#include "agent/worker/repair_report.h"

#include <utility>

namespace muster::agent {

RepairReport::RepairReport(Executor& strand, Tell tell) : strand_(strand), tell_(std::move(tell)) {}

RepairReport::~RepairReport() {
  strand_.cancel(timer_);
}

void RepairReport::add(const std::vector<std::string>& found) {
  if (found.empty()) return;
  differences_ += found.size();
  at_ns_ = strand_.clock().wall_now().unix_ns;
  for (const std::string& what : found) {
    last_.push_back(what);
    if (last_.size() > kLast) last_.pop_front();
  }
  untold_ = true;
  if (timer_ == 0) tell_now();
}

void RepairReport::tell_now() {
  timer_ = 0;
  if (!std::exchange(untold_, false)) return;
  timer_ = strand_.after(kBetween, [this] { tell_now(); });
  v1::NetworkRepairs out;
  out.set_differences(differences_);
  out.mutable_last()->Assign(last_.begin(), last_.end());
  out.set_at_ns(at_ns_);
  tell_(out);
}

}  // namespace muster::agent
