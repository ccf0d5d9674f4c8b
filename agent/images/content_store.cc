#include "agent/images/content_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "agent/images/digest.h"
#include "agent/images/json_view.h"
#include "base/file.h"
#include "base/remove_tree.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

constexpr int kLayerFormat = 1;
constexpr size_t kLayerNameLength = 24;
constexpr unsigned kUnpackThreadsMax = 4;

std::string layer_name(const std::string& diff_id) {
  return hex_of(diff_id).substr(0, kLayerNameLength);
}

std::vector<std::string> names_in(const fs::path& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename());
  }
  return names;
}

Status move_into(const fs::path& from, const fs::path& to) {
  if (rename(from.c_str(), to.c_str()) == 0) return ok_status();
  return errno_status(errno, fmt::format("cannot store {}", to.string()));
}

Status sync_file(const fs::path& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || fdatasync(fd.get()) != 0) {
    return errno_status(errno, fmt::format("cannot sync {}", path.string()));
  }
  return ok_status();
}

}  // namespace

uint64_t bytes_below(const fs::path& dir) {
  uint64_t total = 0;
  std::error_code error;
  fs::recursive_directory_iterator it(dir, fs::directory_options::skip_permission_denied, error);
  for (const fs::recursive_directory_iterator end; !error && it != end; it.increment(error)) {
    struct stat st {};
    if (lstat(it->path().c_str(), &st) == 0 && S_ISREG(st.st_mode)) {
      total += static_cast<uint64_t>(st.st_size);
    }
  }
  return total;
}

Status ContentStore::open() {
  for (const char* name : {"blobs/sha256", "layers", "tmp"}) {
    MUSTER_TRY(make_directory(dir_ / name, 0700));
  }
  for (const std::string& name : names_in(dir_ / "tmp")) {
    const Status removed = remove_tree((dir_ / "tmp" / name).string());
    if (!removed.ok()) log_->warn("left-over download {}: {}", name, removed.message());
  }
  return ok_status();
}

Result<fs::path> ContentStore::make_temp() {
  const fs::path path = dir_ / "tmp" / fmt::format("{}-{}", getpid(), ++temp_counter_);
  if (mkdir(path.c_str(), 0700) != 0) {
    return fail(errno_status(errno, fmt::format("cannot create {}", path.string())));
  }
  return path;
}

fs::path ContentStore::blob_path(const std::string& digest) const {
  return dir_ / "blobs" / "sha256" / hex_of(digest);
}

bool ContentStore::has_blob(const std::string& digest) const {
  return access(blob_path(digest).c_str(), R_OK) == 0;
}

Result<std::string> ContentStore::read_blob(const std::string& digest) const {
  MUSTER_ASSIGN(std::string content, read_file(blob_path(digest), 8 << 20));
  if (digest_of(content) != digest) {
    return fail(data_loss("the stored blob {} is damaged", digest));
  }
  return content;
}

Status ContentStore::add_blob_file(const fs::path& file, const std::string& digest) {
  MUSTER_ASSIGN(const std::string actual, digest_of_file(file));
  if (actual != digest) {
    return data_loss("the download is damaged: blob {} hashes to {}", digest, actual);
  }
  MUSTER_TRY(sync_file(file));
  chmod(file.c_str(), 0600);
  return move_into(file, blob_path(digest));
}

Status ContentStore::add_blob(std::string_view content, const std::string& digest) {
  const std::string actual = digest_of(content);
  if (actual != digest) {
    return data_loss("the download is damaged: blob {} hashes to {}", digest, actual);
  }
  if (has_blob(digest)) return ok_status();
  return write_file_atomic(blob_path(digest), content, 0600, Durability::kFsync);
}

void ContentStore::drop_blob(const std::string& digest) {
  unlink(blob_path(digest).c_str());
}

bool ContentStore::has_layer(const std::string& diff_id) const {
  return access((layers_dir() / layer_name(diff_id) / "layer.json").c_str(), R_OK) == 0;
}

std::string ContentStore::layer_mount_name(const std::string& diff_id) {
  return layer_name(diff_id) + "/fs";
}

uint64_t ContentStore::layer_bytes(const std::string& diff_id) const {
  const auto text = read_file(layers_dir() / layer_name(diff_id) / "layer.json");
  if (!text) return 0;
  const auto v = parse_json(*text, "layer.json");
  return v ? static_cast<uint64_t>(json_int(*v, "bytes")) : 0;
}

Status ContentStore::unpack_one(const LayerBlob& layer, const fs::path& target,
                                const UnpackOptions& options) {
  MUSTER_TRY(make_directory(target, 0700));
  MUSTER_TRY(make_directory(target / "fs", 0755));
  const auto summary = unpack_layer(blob_path(layer.digest), target / "fs", options);
  if (!summary) {
    if (summary.error().code() == StatusCode::kDataLoss) drop_blob(layer.digest);
    return summary.error().with_context(fmt::format("layer {}", layer.digest.substr(0, 19)));
  }
  if (summary->diff_id != layer.diff_id) {
    drop_blob(layer.digest);
    return data_loss("layer {} unpacks to {}, but the image says {}", layer.digest,
                     summary->diff_id, layer.diff_id);
  }
  const std::string facts =
      fmt::format("{{\"version\":{},\"diff_id\":\"{}\",\"bytes\":{},\"entries\":{}}}\n",
                  kLayerFormat, layer.diff_id, summary->bytes, summary->entries);
  return write_file_atomic(target / "layer.json", facts, 0600, Durability::kNone);
}

Status ContentStore::unpack_layers(const std::vector<LayerBlob>& layers, const fs::path& temp,
                                   const UnpackOptions& options) {
  std::vector<LayerBlob> missing;
  for (const LayerBlob& layer : layers) {
    // An image may hold the same layer twice; it is unpacked once.
    const bool again = std::any_of(missing.begin(), missing.end(),
                                   [&](const LayerBlob& m) { return m.diff_id == layer.diff_id; });
    if (!again && !has_layer(layer.diff_id)) missing.push_back(layer);
  }
  if (missing.empty()) return ok_status();
  // Names never used before: what another pull was faster with stays in `temp` under its name.
  std::vector<fs::path> targets;
  for (size_t i = 0; i < missing.size(); ++i) {
    targets.push_back(temp / ("layer-" + std::to_string(++temp_counter_)));
  }
  std::vector<Status> outcomes(missing.size());
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  const auto work = [&] {
    for (size_t i = next++; i < missing.size() && !failed; i = next++) {
      outcomes[i] = unpack_one(missing[i], targets[i], options);
      if (!outcomes[i].ok()) failed = true;
    }
  };
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  const size_t extra = std::min<size_t>({missing.size(), cores, kUnpackThreadsMax}) - 1;
  std::vector<std::thread> helpers;
  for (size_t i = 0; i < extra; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  for (const Status& outcome : outcomes) MUSTER_TRY(outcome);
  // One flush for thousands of small files is far cheaper than a flush for each.
  MUSTER_TRY(sync());
  for (size_t i = 0; i < missing.size(); ++i) {
    MUSTER_TRY(keep_layer(targets[i], missing[i].diff_id));
  }
  return sync_directory(layers_dir());
}

Status ContentStore::keep_layer(const fs::path& unpacked, const std::string& diff_id) {
  const fs::path to = layers_dir() / layer_name(diff_id);
  if (rename(unpacked.c_str(), to.c_str()) == 0) return ok_status();
  // Another pull with the same layer was faster.
  if ((errno == EEXIST || errno == ENOTEMPTY) && has_layer(diff_id)) return ok_status();
  return errno_status(errno, fmt::format("cannot store layer {}", to.string()));
}

uint64_t ContentStore::collect(const std::function<Live()>& live) {
  return collect(std::unique_lock<std::shared_mutex>(collecting_), live);
}

bool ContentStore::try_collect(const std::function<Live()>& live) {
  std::unique_lock<std::shared_mutex> alone(collecting_, std::try_to_lock);
  if (!alone.owns_lock()) return false;
  collect(std::move(alone), live);
  return true;
}

uint64_t ContentStore::collect(std::unique_lock<std::shared_mutex> alone,
                               const std::function<Live()>& live) {
  const Live keep = live();
  uint64_t freed = 0;
  std::vector<fs::path> graves;
  for (const std::string& name : names_in(dir_ / "blobs" / "sha256")) {
    if (keep.blobs.contains("sha256:" + name)) continue;
    const fs::path path = dir_ / "blobs" / "sha256" / name;
    struct stat st {};
    if (lstat(path.c_str(), &st) == 0) freed += static_cast<uint64_t>(st.st_size);
    unlink(path.c_str());
  }
  std::set<std::string> layer_names;
  for (const std::string& diff_id : keep.diff_ids) layer_names.insert(layer_name(diff_id));
  for (const std::string& name : names_in(layers_dir())) {
    if (layer_names.contains(name)) continue;
    freed += layer_bytes(name);
    // Out of sight first: a half-deleted layer must never be taken for a whole one.
    const fs::path grave = dir_ / "tmp" / fmt::format("gone-{}-{}", getpid(), ++temp_counter_);
    if (rename((layers_dir() / name).c_str(), grave.c_str()) == 0) graves.push_back(grave);
  }
  // Starting containers must not wait for the deletion of big layers.
  alone.unlock();
  for (const fs::path& grave : graves) {
    const Status removed = remove_tree(grave.string());
    if (!removed.ok()) log_->warn("deleting a layer: {}", removed.message());
  }
  return freed;
}

Result<uint64_t> ContentStore::bytes_free() const {
  struct statvfs facts {};
  if (statvfs(dir_.c_str(), &facts) != 0) {
    return fail(errno_status(errno, fmt::format("cannot examine {}", dir_.string())));
  }
  return static_cast<uint64_t>(facts.f_bavail) * facts.f_frsize;
}

Status ContentStore::sync() const {
  const UniqueFd fd(::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || syncfs(fd.get()) != 0) return errno_status(errno, "cannot sync the image store");
  return ok_status();
}

}  // namespace muster::agent
