#include "manager/control/image_questions.h"

#include <utility>

#include "base/time.h"

namespace muster::manager::control {

void ImageQuestions::ask(const std::string& image, const std::string& registry_auth, Then then) {
  const uint64_t id = ++last_id_;
  const bool full = under_way_.size() >= kUnderWayMax;
  Question& question = under_way_[id];
  question.then = std::move(then);
  if (resolver_ == nullptr || full) {
    const Status why = full ? resource_exhausted("too many questions to registries are under way")
                            : unavailable("this manager asks no registries");
    strand_.post([this, id, why] { answer(id, fail(why)); });
    return;
  }
  question.timer = strand_.after(kPatience, [this, id] {
    answer(id, fail(StatusCode::kDeadlineExceeded,
                    fmt::format("no answer within {}", format_duration(kPatience))));
  });
  resolver_->resolve(image, registry_auth,
                     [this, id](ImageAnswer found) { answer(id, std::move(found)); });
}

void ImageQuestions::answer(uint64_t id, ImageAnswer found) {
  const auto at = under_way_.find(id);
  if (at == under_way_.end()) return;  // given up before
  strand_.cancel(at->second.timer);
  Then then = std::move(at->second.then);
  under_way_.erase(at);
  then(std::move(found));
}

void ImageQuestions::end_all(const Status& why) {
  while (!under_way_.empty()) answer(under_way_.begin()->first, fail(why));
}

}  // namespace muster::manager::control
