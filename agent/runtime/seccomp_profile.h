#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <vector>

namespace muster::agent {

// Docker's default system call filter as an OCI `linux.seccomp` object: everything is refused with
// EPERM except a list, which some capabilities extend. `architecture` is uname's ("x86_64");
// `capabilities` are those of the container ("CAP_SYS_ADMIN").
boost::json::object default_seccomp_profile(const std::string& architecture,
                                            const std::vector<std::string>& capabilities);

}  // namespace muster::agent
