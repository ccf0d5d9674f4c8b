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
  uint64_t roomy_at = roomy_at_;  // before the look at the disk: what was given up is not counted
  const uint64_t free = free_bytes(dir_);
  if (roomy_at == 0) return free;
  if (free < roomy_at) return free - std::min(free, limits_.reserve_bytes);
  // Another thread may have given the reserve up again.
  roomy_at_.compare_exchange_strong(roomy_at, 0);
  return free;
}

DiskRoom DiskReserve::room() const {
  return available() < limits_.full_bytes ? DiskRoom::kFull : DiskRoom::kPlenty;
}

Status DiskReserve::check_accepted() const {
  return check_free(dir_, limits_.full_bytes / 2);
}

void DiskReserve::keep(bool opening) {
  const std::filesystem::path file = dir_ / "reserve";
  const uint64_t free = free_bytes(dir_);
  if (free < (opening ? limits_.full_bytes : limits_.full_bytes / 2)) {
    const uint64_t before = roomy_at_.exchange(UINT64_MAX);  // it is full while the file goes
    const bool given_up = unlink(file.c_str()) == 0;
    roomy_at_ = given_up ? free_bytes(dir_) + limits_.full_bytes : before;
    if (given_up) {
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
    return;
  }
  // None of what is free now is what was given up. Whoever makes room while the reserve is given up
  // can otherwise leave a mark that the disk never comes to.
  roomy_at_ = 0;
}

}  // namespace muster::raft
