#pragma once

#include <google/protobuf/repeated_ptr_field.h>

#include <string>
#include <string_view>

#include "base/status.h"
#include "muster/v1/specs.pb.h"

namespace muster::agent {

// INVALID_ARGUMENT with Docker's words unless the name is one a user may give: two to 255 letters,
// digits and "_.-", the first a letter or digit.
Status check_volume_name(std::string_view name);

// What mount(2) gets for a volume with driver options, as Docker's local driver reads them:
// type, device, and in `o` a comma-separated list as in fstab.
struct VolumeMount {
  std::string type;
  std::string device;
  unsigned long flags = 0;        // MS_*, propagation not among them
  unsigned long propagation = 0;  // MS_SHARED and the like, 0 = none asked for
  std::string data;               // what the file system itself understands
  std::string address;            // addr= of network file systems, resolved when mounting

  bool needed() const { return !type.empty(); }
};

// Pure. No options give a VolumeMount that is not needed. INVALID_ARGUMENT for an unknown option,
// one that lacks its companions (`o` needs type and device, those need each other), `size`, which
// asks for a quota, and a bind of a relative path.
Result<VolumeMount> parse_driver_options(
    const google::protobuf::RepeatedPtrField<v1::KeyValue>& options);

}  // namespace muster::agent
