#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "agent/images/manifest.h"
#include "agent/images/unpacker.h"
#include "base/time.h"

namespace muster::agent {

// Other places to try for a registry's images, in this order, before the registry itself.
struct RegistryMirror {
  std::string registry;                // "docker.io"
  std::vector<std::string> endpoints;  // "mirror.example:5000", "http://10.0.0.1:5000/prefix"
};

struct ImageStoreOptions {
  std::filesystem::path data_dir;  // the node's; images live in <data_dir>/images
  std::string skopeo = "skopeo";

  // Registries spoken to without TLS or without checking its certificate: "host:port", "host" or
  // an IPv4 range "10.0.0.0/8". Loopback registries are always among them, as with Docker.
  std::vector<std::string> insecure_registries;
  std::vector<RegistryMirror> mirrors;
  // Credentials used when a request brings none (containers-auth.json(5)); may be empty.
  std::string default_auth_file;

  Platform platform = host_platform();
  UnpackLimits unpack;
  Duration resolve_timeout = 60s;                    // for one manifest or configuration
  Duration pull_timeout = 1h;                        // for all blobs of an image
  Duration stall_timeout = 120s;                     // without a new byte
  uint64_t disk_reserve_bytes = uint64_t{32} << 20;  // that a pull leaves free
};

}  // namespace muster::agent
