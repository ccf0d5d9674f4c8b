#pragma once

#include <cstdint>

#include "base/status.h"

namespace muster::agent {

// Copies what is in the directory `source` into the directory `target` (descriptors that can be
// read, not O_PATH ones): files, directories, symlinks, hard links among them, FIFOs and devices,
// with owners, modes, times and extended attributes; then gives `target` itself the owner, mode and
// attributes of `source`. Follows no symlink in either tree, so nothing outside of them is read or
// written, whatever a container does in `target` meanwhile.
//
// What `target` has already is kept, and each file appears complete or not at all: a copy that was
// cut off is finished by copying again. Returns the number of entries copied.
Result<uint64_t> copy_up(int source, int target);

// True when there is nothing in the directory, ext4's lost+found apart.
Result<bool> is_empty_directory(int directory);

}  // namespace muster::agent
