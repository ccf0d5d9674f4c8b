#include "manager/leader/leader_parts.h"

#include "base/check.h"

namespace muster::manager::leader {
namespace {

class FunctionPart final : public LeaderPart {
 public:
  FunctionPart(std::function<void()> start, std::function<void()> stop)
      : start_(std::move(start)), stop_(std::move(stop)) {}
  void start() override { start_(); }
  void stop() override { stop_(); }

 private:
  std::function<void()> start_;
  std::function<void()> stop_;
};

}  // namespace

std::unique_ptr<LeaderPart> make_part(std::function<void()> start, std::function<void()> stop) {
  return std::make_unique<FunctionPart>(std::move(start), std::move(stop));
}

void LeaderParts::add(std::string name, std::unique_ptr<LeaderPart> part) {
  MUSTER_CHECK(!running_, "a part is added while the parts run");
  parts_.push_back({std::move(name), std::move(part)});
}

void LeaderParts::start() {
  if (running_) return;
  running_ = true;
  for (Named& named : parts_) {
    log_->debug("starting {}", named.name);
    named.part->start();
  }
}

void LeaderParts::stop() {
  if (!running_) return;
  running_ = false;
  for (auto named = parts_.rbegin(); named != parts_.rend(); ++named) {
    log_->debug("stopping {}", named->name);
    named->part->stop();
  }
}

}  // namespace muster::manager::leader
