#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "agent/images/archive_loader.h"
#include "agent/images/catalog.h"
#include "agent/images/container_roots.h"
#include "agent/images/content_store.h"
#include "agent/images/image_store.h"
#include "agent/images/options.h"
#include "agent/images/puller.h"
#include "base/log.h"

namespace muster::agent {

// The node's images on its own disk: content store, catalog of names, and the roots of containers.
//
// A reference whose tag or digest is present is answered from memory, without the network: a tag is
// resolved once, at the first use on this node. `muster image pull` is how it is refreshed.
class LocalImageStore final : public ImageStore {
 public:
  LocalImageStore(ImageStoreOptions options, Log log);
  // Reads what there is and deletes what a killed process left half done.
  Status open();

  Result<ImageHandle> ensure(const PullRequest& request) override;
  Result<ImageHandle> find(const std::string& reference) override;
  Result<std::string> mount_root(const ImageHandle& image,
                                 const std::string& container_id) override;
  Status unmount_root(const std::string& container_id) override;
  Result<std::vector<std::string>> mounted_roots() override;
  Result<std::vector<v1::Image>> list() override;
  Result<std::vector<v1::Image>> load(const std::string& tar_path) override;
  Result<v1::RemoveImageResponse> remove(const std::string& reference, bool force) override;
  Result<v1::PruneImagesResponse> prune(bool all) override;

 private:
  // One pull under way; others of the same image wait for it and share its outcome.
  struct Flight {
    bool done = false;
    Result<ImageHandle> outcome = fail(StatusCode::kUnknown, "not finished");
  };

  Result<ImageHandle> fetch(const ImageReference& image, const PullRequest& request);
  Result<ImageHandle> record(FetchedImage fetched, const std::vector<std::string>& tags,
                             const std::string& digest_name);
  v1::Image describe(const CatalogEntry& entry) const;
  uint64_t collect();

  const ImageStoreOptions options_;
  const Log log_;
  ContentStore content_;
  ContainerRoots roots_;
  Puller puller_;
  mutable std::mutex mutex_;  // of what follows
  std::condition_variable landed_;
  Catalog catalog_;
  std::map<std::string, std::shared_ptr<Flight>> flights_;  // by full reference
};

// Opens the store of `options.data_dir`, making it when there is none.
Result<std::unique_ptr<ImageStore>> make_image_store(ImageStoreOptions options, Log log);

}  // namespace muster::agent
