#include "agent/images/archive_loader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <boost/json/serialize.hpp>

#include "agent/images/digest.h"
#include "agent/images/json_view.h"
#include "base/file.h"
#include "base/unique_fd.h"

namespace muster::agent {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr size_t kDocumentBytesMax = 8 << 20;
constexpr int kIndexDepthMax = 3;

// A file of the archive. Its names come from strangers: relative, no "..", and links (which old
// docker archives use between layers) only as far as they stay inside.
Result<fs::path> inside(const fs::path& dir, const std::string& name) {
  std::error_code error;
  const fs::path root = fs::canonical(dir, error);
  const fs::path path = fs::canonical(dir / name, error);
  const bool escapes = error || path.string().rfind(root.string() + "/", 0) != 0;
  if (escapes || !fs::is_regular_file(path, error)) {
    return fail(data_loss("the archive names a file \"{}\" that it does not hold", name));
  }
  return path;
}

Result<std::string> text_inside(const fs::path& dir, const std::string& name) {
  MUSTER_ASSIGN(const fs::path path, inside(dir, name));
  return read_file(path, kDocumentBytesMax);
}

std::string blob_name(const std::string& digest) {
  return "blobs/sha256/" + hex_of(digest);
}

Result<std::string> blob_text(const fs::path& dir, const std::string& digest) {
  if (!is_digest(digest)) return fail(data_loss("the layout holds a bad digest \"{}\"", digest));
  MUSTER_ASSIGN(std::string text, text_inside(dir, blob_name(digest)));
  if (digest_of(text) != digest) return fail(data_loss("blob {} of the layout is damaged", digest));
  return text;
}

std::vector<std::string> names_of(const json::value& entry) {
  const json::value* annotations = json_member(entry, "annotations");
  if (annotations == nullptr) return {};
  std::string name = json_string(*annotations, "io.containerd.image.name");
  if (name.empty()) {
    name = json_string(*annotations, "org.opencontainers.image.ref.name");
    if (name.find(':') == std::string::npos && name.find('/') == std::string::npos) return {};
  }
  const auto reference = parse_reference(name);
  if (!reference || reference->tag.empty()) return {};
  return {reference->tagged()};
}

Status read_layout_image(const fs::path& dir, const json::value& entry, const Platform& platform,
                         std::vector<ArchivedImage>& found) {
  ArchivedImage image;
  image.tags = names_of(entry);
  ImageFiles& files = image.files;
  files.identity = json_string(entry, "digest");
  MUSTER_ASSIGN(files.top, blob_text(dir, files.identity));
  files.manifest_raw = files.top;
  MUSTER_ASSIGN(std::string type, media_type_of(files.manifest_raw));
  for (int depth = 0; is_index(type); ++depth) {
    if (depth == kIndexDepthMax) return data_loss("the layout's indexes are nested too deep");
    const auto chosen = choose_platform(files.manifest_raw, platform);
    if (!chosen) return ok_status();  // another platform's image
    MUSTER_ASSIGN(files.manifest_raw, blob_text(dir, chosen->digest));
    MUSTER_ASSIGN(type, media_type_of(files.manifest_raw));
  }
  MUSTER_ASSIGN(files.manifest, parse_manifest(files.manifest_raw));
  MUSTER_ASSIGN(files.config_raw, blob_text(dir, files.manifest.config.digest));
  files.blob = [dir](const std::string& digest) { return dir / blob_name(digest); };
  for (const Descriptor& layer : files.manifest.layers) {
    MUSTER_TRY(inside(dir, blob_name(layer.digest))
                   ? ok_status()
                   : data_loss("layer {} is not in the archive", layer.digest));
  }
  found.push_back(std::move(image));
  return ok_status();
}

Result<std::vector<ArchivedImage>> read_layout(const fs::path& dir, const Platform& platform) {
  MUSTER_ASSIGN(const std::string text, text_inside(dir, "index.json"));
  MUSTER_ASSIGN(const json::value index, parse_json(text, "index.json"));
  std::vector<ArchivedImage> found;
  for (const json::value& entry : json_array(index, "manifests")) {
    MUSTER_TRY(read_layout_image(dir, entry, platform, found));
  }
  if (found.empty()) {
    return fail(not_found("the archive holds no image for {}", platform.to_string()));
  }
  return found;
}

constexpr std::string_view kGzipMagic = "\x1f\x8b";
constexpr std::string_view kZstdMagic = "\x28\xb5\x2f\xfd";

std::string layer_media_type(const fs::path& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char magic[4] = {};
  const ssize_t n = fd ? read(fd.get(), magic, sizeof magic) : 0;
  const std::string_view head(magic, n > 0 ? static_cast<size_t>(n) : 0);
  const std::string plain = "application/vnd.oci.image.layer.v1.tar";
  if (head.starts_with(kGzipMagic)) return plain + "+gzip";
  return head.starts_with(kZstdMagic) ? plain + "+zstd" : plain;
}

json::object descriptor(std::string_view type, const std::string& digest, uint64_t size) {
  json::object o;
  o["mediaType"] = json::string_view(type.data(), type.size());
  o["digest"] = digest;
  o["size"] = size;
  return o;
}

Result<ArchivedImage> read_docker_image(const fs::path& dir, const json::value& entry) {
  ArchivedImage image;
  ImageFiles& files = image.files;
  MUSTER_ASSIGN(files.config_raw, text_inside(dir, json_string(entry, "Config")));
  json::array layers;
  std::map<std::string, fs::path> paths;
  for (const std::string& name : json_strings(entry, "Layers")) {
    MUSTER_ASSIGN(const fs::path path, inside(dir, name));
    MUSTER_ASSIGN(const std::string digest, digest_of_file(path));
    struct stat st {};
    if (stat(path.c_str(), &st) != 0) return fail(errno_status(errno, "cannot examine a layer"));
    layers.push_back(descriptor(layer_media_type(path), digest, static_cast<uint64_t>(st.st_size)));
    paths[digest] = path;
  }
  json::object manifest;
  manifest["schemaVersion"] = 2;
  manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json";
  manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json",
                                  digest_of(files.config_raw), files.config_raw.size());
  manifest["layers"] = std::move(layers);
  files.manifest_raw = json::serialize(manifest);
  files.top = files.manifest_raw;
  files.identity = digest_of(files.top);
  MUSTER_ASSIGN(files.manifest, parse_manifest(files.manifest_raw));
  files.blob = [paths](const std::string& digest) {
    const auto it = paths.find(digest);
    return it == paths.end() ? fs::path() : it->second;
  };
  for (const std::string& tag : json_strings(entry, "RepoTags")) {
    const auto reference = parse_reference(tag);
    if (reference && !reference->tag.empty()) image.tags.push_back(reference->tagged());
  }
  return image;
}

}  // namespace

Result<std::vector<ArchivedImage>> read_archive(const fs::path& dir, const Platform& platform) {
  std::error_code error;
  if (fs::exists(dir / "index.json", error)) return read_layout(dir, platform);
  if (!fs::exists(dir / "manifest.json", error)) {
    return fail(invalid_argument("the file is neither a docker archive nor an OCI layout"));
  }
  MUSTER_ASSIGN(const std::string text, text_inside(dir, "manifest.json"));
  MUSTER_ASSIGN(const json::value manifest, parse_json(text, "manifest.json"));
  const json::array* entries = manifest.if_array();
  if (entries == nullptr || entries->empty()) {
    return fail(data_loss("the docker archive's manifest.json lists no image"));
  }
  std::vector<ArchivedImage> found;
  for (const json::value& entry : *entries) {
    MUSTER_ASSIGN(ArchivedImage image, read_docker_image(dir, entry));
    found.push_back(std::move(image));
  }
  return found;
}

}  // namespace muster::agent
