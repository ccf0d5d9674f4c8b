#pragma once

#include <boost/json/object.hpp>
#include <map>
#include <mutex>
#include <string>

#include "base/status.h"

namespace muster::agent {

// Compiles an OCI `linux.seccomp` object to the kernel's filter program, in base64: what crun takes
// in the annotation run.oci.seccomp_bpf_data instead of compiling the profile itself for every
// container (15 ms of CPU time, twice what all the rest of a start costs). Calls that this
// libseccomp does not know are skipped, as the runtime does.
Result<std::string> compile_seccomp(const boost::json::object& profile);

// Compiled programs by profile; there are as many as capability sets in use. Thread-safe.
class SeccompCache {
 public:
  Result<std::string> get(const boost::json::object& profile);

 private:
  static constexpr size_t kProfilesMax = 64;  // beyond, everything is forgotten
  std::mutex mutex_;
  std::map<std::string, std::string> programs_;  // by the profile's text
};

}  // namespace muster::agent
