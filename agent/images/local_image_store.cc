#include "agent/images/local_image_store.h"

#include <algorithm>
#include <filesystem>
#include <utility>

namespace muster::agent {
namespace {

// A private folder that goes away with its scope.
class TempFolder {
 public:
  explicit TempFolder(std::filesystem::path path) : path_(std::move(path)) {}
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// "busybox:1" of "docker.io/library/busybox:1", as a user reads it.
std::string familiar(const std::string& full) {
  const auto parsed = parse_reference(full);
  return parsed ? parsed->familiar() : full;
}

}  // namespace

LocalImageStore::LocalImageStore(ImageStoreOptions options, Log log)
    : options_(std::move(options)),
      log_(std::move(log)),
      content_(options_.data_dir / "images", log_),
      roots_(options_.data_dir / "images" / "roots", content_.layers_dir(), log_),
      puller_(options_, content_, log_),
      catalog_(options_.data_dir / "images" / "catalog.json") {}

Status LocalImageStore::open() {
  MUSTER_TRY(content_.open());
  MUSTER_TRY(roots_.open());
  std::vector<std::string> dropped;
  {
    std::lock_guard lock(mutex_);
    MUSTER_TRY(catalog_.load(content_, dropped));
  }
  for (const std::string& name : dropped) {
    log_->warn("image {} is not complete on this disk; it will be pulled again", name);
  }
  collect();
  return ok_status();
}

Result<ImageHandle> LocalImageStore::ensure(const PullRequest& request) {
  MUSTER_ASSIGN(const ImageReference image, parse_reference(request.reference));
  const std::string key = image.full();
  std::shared_ptr<Flight> flight;
  {
    std::unique_lock lock(mutex_);
    if (const CatalogEntryPtr entry = catalog_.find(image)) return entry->handle();
    if (const auto it = flights_.find(key); it != flights_.end()) {
      flight = it->second;
      landed_.wait(lock, [&] { return flight->done; });
      return flight->outcome;
    }
    flight = std::make_shared<Flight>();
    flights_.emplace(key, flight);
  }
  auto outcome = fetch(image, request);
  std::lock_guard lock(mutex_);
  flight->outcome = outcome;
  flight->done = true;
  flights_.erase(key);
  landed_.notify_all();
  return outcome;
}

Result<ImageHandle> LocalImageStore::fetch(const ImageReference& image,
                                           const PullRequest& request) {
  Puller::Watch watch;
  watch.progress = request.progress;
  watch.cancelled = request.cancelled.get();
  MUSTER_ASSIGN(FetchedImage fetched, puller_.pull(image, request.registry_auth, watch));
  std::vector<std::string> tags;
  if (!image.tag.empty()) tags.push_back(image.tagged());
  const std::string digest_name = image.name() + "@" + fetched.entry.record.digest;
  return record(std::move(fetched), tags, digest_name);
}

Result<ImageHandle> LocalImageStore::record(FetchedImage fetched,
                                            const std::vector<std::string>& tags,
                                            const std::string& digest_name) {
  fetched.entry.record.tags.insert(tags.begin(), tags.end());
  if (!digest_name.empty()) fetched.entry.record.digests.insert(digest_name);
  ImageHandle handle = fetched.entry.handle();
  std::lock_guard lock(mutex_);
  MUSTER_TRY(catalog_.put(std::move(fetched.entry)));
  return handle;
}

Result<ImageHandle> LocalImageStore::find(const std::string& reference) {
  std::lock_guard lock(mutex_);
  MUSTER_ASSIGN(const CatalogEntryPtr entry, catalog_.find_by_text(reference));
  if (entry == nullptr) return fail(not_found("No such image: {}", reference));
  return entry->handle();
}

Result<std::string> LocalImageStore::mount_root(const ImageHandle& image,
                                                const std::string& container_id) {
  CatalogEntryPtr entry;
  {
    std::lock_guard lock(mutex_);
    MUSTER_ASSIGN(entry, catalog_.find_by_text(image.digest));
  }
  if (entry == nullptr) return fail(not_found("No such image: {}", image.digest));
  return roots_.mount(entry->record, container_id);
}

Status LocalImageStore::unmount_root(const std::string& container_id) {
  return roots_.unmount(container_id);
}

Result<std::vector<std::string>> LocalImageStore::mounted_roots() {
  return roots_.containers();
}

v1::Image LocalImageStore::describe(const CatalogEntry& entry) const {
  const ImageRecord& record = entry.record;
  v1::Image image;
  image.set_id(record.config_id);
  image.set_digest(record.digest);
  for (const std::string& tag : record.tags) image.add_references(familiar(tag));
  for (const std::string& digest : record.digests) image.add_references(familiar(digest));
  image.set_created_at_ns(record.created_at_ns);
  image.set_size_bytes(record.size_bytes);
  image.set_users(static_cast<uint32_t>(roots_.users_of(record.digest).size()));
  image.set_os(record.os);
  image.set_architecture(record.architecture);
  return image;
}

Result<std::vector<v1::Image>> LocalImageStore::list() {
  std::vector<v1::Image> images;
  std::lock_guard lock(mutex_);
  for (const CatalogEntryPtr& entry : catalog_.all()) images.push_back(describe(*entry));
  return images;
}

Result<std::vector<v1::Image>> LocalImageStore::load(const std::string& tar_path) {
  MUSTER_ASSIGN(auto path, content_.make_temp());
  const TempFolder temp(std::move(path));
  const std::filesystem::path tree = temp.path() / "archive";
  std::error_code error;
  std::filesystem::create_directory(tree, error);
  if (error) return fail(errno_status(error.value(), "cannot unpack the archive"));
  UnpackOptions unpack;
  unpack.limits = options_.unpack;
  unpack.ownership = Ownership::kIgnore;
  unpack.whiteouts = Whiteouts::kNone;
  if (const auto unpacked = unpack_layer(tar_path, tree, unpack); !unpacked) {
    return fail(unpacked.error().with_context("cannot read the archive"));
  }
  MUSTER_ASSIGN(const auto found, read_archive(tree, options_.platform));
  std::vector<v1::Image> images;
  for (const ArchivedImage& image : found) {
    const std::string name = image.tags.empty() ? image.files.identity : image.tags.front();
    MUSTER_ASSIGN(FetchedImage fetched, puller_.commit(image.files, temp.path(), name, {}));
    const std::string digest = fetched.entry.record.digest;
    MUSTER_ASSIGN(const ImageHandle handle, record(std::move(fetched), image.tags, {}));
    (void)handle;
    std::lock_guard lock(mutex_);
    MUSTER_ASSIGN(const CatalogEntryPtr entry, catalog_.find_by_text(digest));
    if (entry != nullptr) images.push_back(describe(*entry));
  }
  return images;
}

Result<v1::RemoveImageResponse> LocalImageStore::remove(const std::string& reference, bool force) {
  v1::RemoveImageResponse response;
  {
    std::lock_guard lock(mutex_);
    MUSTER_ASSIGN(const CatalogEntryPtr entry, catalog_.find_by_text(reference));
    if (entry == nullptr) return fail(not_found("No such image: {}", reference));
    const ImageRecord& record = entry->record;
    const auto parsed = parse_reference(reference);
    const bool by_tag = parsed && parsed->digest.empty() && record.tags.contains(parsed->tagged());
    if (by_tag && record.tags.size() > 1) {
      // Only a name goes; the image has others.
      MUSTER_TRY(catalog_.untag(record.digest, {parsed->tagged()}));
      response.add_untagged(parsed->familiar());
      return response;
    }
    const auto users = roots_.users_of(record.digest);
    if (!users.empty()) {
      return fail(failed_precondition(
          "conflict: unable to remove image {} - it is used by {} container{}, the first is {}",
          reference, users.size(), users.size() == 1 ? "" : "s", users.front().substr(0, 12)));
    }
    if (!by_tag && record.tags.size() > 1 && !force) {
      return fail(failed_precondition(
          "conflict: unable to remove image {} - it has {} names; use --force to remove it anyway",
          reference, record.tags.size()));
    }
    for (const std::string& tag : record.tags) response.add_untagged(familiar(tag));
    response.add_deleted(record.digest);
    MUSTER_TRY(catalog_.erase({record.digest}));
  }
  collect();
  return response;
}

Result<v1::PruneImagesResponse> LocalImageStore::prune(bool all) {
  v1::PruneImagesResponse response;
  {
    std::lock_guard lock(mutex_);
    std::vector<std::string> digests;
    for (const CatalogEntryPtr& entry : catalog_.all()) {
      const ImageRecord& record = entry->record;
      if ((all || record.tags.empty()) && roots_.users_of(record.digest).empty()) {
        digests.push_back(record.digest);
      }
    }
    MUSTER_TRY(catalog_.erase(digests));
    for (std::string& digest : digests) response.add_deleted(std::move(digest));
  }
  response.set_freed_bytes(collect());
  return response;
}

uint64_t LocalImageStore::collect() {
  return content_.collect([this] {
    std::lock_guard lock(mutex_);
    return catalog_.live();
  });
}

Result<std::unique_ptr<ImageStore>> make_image_store(ImageStoreOptions options, Log log) {
  auto store = std::make_unique<LocalImageStore>(std::move(options), std::move(log));
  MUSTER_TRY(store->open());
  return store;
}

}  // namespace muster::agent
