#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "agent/images/puller.h"
#include "base/status.h"

namespace muster::agent {

// An image found in an archive, with the full tags it had there.
struct ArchivedImage {
  ImageFiles files;
  std::vector<std::string> tags;  // "docker.io/library/busybox:1"
};

// Reads what `docker save`, `skopeo copy ... oci-archive:` or an OCI layout left in `dir`. Images
// of other platforms are left out. Names: the annotation io.containerd.image.name, else
// org.opencontainers.image.ref.name when it is a name with a tag (a bare tag there names nothing).
// A docker archive has no manifest of its own, so an OCI manifest over its layers is made; its
// digest depends on the archive's content alone.
// INVALID_ARGUMENT "... is neither a docker archive nor an OCI layout".
Result<std::vector<ArchivedImage>> read_archive(const std::filesystem::path& dir,
                                                const Platform& platform);

}  // namespace muster::agent
