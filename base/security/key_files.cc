#include "base/security/key_files.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/file.h"
#include "base/rng.h"

namespace muster::security {

Status save_credentials(const std::filesystem::path& dir, const NodeCredentials& credentials) {
  MUSTER_TRY(make_directory(dir, 0700));
  SystemRng rng;
  const std::string generation = rng.id();
  const std::filesystem::path fresh = dir / generation;
  MUSTER_TRY(make_directory(fresh, 0700));
  MUSTER_TRY(write_file_atomic(fresh / "root.crt", credentials.root_pem, 0644, Durability::kFsync));
  MUSTER_TRY(write_file_atomic(fresh / "node.crt", credentials.node.certificate_pem, 0644,
                               Durability::kFsync));
  MUSTER_TRY(
      write_file_atomic(fresh / "node.key", credentials.node.key_pem, 0600, Durability::kFsync));

  const std::filesystem::path current = dir / "current";
  const std::filesystem::path link = dir / ("current." + generation);
  std::error_code error;
  const std::filesystem::path old = std::filesystem::read_symlink(current, error);
  if (symlink(generation.c_str(), link.c_str()) != 0 ||
      rename(link.c_str(), current.c_str()) != 0) {
    return errno_status(errno, fmt::format("cannot replace {}", current.string()));
  }
  MUSTER_TRY(sync_directory(dir));
  if (!old.empty()) std::filesystem::remove_all(dir / old, error);
  return ok_status();
}

Result<NodeCredentials> load_credentials(const std::filesystem::path& dir) {
  const std::filesystem::path current = dir / "current";
  NodeCredentials credentials;
  MUSTER_ASSIGN(credentials.root_pem, read_file(current / "root.crt", 1 << 20));
  MUSTER_ASSIGN(credentials.node.certificate_pem, read_file(current / "node.crt", 1 << 20));
  MUSTER_ASSIGN(credentials.node.key_pem, read_file(current / "node.key", 1 << 20));
  return credentials;
}

}  // namespace muster::security
