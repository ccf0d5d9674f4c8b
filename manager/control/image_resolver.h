#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_function.h"
#include "muster/v1/specs.pb.h"

namespace muster::manager::control {

// What a registry says of an image at one moment.
struct ResolvedImage {
  std::string digest;                   // "sha256:..."; empty: the image is to be left as it is
  std::vector<v1::Platform> platforms;  // it is built for; empty = any
};

// The port to registries. Called on the control API's strand and returns at once; `done` is called
// there later, or dropped uncalled when nobody can answer any more. Errors are for users.
class ImageResolver {
 public:
  using Done = UniqueFunction<void(Result<ResolvedImage>)>;

  virtual ~ImageResolver() = default;
  // `registry_auth` as in TaskSpec.
  virtual void resolve(const std::string& image, const std::string& registry_auth, Done done) = 0;
};

}  // namespace muster::manager::control
