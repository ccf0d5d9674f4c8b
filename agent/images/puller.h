#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "agent/images/catalog.h"
#include "agent/images/content_store.h"
#include "agent/images/image_store.h"
#include "agent/images/options.h"
#include "agent/images/registry.h"
#include "base/log.h"
#include "base/status.h"

namespace muster::agent {

// An image brought into the content store. `pin` keeps the collector away until the catalog has
// the entry.
struct FetchedImage {
  CatalogEntry entry;
  ContentStore::Pin pin;
};

// One image's files as they lie in a private folder, before they are trusted.
struct ImageFiles {
  std::string identity;      // digest of `top`
  std::string top;           // manifest or index as the registry has it
  std::string manifest_raw;  // this platform's; the same as `top` without an index
  Manifest manifest;
  std::string config_raw;
  // Where the blob of a digest is, if it is in the folder.
  std::function<std::filesystem::path(const std::string& digest)> blob;
};

// Fetches images: registry or archive -> private folder -> verified into the content store ->
// unpacked. Stateless, thread-safe; calls block. A failed or killed fetch leaves nothing but
// private folders, which the content store deletes at its next start.
class Puller {
 public:
  struct Watch {
    std::function<void(const PullProgress&)> progress;  // may be empty; several threads
    const std::atomic<bool>* cancelled = nullptr;       // may be null
  };

  Puller(const ImageStoreOptions& options, ContentStore& content, Log log)
      : options_(options), registry_(options), content_(content), log_(std::move(log)) {}

  // From the registry or one of its mirrors; `auth` is auth.json's text or empty.
  Result<FetchedImage> pull(const ImageReference& image, const std::string& auth,
                            const Watch& watch);

  // What the registry has under the name; nothing is kept. `cancelled` may be empty.
  Result<RemoteImage> inspect(const ImageReference& image, const std::string& auth,
                              const std::function<bool()>& cancelled);

  // Verifies and unpacks what is in a private folder; for archives too.
  Result<FetchedImage> commit(const ImageFiles& files, const std::filesystem::path& temp,
                              const std::string& name, const Watch& watch);

 private:
  struct Job;
  Status write_auth(const std::filesystem::path& temp, const std::string& auth,
                    RegistryAccess& access) const;
  Result<ImageFiles> resolve(Job& job, const RegistryEndpoint& from);
  Status download(Job& job, const RegistryEndpoint& from, ImageFiles& files);
  Result<ImageFiles> fetch(Job& job, const RegistryEndpoint& from);
  Status check_disk(const Job& job, uint64_t bytes_missing) const;

  const ImageStoreOptions& options_;
  const Registry registry_;
  ContentStore& content_;
  const Log log_;
};

}  // namespace muster::agent
