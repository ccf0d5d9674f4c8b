#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/runtime/runtime.h"
#include "base/status.h"
#include "base/time.h"
#include "muster/v1/local.pb.h"

namespace muster::agent {

struct PullProgress {
  enum class Step { kResolving, kDownloading, kUnpacking, kDone };
  Step step = Step::kResolving;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;  // 0 until the manifest is known
};

struct PullRequest {
  std::string reference;      // "name[:tag][@digest]", short names mean docker.io
  std::string registry_auth;  // auth.json text (containers-auth.json(5)), or empty
  bool refresh = false;       // ask the registry again although the tag is present
  std::function<void(const PullProgress&)> progress;   // may be empty
  std::shared_ptr<const std::atomic<bool>> cancelled;  // may be null
};

// A local image, ready to be mounted.
struct ImageHandle {
  std::string digest;     // sha256:... of the manifest as the registry has it
  std::string config_id;  // sha256:... of the configuration
  ImageConfig config;
};

// What a registry has under a name right now.
struct RemoteImage {
  std::string digest;  // empty: the name is of an image that was loaded here, no registry's
  std::vector<v1::Platform> platforms;  // it is built for; empty when it does not say
};

// The node's images: a content-addressed store of blobs and unpacked layers. Calls block and are
// thread-safe; one pull at a time per image, others of the same image join it.
class ImageStore {
 public:
  virtual ~ImageStore() = default;

  // Makes the image present and unpacked. A reference with a digest, or one whose tag is present
  // and `refresh` is not set, does not touch the network.
  virtual Result<ImageHandle> ensure(const PullRequest& request) = 0;
  // The local image of a reference; NOT_FOUND "No such image: x".
  virtual Result<ImageHandle> find(const std::string& reference) = 0;

  // Asks the registry, or a mirror, what the reference is now; fetches no image. `request` as for
  // ensure(), `progress` and `refresh` aside; UNAVAILABLE when there is no answer within `limit`.
  virtual Result<RemoteImage> inspect_remote(const PullRequest& request, Duration limit) = 0;

  // Mounts a writable root file system for a container (overlayfs over the image's layers) and
  // takes a reference on the image until unmount_root. Survives a restart of the process; calling
  // it again for the same container is a no-op that returns the same path.
  virtual Result<std::string> mount_root(const ImageHandle& image,
                                         const std::string& container_id) = 0;
  // Unmounts and deletes the container's writable layer, drops the reference. Idempotent.
  virtual Status unmount_root(const std::string& container_id) = 0;
  // Containers that hold a root here, for finding left-overs.
  virtual Result<std::vector<std::string>> mounted_roots() = 0;

  virtual Result<std::vector<v1::Image>> list() = 0;
  // A docker archive or OCI layout as a tar file.
  virtual Result<std::vector<v1::Image>> load(const std::string& tar_path) = 0;
  virtual Result<v1::RemoveImageResponse> remove(const std::string& reference, bool force) = 0;
  virtual Result<v1::PruneImagesResponse> prune(bool all) = 0;
};

}  // namespace muster::agent
