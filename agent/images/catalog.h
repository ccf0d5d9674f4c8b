#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/images/content_store.h"
#include "agent/images/image_store.h"
#include "agent/images/reference.h"
#include "base/status.h"

namespace muster::agent {

// One image as the catalog remembers it.
struct ImageRecord {
  std::string digest;           // of the manifest or index as the registry has it: the identity
  std::string manifest_digest;  // of this platform's manifest; the same unless there is an index
  std::string config_id;
  std::set<std::string> tags;     // "docker.io/library/busybox:latest"
  std::set<std::string> digests;  // "docker.io/library/busybox@sha256:..."
  std::string os;
  std::string architecture;
  int64_t created_at_ns = 0;
  uint64_t size_bytes = 0;        // unpacked
  std::vector<LayerBlob> layers;  // lowest first

  std::string short_name() const;  // a name for messages
};

// A record with its configuration; immutable once shared.
struct CatalogEntry {
  ImageRecord record;
  ImageConfig config;

  ImageHandle handle() const { return {record.digest, record.config_id, config}; }
};
using CatalogEntryPtr = std::shared_ptr<const CatalogEntry>;

// The images of the node by every name they have: in memory, so a look-up costs a hash, and in
// catalog.json, rewritten and synced at each change. Not thread-safe; LocalImageStore locks.
class Catalog {
 public:
  explicit Catalog(std::filesystem::path file) : file_(std::move(file)) {}

  // Reads the file; no file is an empty catalog. Images whose configuration or layers are gone are
  // left out and named in `dropped`. FAILED_PRECONDITION for a version this program does not know.
  Status load(const ContentStore& content, std::vector<std::string>& dropped);

  // By digest when the reference has one, else by tag; null when there is none.
  CatalogEntryPtr find(const ImageReference& reference) const;
  // By what a user may type: a reference, "sha256:...", an id or its beginning. INVALID_ARGUMENT
  // when the beginning suits several.
  Result<CatalogEntryPtr> find_by_text(const std::string& text) const;

  // Adds an image, or names to one that is there. A tag moves away from the image that had it.
  Status put(CatalogEntry entry);
  Status untag(const std::string& digest, const std::vector<std::string>& names);
  Status erase(const std::vector<std::string>& digests);

  // Sorted by digest.
  std::vector<CatalogEntryPtr> all() const;
  ContentStore::Live live() const;

 private:
  Status save() const;
  void index(const CatalogEntryPtr& entry);
  void rebuild();

  const std::filesystem::path file_;
  std::map<std::string, CatalogEntryPtr> images_;             // by digest
  std::unordered_map<std::string, CatalogEntryPtr> by_name_;  // tags and all digests
};

}  // namespace muster::agent
