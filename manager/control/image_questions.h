#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/executor.h"
#include "manager/control/image_pinning.h"
#include "manager/control/image_resolver.h"

namespace muster::manager::control {

// Questions to registries under way: each is answered once, at the latest when its time is over.
// Lives on the strand; the strand runs nothing any more when it is destroyed.
class ImageQuestions {
 public:
  using Then = UniqueFunction<void(ImageAnswer)>;

  static constexpr Duration kPatience = 15s;  // time for one answer
  static constexpr size_t kUnderWayMax = 256;

  explicit ImageQuestions(Executor& strand) : strand_(strand) {}

  // Before the first question; null: every question fails. Outlives this.
  void use(ImageResolver* resolver) { resolver_ = resolver; }

  // `then` runs later, never from inside ask().
  void ask(const std::string& image, const std::string& registry_auth, Then then);
  // Ends all that are under way with `why`.
  void end_all(const Status& why);

 private:
  struct Question {
    Executor::TimerId timer = 0;
    Then then;
  };
  void answer(uint64_t id, ImageAnswer answer);

  Executor& strand_;
  ImageResolver* resolver_ = nullptr;
  uint64_t last_id_ = 0;
  std::map<uint64_t, Question> under_way_;
};

}  // namespace muster::manager::control
