#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "agent/images/digest.h"
#include "base/file.h"

namespace muster::agent {

// Writes an OCI layout for tests: one image of these (plain) layers, lowest first, named `name`.
class LayoutBuilder {
 public:
  explicit LayoutBuilder(std::filesystem::path dir) : dir_(std::move(dir)) {
    (void)make_directory(dir_ / "blobs" / "sha256", 0755);
  }

  // Returns the manifest's digest.
  std::string image(const std::string& name, const std::vector<std::string>& layers,
                    const std::string& architecture = "amd64") {
    std::string descriptors;
    std::string diff_ids;
    for (const std::string& layer : layers) {
      const std::string comma = descriptors.empty() ? "" : ",";
      const std::string digest = put(layer);
      descriptors += comma + descriptor("layer.v1.tar", digest, layer.size());
      diff_ids += comma + '"' + digest + '"';
    }
    const std::string config = R"({"os":"linux","architecture":")" + architecture +
                               R"(","config":{"Cmd":["serve"]},"rootfs":{"type":"layers",)" +
                               R"("diff_ids":[)" + diff_ids + "]}}";
    const std::string manifest =
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
        descriptor("config.v1+json", put(config), config.size()) + R"(,"layers":[)" + descriptors +
        "]}";
    const std::string digest = put(manifest);
    if (!entries_.empty()) entries_ += ",";
    entries_ += R"({"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" + digest +
                R"(","size":1,"annotations":{"org.opencontainers.image.ref.name":")" + name +
                R"("}})";
    (void)write_file_atomic(dir_ / "index.json",
                            R"({"schemaVersion":2,"manifests":[)" + entries_ + "]}", 0644,
                            Durability::kNone);
    return digest;
  }

  std::filesystem::path blob(const std::string& digest) const {
    return dir_ / "blobs" / "sha256" / hex_of(digest);
  }

 private:
  std::string put(const std::string& content) {
    const std::string digest = digest_of(content);
    (void)write_file_atomic(blob(digest), content, 0644, Durability::kNone);
    return digest;
  }
  static std::string descriptor(const std::string& type, const std::string& digest, size_t size) {
    return R"({"mediaType":"application/vnd.oci.image.)" + type + R"(","digest":")" + digest +
           R"(","size":)" + std::to_string(size) + "}";
  }

  std::filesystem::path dir_;
  std::string entries_;
};

}  // namespace muster::agent
