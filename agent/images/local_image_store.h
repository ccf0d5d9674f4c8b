#pragma once

#include <memory>

#include "agent/images/image_store.h"
#include "agent/images/options.h"
#include "base/log.h"
#include "base/status.h"

namespace muster::agent {

// The node's image store under <data_dir>/images; README.md has the layout. Needs root, for
// overlayfs mounts and owners. Reads the catalog, deletes what a crash left half-made and collects
// what no image names. One process at a time per data_dir. The destructor cancels running pulls
// and waits for them; mounts stay.
Result<std::unique_ptr<ImageStore>> make_image_store(const ImageStoreOptions& options, Log log);

}  // namespace muster::agent
