#include "raft/storage/disk_reserve.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/unique_fd.h"

namespace muster::raft {
namespace {

// When the file system does not tell, writing shows.
uint64_t free_bytes(const std::filesystem::path& dir) {
  struct statvfs info {};
  if (statvfs(dir.c_str(), &info) != 0) return UINT64_MAX;
  return uint64_t{info.f_bavail} * info.f_frsize;
}

Status check_free(const std::filesystem::path& dir, uint64_t available, uint64_t bytes_min) {
  if (available >= bytes_min) return ok_status();
  return Status(StatusCode::kResourceExhausted,
                fmt::format("the disk under {} is full ({} MiB left, {} needed)", dir.string(),
                            available >> 20, bytes_min >> 20),
                "disk-full");
}

}  // namespace

Status check_free(const std::filesystem::path& dir, uint64_t bytes_min) {
  return check_free(dir, free_bytes(dir), bytes_min);
}

DiskReserve::DiskReserve(std::filesystem::path dir, Limits limits, Log log)
    : dir_(std::move(dir)), limits_(limits), log_(std::move(log)) {}

uint64_t DiskReserve::available() const {
  const uint64_t free = free_bytes(dir_);
  if (free >= roomy_at_) {
    roomy_at_ = 0;
    return free;
  }
  return free - std::min(free, limits_.reserve_bytes);
}

DiskRoom DiskReserve::room() const {
  const uint64_t bytes = available();
  if (bytes < limits_.full_bytes) return DiskRoom::kFull;
  return bytes < limits_.low_bytes ? DiskRoom::kLow : DiskRoom::kPlenty;
}

Status DiskReserve::check() const {
  return check_free(dir_, available(), limits_.full_bytes);
}

void DiskReserve::keep(bool opening) {
  const std::filesystem::path file = dir_ / "reserve";
  const uint64_t free = free_bytes(dir_);
  if (free < (opening ? limits_.full_bytes : limits_.full_bytes / 2)) {
    if (unlink(file.c_str()) == 0) {
      roomy_at_ = free_bytes(dir_) + limits_.full_bytes;
      log_->warn("the disk under {} is full; gave up the reserve of {} MiB", dir_.string(),
                 limits_.reserve_bytes >> 20);
    }
    return;
  }
  std::error_code ignored;
  if (limits_.reserve_bytes == 0 || std::filesystem::exists(file, ignored) ||
      free < limits_.reserve_bytes + 2 * limits_.full_bytes) {
    return;
  }
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!fd || posix_fallocate(fd.get(), 0, static_cast<off_t>(limits_.reserve_bytes)) != 0) {
    unlink(file.c_str());
    log_->warn("cannot set aside {} MiB under {}", limits_.reserve_bytes >> 20, dir_.string());
  }
}

}  // namespace muster::raft
