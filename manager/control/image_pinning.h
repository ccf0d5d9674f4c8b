#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "manager/control/image_resolver.h"
#include "muster/v1/specs.pb.h"

// Pinning an image to what its tag means now, so that all nodes run the same. Pure.
namespace muster::manager::control {

// Whether the name says by itself which image it is.
bool has_digest(std::string_view image);
// "busybox" and "sha256:1..." make "busybox:latest@sha256:1...".
std::string with_digest(std::string_view image, std::string_view digest);

// The registry's answer for one service's image, or why there is none.
using ImageAnswer = Result<ResolvedImage>;

// Puts the answer into the spec: digest, and platforms unless the spec names some already, which
// are the user's wish. Without an answer the image stays as it is written; but where `known`, the
// service's spec so far, has that very name with a digest, the digest stays: a registry that is
// away replaces no task.
void pin_image(const ImageAnswer& answer, const v1::TaskSpec* known, v1::TaskSpec& spec);

// Docker's warning for a registry that did not answer, with the reason; `image` as asked for,
// `stored` as the service has it now.
std::string unpinned_warning(std::string_view image, std::string_view stored, const Status& why);

}  // namespace muster::manager::control
