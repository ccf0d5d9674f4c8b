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

// Removes everything but the generation in force: earlier ones, whose key may lie there as it is
// while the present one is wrapped, and what a killed writer left. They are gone for good on
// return.
Status sweep(const std::filesystem::path& dir) {
  const auto failed = [&](const std::error_code& error) {
    return errno_status(error.value(),
                        fmt::format("cannot remove earlier keys in {}", dir.string()));
  };
  std::error_code error;
  const std::filesystem::path generation = std::filesystem::read_symlink(dir / "current", error);
  if (error == std::errc::no_such_file_or_directory) return ok_status();
  if (error) return failed(error);
  std::vector<std::filesystem::path> others;
  std::filesystem::directory_iterator at(dir, error);
  for (const std::filesystem::directory_iterator end; !error && at != end; at.increment(error)) {
    const std::filesystem::path name = at->path().filename();
    if (name != "current" && name != generation) others.push_back(at->path());
  }
  if (error) return failed(error);
  for (const auto& path : others) {
    std::filesystem::remove_all(path, error);
    if (error) return failed(error);
  }
  return others.empty() ? ok_status() : sync_directory(dir);
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

  // A power cut must neither leave the link without what it names, nor take the directory.
  MUSTER_TRY(sync_directory(dir));
  if (dir.has_parent_path()) MUSTER_TRY(sync_directory(dir.parent_path()));

  const std::filesystem::path current = dir / "current";
  const std::filesystem::path link = dir / ("current." + generation);
  if (symlink(generation.c_str(), link.c_str()) != 0 ||
      rename(link.c_str(), current.c_str()) != 0) {
    return errno_status(errno, fmt::format("cannot replace {}", current.string()));
  }
  MUSTER_TRY(sync_directory(dir));
  return sweep(dir);
}

Result<NodeCredentials> load_credentials(const std::filesystem::path& dir,
                                         const std::optional<UnlockKey>& lock) {
  // A writer may have been killed before it had.
  MUSTER_TRY(sweep(dir));
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

Status rewrap_credentials(const std::filesystem::path& dir, const std::optional<UnlockKey>& from,
                          const std::optional<UnlockKey>& to) {
  MUSTER_ASSIGN(const NodeCredentials credentials, load_credentials(dir, from));
  return save_credentials(dir, credentials, to);
}

}  // namespace muster::security
