#include "manager/control/image_pinning.h"

#include <fmt/format.h>

namespace muster::manager::control {
namespace {

std::string tagged(std::string_view image) {
  const size_t slash = image.rfind('/');
  const size_t colon = image.find(':', slash == std::string_view::npos ? 0 : slash);
  return std::string(image) + (colon == std::string_view::npos ? ":latest" : "");
}

}  // namespace

bool has_digest(std::string_view image) {
  return image.find('@') != std::string_view::npos;
}

std::string with_digest(std::string_view image, std::string_view digest) {
  return fmt::format("{}@{}", tagged(image), digest);
}

void pin_image(const ImageAnswer& answer, const v1::TaskSpec* known, v1::TaskSpec& spec) {
  v1::ContainerSpec& container = *spec.mutable_container();
  const bool platforms_given = spec.placement().platforms_size() > 0;
  if (answer) {
    for (const v1::Platform& platform : answer->platforms) {
      if (!platforms_given) *spec.mutable_placement()->add_platforms() = platform;
    }
    if (!answer->digest.empty()) {
      container.set_image(with_digest(container.image(), answer->digest));
    }
    return;
  }
  if (known == nullptr) return;
  const std::string& pinned = known->container().image();
  const size_t at = pinned.find('@');
  if (at == std::string::npos || pinned.substr(0, at) != tagged(container.image())) return;
  container.set_image(pinned);
  if (platforms_given || known->placement().platforms().empty()) return;
  *spec.mutable_placement()->mutable_platforms() = known->placement().platforms();
}

std::string unpinned_warning(std::string_view image, std::string_view stored, const Status& why) {
  if (has_digest(stored)) {
    return fmt::format(
        "image {} could not be accessed on a registry to record its digest; the service keeps the "
        "one it has, {} ({})",
        image, stored.substr(stored.find('@') + 1), why.message());
  }
  return fmt::format(
      "image {0} could not be accessed on a registry to record its digest. Each node will access "
      "{0} independently, possibly leading to different nodes running different versions of the "
      "image. ({1})",
      image, why.message());
}

}  // namespace muster::manager::control
