#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/images/options.h"
#include "agent/images/reference.h"
#include "base/process.h"
#include "base/status.h"

namespace muster::agent {

// Where one image may be fetched from.
struct RegistryEndpoint {
  std::string name;       // registry and repository, as skopeo takes them after docker://
  bool insecure = false;  // plain HTTP, or TLS without a known certificate

  std::string_view host() const { return std::string_view(name).substr(0, name.find('/')); }
};

// What accompanies one pull.
struct RegistryAccess {
  std::string auth_file;
  std::string temp_dir;             // private; for skopeo's own files
  std::function<bool()> cancelled;  // may be empty
};

// Registries, through skopeo: one process per request. Stateless, thread-safe; calls block.
// Errors are for users: see explain_registry_failure.
class Registry {
 public:
  explicit Registry(const ImageStoreOptions& options) : options_(options) {}

  // The mirrors of the image's registry, then the registry itself.
  std::vector<RegistryEndpoint> endpoints(const ImageReference& image) const;

  // The manifest or index exactly as the registry has it. `selector` is ":tag" or "@digest".
  Result<std::string> raw_manifest(const RegistryEndpoint& from, const ImageReference& image,
                                   const std::string& selector, const RegistryAccess& access) const;
  // The configuration's bytes.
  Result<std::string> raw_config(const RegistryEndpoint& from, const ImageReference& image,
                                 const std::string& selector, const RegistryAccess& access) const;

  // Copies everything to `destination`, a skopeo destination ("dir:..." or "oci:..."). `tick` is
  // called a few times a second and returns the bytes seen so far, by which a stall is noticed, and
  // a registry that sends more than `bytes_max` and would fill the disk.
  Status copy(const RegistryEndpoint& from, const ImageReference& image,
              const std::string& selector, const std::string& destination, bool preserve_digests,
              uint64_t bytes_max, const RegistryAccess& access,
              const std::function<uint64_t()>& tick) const;

 private:
  Result<ProcessOptions> command(std::string verb, std::vector<std::string> arguments,
                                 const RegistryAccess& access) const;
  Result<std::string> inspect(const RegistryEndpoint& from, const ImageReference& image,
                              const std::string& selector, bool config,
                              const RegistryAccess& access) const;

  const ImageStoreOptions& options_;
};

// Whether the registry ("host[:port]") is loopback or listed, see ImageStoreOptions.
bool is_insecure_registry(std::string_view registry, const std::vector<std::string>& listed);

// What skopeo's complaint about `host` means, in the words docker users know:
//   NOT_FOUND          "manifest for web:2 not found: manifest unknown"
//   PERMISSION_DENIED  "pull access denied for web, repository does not exist or may require
//                       'docker login': ..."
//   UNAVAILABLE        "connection refused to registry 127.0.0.1:5000", no such host, time-outs,
//                      rate limits
//   RESOURCE_EXHAUSTED no disk space
//   DATA_LOSS          a truncated or changed blob
Status explain_registry_failure(std::string_view skopeo_stderr, const ImageReference& image,
                                std::string_view host);

}  // namespace muster::agent
