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
  MUSTER_CHECK(term_ == 0, "a part is added while the parts run");
  parts_.push_back({std::move(name), std::move(part)});
}

void LeaderParts::lead(uint64_t term) {
  MUSTER_CHECK(term != 0, "leading needs a term");
  if (term_ == term && store_.leading()) return;
  end_leading();
  term_ = term;
  store_.lead(term);
  for (Named& named : parts_) {
    log_->debug("starting {}", named.name);
    named.part->start();
  }
}

void LeaderParts::end_leading() {
  if (std::exchange(term_, 0) == 0) return;
  for (auto named = parts_.rbegin(); named != parts_.rend(); ++named) {
    log_->debug("stopping {}", named->name);
    named->part->stop();
  }
  store_.end_leading();
}

}  // namespace muster::manager::leader
