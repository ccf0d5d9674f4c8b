#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::agent {

struct ResolvedUser {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups;  // additional ones, sorted, without gid
  std::string home = "/";
};

// Docker's rule for "user[:group]" (names or numbers; empty = root) against the texts of the
// image's /etc/passwd and /etc/group. A number needs no entry. A user given without a group gets
// its primary group and those of /etc/group that list it; with a group, only that one. `groups`
// are added in any case. Errors (INVALID_ARGUMENT) name the user or group that is missing.
Result<ResolvedUser> resolve_user(std::string_view user, const std::vector<std::string>& groups,
                                  std::string_view passwd, std::string_view group);

// Reads a file inside a root file system without ever leaving it, whatever links it holds. A
// missing file gives an empty text.
Result<std::string> read_in_root(const std::string& rootfs, const std::string& path,
                                 size_t bytes_max);

// Makes the directory `path` inside the root file system with its parents, owned by uid and gid
// (only those it makes), following links only inside. FAILED_PRECONDITION when something that is
// no directory is in the way.
Status make_directory_in_root(const std::string& rootfs, const std::string& path, uint32_t uid,
                              uint32_t gid);

}  // namespace muster::agent
