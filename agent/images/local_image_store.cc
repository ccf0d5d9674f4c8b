#include "agent/images/local_image_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>

#include "agent/images/archive_loader.h"
#include "agent/images/catalog.h"
#include "agent/images/container_roots.h"
#include "agent/images/content_store.h"
#include "agent/images/digest.h"
#include "agent/images/pull_flights.h"
#include "agent/images/puller.h"
#include "base/file.h"
#include "base/remove_tree.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

std::string familiar(const std::string& full_name) {
  const auto reference = parse_reference(full_name);
  return reference ? reference->familiar() : full_name;
}

class LocalImageStore final : public ImageStore {
 public:
  LocalImageStore(const ImageStoreOptions& options, Log log)
      : options_(options),
        log_(std::move(log)),
        content_(options_.data_dir / "images", log_),
        catalog_(options_.data_dir / "images" / "catalog.json"),
        roots_(options_.data_dir / "images" / "roots", content_.layers_dir(), log_),
        puller_(options_, content_, log_) {}

  Status open() {
    // Closed to the host's users: images and containers hold programs that run as root for whoever
    // starts them, and files that are readable for everybody in a container only.
    const fs::path dir = options_.data_dir / "images";
    MUSTER_TRY(make_directory(dir, 0700));
    if (chmod(dir.c_str(), 0700) != 0) return errno_status(errno, dir.string());
    MUSTER_TRY(content_.open());
    remove_temporaries(dir);
    std::vector<std::string> dropped;
    MUSTER_TRY(catalog_.load(content_, dropped));
    for (const std::string& image : dropped) log_->warn("forgetting damaged image {}", image);
    MUSTER_TRY(roots_.open());
    collect();
    return ok_status();
  }

  Result<ImageHandle> ensure(const PullRequest& request) override;
  Result<ImageHandle> find(const std::string& reference) override;
  Result<RemoteImage> inspect_remote(const PullRequest& request, Duration limit) override;
  Result<std::string> mount_root(const ImageHandle& image,
                                 const std::string& container_id) override;
  Status unmount_root(const std::string& container_id) override {
    return roots_.unmount(container_id);
  }
  Result<std::vector<std::string>> mounted_roots() override { return roots_.containers(); }
  Result<std::vector<v1::Image>> list() override;
  Result<std::vector<v1::Image>> load(const std::string& tar_path) override;
  Result<v1::RemoveImageResponse> remove(const std::string& reference, bool force) override;
  Result<v1::PruneImagesResponse> prune(bool all) override;

 private:
  Result<ImageHandle> pull(const ImageReference& reference, const std::string& auth,
                           const Puller::Watch& watch);
  Result<CatalogEntryPtr> lookup(const std::string& text);
  CatalogEntryPtr lookup(const ImageReference& reference) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return catalog_.find(reference);
  }
  v1::Image describe(const CatalogEntry& entry) const;
  Result<v1::Image> load_one(const ArchivedImage& image, const fs::path& temp);
  uint64_t collect();
  // After a failure that may have left blobs. Does not wait for others at work: the last of them
  // comes by here as well.
  void collect_if_wanted();
  ContentStore::Live live();
  // Holds mutex_.
  Result<std::vector<std::string>> names_to_remove(const CatalogEntry& entry,
                                                   const std::string& text, bool force) const;

  const ImageStoreOptions options_;
  const Log log_;
  ContentStore content_;
  std::mutex mutex_;  // guards catalog_; never held over a download or an unpacking
  Catalog catalog_;
  ContainerRoots roots_;
  Puller puller_;
  std::atomic<bool> collection_wanted_{false};
  PullFlights flights_;  // last: its threads use all of the above
};

Result<CatalogEntryPtr> LocalImageStore::lookup(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  MUSTER_ASSIGN(CatalogEntryPtr entry, catalog_.find_by_text(text));
  if (entry == nullptr) return fail(not_found("No such image: {}", text));
  return entry;
}

Result<ImageHandle> LocalImageStore::find(const std::string& reference) {
  MUSTER_ASSIGN(const CatalogEntryPtr entry, lookup(reference));
  return entry->handle();
}

Result<ImageHandle> LocalImageStore::ensure(const PullRequest& request) {
  if (is_digest(request.reference)) return find(request.reference);
  MUSTER_ASSIGN(const ImageReference reference, parse_reference(request.reference));
  const CatalogEntryPtr present = lookup(reference);
  if (present != nullptr && (!request.refresh || !reference.digest.empty())) {
    if (request.progress) request.progress({PullProgress::Step::kDone, 0, 0});
    return present->handle();
  }
  // Callers with other credentials may have other rights, so they do not share a pull.
  const std::string key = reference.full() + " " + digest_of(request.registry_auth);
  return flights_.run(key, request,
                      [this, reference, auth = request.registry_auth](const Puller::Watch& watch) {
                        auto image = pull(reference, auth, watch);
                        // Blobs that came whole would help another attempt, but nobody may ever
                        // make one.
                        if (!image) collection_wanted_ = true;
                        collect_if_wanted();
                        return image;
                      });
}

Result<RemoteImage> LocalImageStore::inspect_remote(const PullRequest& request, Duration limit) {
  MUSTER_ASSIGN(const ImageReference reference, parse_reference(request.reference));
  if (const CatalogEntryPtr present = lookup(reference);
      present != nullptr && present->record.digests.empty()) {
    return RemoteImage();
  }
  const auto deadline = std::chrono::steady_clock::now() + limit;
  bool late = false;
  auto remote = puller_.inspect(reference, request.registry_auth, [&] {
    late = late || std::chrono::steady_clock::now() > deadline;
    return late || (request.cancelled && request.cancelled->load());
  });
  if (!remote && late) {
    return fail(unavailable("registry {} did not answer within {}", reference.registry,
                            format_duration(limit)));
  }
  return remote;
}

Result<ImageHandle> LocalImageStore::pull(const ImageReference& reference, const std::string& auth,
                                          const Puller::Watch& watch) {
  MUSTER_ASSIGN(FetchedImage fetched, puller_.pull(reference, auth, watch));
  ImageRecord& record = fetched.entry.record;
  if (reference.digest.empty()) record.tags.insert(reference.tagged());
  record.digests.insert(reference.name() + "@" + record.digest);
  ImageHandle handle = fetched.entry.handle();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    MUSTER_TRY(catalog_.put(std::move(fetched.entry)));
  }
  if (watch.progress) watch.progress({PullProgress::Step::kDone, 0, 0});
  return handle;
}

Result<std::string> LocalImageStore::mount_root(const ImageHandle& image,
                                                const std::string& container_id) {
  const auto mount = [&]() -> Result<std::string> {
    // The pin closes the gap between looking the image up and having a reference on it.
    const ContentStore::Pin pin = content_.pin();
    MUSTER_ASSIGN(const CatalogEntryPtr entry, lookup(image.digest));
    return roots_.mount(entry->record, container_id);
  };
  auto path = mount();
  collect_if_wanted();
  return path;
}

v1::Image LocalImageStore::describe(const CatalogEntry& entry) const {
  const ImageRecord& record = entry.record;
  v1::Image image;
  image.set_id(record.config_id);
  image.set_digest(record.digest);
  for (const std::string& tag : record.tags) image.add_references(familiar(tag));
  if (record.tags.empty()) {
    for (const std::string& digest : record.digests) image.add_references(familiar(digest));
  }
  image.set_created_at_ns(record.created_at_ns);
  image.set_size_bytes(record.size_bytes);
  image.set_users(static_cast<uint32_t>(roots_.users_of(record.digest).size()));
  image.set_os(record.os);
  image.set_architecture(record.architecture);
  return image;
}

Result<std::vector<v1::Image>> LocalImageStore::list() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<v1::Image> images;
  for (const CatalogEntryPtr& entry : catalog_.all()) images.push_back(describe(*entry));
  return images;
}

Result<v1::Image> LocalImageStore::load_one(const ArchivedImage& image, const fs::path& temp) {
  const std::string name =
      image.tags.empty() ? image.files.identity.substr(0, 19) : familiar(image.tags.front());
  MUSTER_ASSIGN(FetchedImage fetched, puller_.commit(image.files, temp, name, {}));
  fetched.entry.record.tags.insert(image.tags.begin(), image.tags.end());
  const std::string digest = fetched.entry.record.digest;
  const std::lock_guard<std::mutex> lock(mutex_);
  MUSTER_TRY(catalog_.put(std::move(fetched.entry)));
  MUSTER_ASSIGN(const CatalogEntryPtr entry, catalog_.find_by_text(digest));
  v1::Image loaded = describe(*entry);
  // The names it came with, not those it had before.
  loaded.clear_references();
  for (const std::string& tag : image.tags) loaded.add_references(familiar(tag));
  return loaded;
}

Result<std::vector<v1::Image>> LocalImageStore::load(const std::string& tar_path) {
  MUSTER_ASSIGN(const fs::path temp, content_.make_temp());
  const auto work = [&]() -> Result<std::vector<v1::Image>> {
    const fs::path dir = temp / "archive";
    std::error_code error;
    if (fs::is_directory(tar_path, error)) {
      // Its blobs are moved into the store, so it has to be a copy.
      fs::copy(tar_path, dir, fs::copy_options::recursive, error);
      if (error) return fail(errno_status(error.value(), "cannot copy " + tar_path));
    } else {
      MUSTER_TRY(make_directory(dir, 0700));
      UnpackOptions unpack;
      unpack.limits = options_.unpack;
      unpack.ownership = Ownership::kIgnore;
      unpack.whiteouts = Whiteouts::kNone;
      const auto unpacked = unpack_layer(tar_path, dir, unpack);
      if (!unpacked) return fail(unpacked.error().with_context("cannot load the archive"));
    }
    auto found = read_archive(dir, options_.platform);
    if (!found) return fail(found.error().with_context("cannot load the archive"));
    std::vector<v1::Image> images;
    for (const ArchivedImage& image : *found) {
      MUSTER_ASSIGN(v1::Image loaded, load_one(image, temp));
      images.push_back(std::move(loaded));
    }
    return images;
  };
  auto result = work();
  if (!result) collection_wanted_ = true;
  collect_if_wanted();
  const Status removed = remove_tree(temp.string());
  if (!removed.ok()) log_->warn("after a load: {}", removed.message());
  return result;
}

Result<std::vector<std::string>> LocalImageStore::names_to_remove(const CatalogEntry& entry,
                                                                  const std::string& text,
                                                                  bool force) const {
  const ImageRecord& record = entry.record;
  std::vector<std::string> all(record.tags.begin(), record.tags.end());
  all.insert(all.end(), record.digests.begin(), record.digests.end());
  const auto reference = parse_reference(text);
  const std::string named = !reference ? ""
                            : reference->digest.empty()
                                ? reference->tagged()
                                : reference->name() + "@" + reference->digest;
  if (std::find(all.begin(), all.end(), named) != all.end()) {
    // The last tag takes the digests it was pulled with along.
    const bool last_tag = record.tags.size() == 1 && record.tags.contains(named);
    return last_tag ? all : std::vector<std::string>{named};
  }
  if (record.tags.size() > 1 && !force) {
    return fail(
        failed_precondition("conflict: unable to delete {} (must be forced) - image is "
                            "referenced in multiple repositories",
                            text));
  }
  return all;
}

Result<v1::RemoveImageResponse> LocalImageStore::remove(const std::string& reference, bool force) {
  v1::RemoveImageResponse response;
  bool deleted = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    MUSTER_ASSIGN(const CatalogEntryPtr entry, catalog_.find_by_text(reference));
    if (entry == nullptr) return fail(not_found("No such image: {}", reference));
    const ImageRecord& record = entry->record;
    MUSTER_ASSIGN(const std::vector<std::string> names, names_to_remove(*entry, reference, force));
    const bool last = names.size() == record.tags.size() + record.digests.size();
    const auto users = roots_.users_of(record.digest);
    if (last && !users.empty() && !force) {
      return fail(
          failed_precondition("conflict: unable to remove image \"{}\" (must force) - "
                              "container {} is using it",
                              reference, users.front().substr(0, 12)));
    }
    for (const std::string& name : names) response.add_untagged(familiar(name));
    deleted = last && users.empty();
    if (deleted) {
      response.add_deleted(record.config_id);
      MUSTER_TRY(catalog_.erase({record.digest}));
    } else {
      // Used by a container: it keeps its layers until a prune finds it unused.
      MUSTER_TRY(catalog_.untag(record.digest, names));
    }
  }
  if (deleted) collect();
  return response;
}

Result<v1::PruneImagesResponse> LocalImageStore::prune(bool all) {
  v1::PruneImagesResponse response;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::string> doomed;
    for (const CatalogEntryPtr& entry : catalog_.all()) {
      const ImageRecord& record = entry->record;
      // Pinned by digest is how services name images, so a digest counts as a name.
      const bool named = !record.tags.empty() || !record.digests.empty();
      if ((named && !all) || !roots_.users_of(record.digest).empty()) continue;
      doomed.push_back(record.digest);
      response.add_deleted(record.config_id);
    }
    if (!doomed.empty()) MUSTER_TRY(catalog_.erase(doomed));
  }
  response.set_freed_bytes(collect());
  return response;
}

uint64_t LocalImageStore::collect() {
  return content_.collect([this] { return live(); });
}

void LocalImageStore::collect_if_wanted() {
  if (!collection_wanted_.exchange(false)) return;
  if (!content_.try_collect([this] { return live(); })) collection_wanted_ = true;
}

ContentStore::Live LocalImageStore::live() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ContentStore::Live live = catalog_.live();
  // An image may be gone while a container still stands on its layers.
  live.diff_ids.merge(roots_.layers());
  return live;
}

}  // namespace

Result<std::unique_ptr<ImageStore>> make_image_store(const ImageStoreOptions& options, Log log) {
  if (options.data_dir.empty()) return fail(invalid_argument("the image store needs a data_dir"));
  auto store = std::make_unique<LocalImageStore>(options, std::move(log));
  MUSTER_TRY(store->open());
  return std::unique_ptr<ImageStore>(std::move(store));
}

}  // namespace muster::agent
