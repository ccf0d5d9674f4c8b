#include "base/security/key_files.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "base/security/key_wrap.h"

namespace muster::security {
namespace {

constexpr std::string_view kPurpose = "node.key";
constexpr size_t kFileBytesMax = 1 << 20;

// Everything but the generation in force: earlier ones, and what a killed writer left.
void sweep(const std::filesystem::path& dir, const std::string& generation) {
  std::error_code error;
  std::vector<std::filesystem::path> others;
  std::filesystem::directory_iterator at(dir, error);
  for (const std::filesystem::directory_iterator end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name != "current" && name != generation) others.push_back(at->path());
  }
  for (const auto& path : others) std::filesystem::remove_all(path, error);
}

}  // namespace

Status save_credentials(const std::filesystem::path& dir, const NodeCredentials& credentials,
                        const std::optional<UnlockKey>& lock) {
  MUSTER_TRY(make_directory(dir, 0700));
  SystemRng rng;
  const std::string generation = rng.id();
  const std::filesystem::path fresh = dir / generation;
  MUSTER_TRY(make_directory(fresh, 0700));
  const std::string key =
      lock ? wrap_key(credentials.node.key_pem, *lock, kPurpose) : credentials.node.key_pem;
  MUSTER_TRY(write_file_atomic(fresh / "root.crt", credentials.root_pem, 0644, Durability::kFsync));
  MUSTER_TRY(write_file_atomic(fresh / "node.crt", credentials.node.certificate_pem, 0644,
                               Durability::kFsync));
  MUSTER_TRY(write_file_atomic(fresh / "node.key", key, 0600, Durability::kFsync));

  const std::filesystem::path current = dir / "current";
  const std::filesystem::path link = dir / ("current." + generation);
  if (symlink(generation.c_str(), link.c_str()) != 0 ||
      rename(link.c_str(), current.c_str()) != 0) {
    return errno_status(errno, fmt::format("cannot replace {}", current.string()));
  }
  MUSTER_TRY(sync_directory(dir));
  sweep(dir, generation);
  return ok_status();
}

Result<NodeCredentials> load_credentials(const std::filesystem::path& dir,
                                         const std::optional<UnlockKey>& lock) {
  const std::filesystem::path current = dir / "current";
  NodeCredentials credentials;
  MUSTER_ASSIGN(credentials.root_pem, read_file(current / "root.crt", kFileBytesMax));
  MUSTER_ASSIGN(credentials.node.certificate_pem, read_file(current / "node.crt", kFileBytesMax));
  MUSTER_ASSIGN(credentials.node.key_pem, read_file(current / "node.key", kFileBytesMax));
  if (!is_wrapped(credentials.node.key_pem)) return credentials;
  if (!lock) return fail(swarm_locked());
  MUSTER_ASSIGN(credentials.node.key_pem, unwrap_key(credentials.node.key_pem, *lock, kPurpose));
  return credentials;
}

Result<bool> credentials_locked(const std::filesystem::path& dir) {
  MUSTER_ASSIGN(const std::string key, read_file(dir / "current" / "node.key", kFileBytesMax));
  return is_wrapped(key);
}

Status rewrap_credentials(const std::filesystem::path& dir, const std::optional<UnlockKey>& from,
                          const std::optional<UnlockKey>& to) {
  MUSTER_ASSIGN(const NodeCredentials credentials, load_credentials(dir, from));
  return save_credentials(dir, credentials, to);
}

}  // namespace muster::security
