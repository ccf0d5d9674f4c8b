#include "agent/images/puller.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

#include "agent/images/digest.h"
#include "base/file.h"
#include "base/remove_tree.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;

// Manifests and the like, which a layout holds beside the blobs of a manifest.
constexpr uint64_t kDocumentBytesMax = 16 << 20;

// skopeo compresses what an OCI layout gets uncompressed, which would change the digest.
bool is_gzip_layer(const Descriptor& layer) {
  return layer.media_type.ends_with("gzip");
}

// Deletes a private folder when its user is done.
class TempFolder {
 public:
  explicit TempFolder(fs::path path) : path_(std::move(path)) {}
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { (void)remove_tree(path_.string()); }

 private:
  const fs::path path_;
};

std::string human_bytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.3g} {}", value, kUnits[unit]);
}

}  // namespace

// One pull on its way.
struct Puller::Job {
  const ImageReference& image;
  const Watch& watch;
  fs::path temp;
  RegistryAccess access;

  std::string selector() const {
    return image.digest.empty() ? ":" + image.tag : "@" + image.digest;
  }
  void report(PullProgress::Step step, uint64_t done, uint64_t total) const {
    if (watch.progress) watch.progress({step, std::min(done, total), total});
  }
};

Status Puller::check_disk(const Job& job, uint64_t bytes_missing) const {
  MUSTER_ASSIGN(const uint64_t free, content_.bytes_free());
  if (free >= bytes_missing + options_.disk_reserve_bytes) return ok_status();
  return resource_exhausted("no space left on device: {} needs {}, {} are free under {}",
                            job.image.familiar(), human_bytes(bytes_missing), human_bytes(free),
                            options_.data_dir.string());
}

Result<ImageFiles> Puller::resolve(Job& job, const RegistryEndpoint& from) {
  ImageFiles files;
  MUSTER_ASSIGN(files.top, registry_.raw_manifest(from, job.image, job.selector(), job.access));
  files.identity = digest_of(files.top);
  if (!job.image.digest.empty() && files.identity != job.image.digest) {
    return fail(data_loss("registry {} answered {} with a manifest that hashes to {}", from.name,
                          job.image.digest, files.identity));
  }
  MUSTER_ASSIGN(const std::string type, media_type_of(files.top));
  files.manifest_raw = files.top;
  if (is_index(type)) {
    MUSTER_ASSIGN(const Descriptor chosen, choose_platform(files.top, options_.platform));
    MUSTER_ASSIGN(files.manifest_raw,
                  registry_.raw_manifest(from, job.image, "@" + chosen.digest, job.access));
    if (digest_of(files.manifest_raw) != chosen.digest) {
      return fail(
          data_loss("registry {} answered {} with another manifest", from.name, chosen.digest));
    }
  }
  MUSTER_ASSIGN(files.manifest, parse_manifest(files.manifest_raw));
  return files;
}

// Layers that are in the store already are linked into the layout, where skopeo finds them and does
// not fetch them again. That takes an OCI layout, which in turn cannot hold every manifest as it is
// (the manifest itself comes from resolve(), so only blobs have to be exact). Without anything to
// share, skopeo's plain folder is exact for every type.
Status Puller::download(Job& job, const RegistryEndpoint& from, ImageFiles& files) {
  const Manifest& manifest = files.manifest;
  uint64_t shared_bytes = 0;
  uint64_t missing_bytes = 0;
  const fs::path layout = job.temp / "layout";
  const fs::path linked = layout / "blobs" / "sha256";
  MUSTER_TRY(make_directory(linked, 0700));
  for (const Descriptor& layer : manifest.layers) {
    const fs::path target = linked / hex_of(layer.digest);
    // Linked already: an image may hold a layer twice.
    const bool have =
        link(content_.blob_path(layer.digest).c_str(), target.c_str()) == 0 || errno == EEXIST;
    (have ? shared_bytes : missing_bytes) += layer.size_bytes;
  }
  if (content_.has_blob(manifest.config.digest)) {
    if (auto text = content_.read_blob(manifest.config.digest)) files.config_raw = *text;
  }
  const std::string selector = "@" + digest_of(files.manifest_raw);
  const bool complete = missing_bytes == 0;
  const bool all_gzip = std::all_of(manifest.layers.begin(), manifest.layers.end(), is_gzip_layer);
  const bool share = shared_bytes > 0 && (!manifest.is_docker() || all_gzip);
  if (files.config_raw.empty() && (complete || (share && manifest.is_docker()))) {
    MUSTER_ASSIGN(files.config_raw, registry_.raw_config(from, job.image, selector, job.access));
  }
  files.blob = [linked](const std::string& digest) { return linked / hex_of(digest); };
  if (complete) return ok_status();
  // Twice: the layers unpacked take at least as much again.
  MUSTER_TRY(check_disk(job, missing_bytes * 2));
  const uint64_t total = manifest.bytes_total();
  const uint64_t bytes_max = total + kDocumentBytesMax;
  const auto tick_below = [&](const fs::path& dir) {
    return [&job, dir, total] {
      const uint64_t bytes = bytes_below(dir);
      job.report(PullProgress::Step::kDownloading, bytes, total);
      return bytes;
    };
  };
  if (share) {
    return registry_.copy(from, job.image, selector, "oci:" + layout.string() + ":image",
                          !manifest.is_docker(), bytes_max, job.access, tick_below(layout));
  }
  const fs::path folder = job.temp / "folder";
  files.blob = [folder](const std::string& digest) { return folder / hex_of(digest); };
  return registry_.copy(from, job.image, selector, "dir:" + folder.string(), true, bytes_max,
                        job.access, tick_below(folder));
}

Result<ImageFiles> Puller::fetch(Job& job, const RegistryEndpoint& from) {
  job.report(PullProgress::Step::kResolving, 0, 0);
  MUSTER_ASSIGN(ImageFiles files, resolve(job, from));
  job.report(PullProgress::Step::kDownloading, 0, files.manifest.bytes_total());
  MUSTER_TRY(download(job, from, files));
  if (files.config_raw.empty()) {
    const auto config = read_file(files.blob(files.manifest.config.digest), 8 << 20);
    if (!config) {
      return fail(data_loss("the download of {} is damaged: its configuration is missing",
                            job.image.familiar()));
    }
    files.config_raw = *config;
  }
  return files;
}

Status Puller::write_auth(const fs::path& temp, const std::string& auth,
                          RegistryAccess& access) const {
  access.temp_dir = (temp / "skopeo").string();
  MUSTER_TRY(make_directory(access.temp_dir, 0700));
  if (auth.empty() && !options_.default_auth_file.empty()) {
    access.auth_file = options_.default_auth_file;
    return ok_status();
  }
  access.auth_file = (temp / "auth.json").string();
  return write_file_atomic(access.auth_file, auth.empty() ? "{\"auths\":{}}" : auth, 0600,
                           Durability::kNone);
}

Result<RemoteImage> Puller::inspect(const ImageReference& image, const std::string& auth,
                                    const std::function<bool()>& cancelled) {
  MUSTER_ASSIGN(const fs::path temp, content_.make_temp());
  const TempFolder cleanup(temp);
  RegistryAccess access;
  MUSTER_TRY(write_auth(temp, auth, access));
  access.cancelled = cancelled;
  const auto ask = [&](const RegistryEndpoint& from) -> Result<RemoteImage> {
    const std::string selector = image.digest.empty() ? ":" + image.tag : "@" + image.digest;
    MUSTER_ASSIGN(const std::string top, registry_.raw_manifest(from, image, selector, access));
    RemoteImage remote;
    remote.digest = digest_of(top);
    MUSTER_ASSIGN(const std::string type, media_type_of(top));
    if (is_index(type)) {
      MUSTER_ASSIGN(remote.platforms, platforms_of_index(top));
      return remote;
    }
    MUSTER_ASSIGN([[maybe_unused]] const Manifest manifest, parse_manifest(top));
    MUSTER_ASSIGN(const std::string raw,
                  registry_.raw_config(from, image, "@" + remote.digest, access));
    MUSTER_ASSIGN(const ParsedConfig config, parse_config(raw));
    remote.platforms = platforms_of_image(config.platform);
    return remote;
  };
  Status last;
  for (const RegistryEndpoint& from : registry_.endpoints(image)) {
    auto remote = ask(from);
    if (remote) return remote;
    last = remote.error();
    if (last.code() == StatusCode::kCancelled) break;
  }
  return fail(last);
}

Result<FetchedImage> Puller::pull(const ImageReference& image, const std::string& auth,
                                  const Watch& watch) {
  MUSTER_ASSIGN(const fs::path temp, content_.make_temp());
  const TempFolder cleanup(temp);
  Job job{image, watch, temp, {}};
  MUSTER_TRY(write_auth(temp, auth, job.access));
  job.access.cancelled = [&watch] { return watch.cancelled != nullptr && *watch.cancelled; };

  Status last;
  for (const RegistryEndpoint& from : registry_.endpoints(image)) {
    if (!last.ok()) log_->info("a mirror of {}: {}", image.registry, last.message());
    auto files = fetch(job, from);
    if (files) return commit(*files, temp, image.familiar(), watch);
    last = files.error();
    if (last.code() == StatusCode::kCancelled || last.code() == StatusCode::kResourceExhausted) {
      break;
    }
    (void)remove_tree((temp / "layout").string());
    (void)remove_tree((temp / "folder").string());
  }
  if (last.code() == StatusCode::kCancelled) {
    return fail(StatusCode::kCancelled,
                fmt::format("the pull of {} was cancelled", image.familiar()));
  }
  return fail(last);
}

Result<FetchedImage> Puller::commit(const ImageFiles& files, const fs::path& temp,
                                    const std::string& name, const Watch& watch) {
  const Manifest& manifest = files.manifest;
  MUSTER_ASSIGN(const ParsedConfig config, parse_config(files.config_raw));
  if (config.diff_ids.size() != manifest.layers.size()) {
    return fail(
        data_loss("{} is no container image: {} layers, but {} of them in its configuration", name,
                  manifest.layers.size(), config.diff_ids.size()));
  }
  if (!config.platform.os.empty() && config.platform.os != options_.platform.os) {
    return fail(failed_precondition("{} is an image for {}, this host runs {}", name,
                                    config.platform.to_string(), options_.platform.to_string()));
  }
  if (config.platform.architecture != options_.platform.architecture) {
    log_->warn("{} is an image for {}, this host is {}", name, config.platform.to_string(),
               options_.platform.to_string());
  }
  ContentStore::Pin pin = content_.pin();
  std::vector<LayerBlob> layers;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const std::string& digest = manifest.layers[i].digest;
    layers.push_back({digest, config.diff_ids[i]});
    if (content_.has_blob(digest)) continue;
    if (access(files.blob(digest).c_str(), R_OK) != 0) {
      return fail(data_loss("the download of {} is damaged: layer {} is missing", name, digest));
    }
    MUSTER_TRY(content_.add_blob_file(files.blob(digest), digest));
  }
  MUSTER_TRY(content_.add_blob(files.config_raw, manifest.config.digest));
  const std::string manifest_digest = digest_of(files.manifest_raw);
  MUSTER_TRY(content_.add_blob(files.manifest_raw, manifest_digest));
  MUSTER_TRY(content_.add_blob(files.top, files.identity));

  const uint64_t total = manifest.bytes_total();
  if (watch.progress) watch.progress({PullProgress::Step::kUnpacking, total, total});
  UnpackOptions unpack;
  unpack.limits = options_.unpack;
  unpack.cancelled = watch.cancelled;
  const Status unpacked = content_.unpack_layers(layers, temp, unpack);
  if (!unpacked.ok()) return fail(unpacked.with_context("cannot unpack " + name));

  CatalogEntry entry;
  entry.config = config.run;
  ImageRecord& record = entry.record;
  record.digest = files.identity;
  record.manifest_digest = manifest_digest;
  record.config_id = manifest.config.digest;
  record.os = config.platform.os;
  record.architecture = config.platform.architecture;
  record.created_at_ns = config.created_at_ns;
  for (const LayerBlob& layer : layers) record.size_bytes += content_.layer_bytes(layer.diff_id);
  record.layers = std::move(layers);
  return FetchedImage{std::move(entry), std::move(pin)};
}

}  // namespace muster::agent
