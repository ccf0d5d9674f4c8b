#pragma once

#include <string>

#include "base/status.h"

namespace muster {

// Deletes a file, or a directory with all it holds; OK when there is none. Made for trees that
// strangers filled: symbolic links are never followed, nothing is deleted through a mount point
// (FAILED_PRECONDITION), and directories nested by the thousand cost neither stack nor
// descriptors. An error leaves the rest of the tree.
Status remove_tree(const std::string& path);
// The same for `name` in the open directory `parent`.
Status remove_tree(int parent, const std::string& name);

}  // namespace muster
