#pragma once

#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "base/rng.h"

// Ends a process at a chosen system call on files: its own and RocksDB's calls come through here,
// since a program's symbols go before the C library's. To be included by one source of a program.
namespace muster::kill_points {

enum class End {
  kKill,      // as kill -9: what was written is in the page cache, and stays
  kPowerCut,  // what was not synced is cut, or its pages are lost
};

struct Plan {
  bool armed = false;
  uint64_t at = 0;  // the number of the call that is not made any more; 0: only count
  End end = End::kKill;
  uint64_t seed = 0;
  uint64_t calls = 0;
};

class Watch {
 public:
  static Watch& get() {
    static Watch watch;
    return watch;
  }

  // From now on; in a process of its own. What lies on the disk counts as synced.
  void arm(uint64_t at, End end, uint64_t seed) {
    const std::lock_guard lock(mutex_);
    plan_ = {true, at, end, seed, 0};
  }
  uint64_t disarm() {
    const std::lock_guard lock(mutex_);
    plan_.armed = false;
    return plan_.calls;
  }

  void before_call() {
    const std::lock_guard lock(mutex_);
    if (!plan_.armed || ++plan_.calls != plan_.at) return;
    if (plan_.end == End::kPowerCut) cut();
    raise(SIGKILL);
  }
  void before_write(int fd) {
    before_call();
    const std::lock_guard lock(mutex_);
    struct stat info {};
    if (!plan_.armed || plan_.end != End::kPowerCut || fstat(fd, &info) != 0 ||
        !S_ISREG(info.st_mode) || files_.contains(info.st_ino)) {
      return;
    }
    files_[info.st_ino] = {dup(fd), info.st_size};
  }
  void after_sync(int fd) {
    const std::lock_guard lock(mutex_);
    struct stat info {};
    if (!plan_.armed || fstat(fd, &info) != 0) return;
    if (const auto found = files_.find(info.st_ino); found != files_.end()) {
      found->second.synced = info.st_size;
    }
  }

 private:
  struct File {
    int fd = -1;
    int64_t synced = 0;
  };

  void cut() {
    SeededRng rng(plan_.seed);
    for (auto& [inode, file] : files_) {
      struct stat info {};
      if (fstat(file.fd, &info) != 0 || info.st_size <= file.synced) continue;
      const auto loose = static_cast<uint64_t>(info.st_size - file.synced);
      const auto kept = file.synced + static_cast<int64_t>(rng.below(loose + 1));
      const bool shorter = rng.below(2) == 0;
      if (ftruncate(file.fd, kept) != 0) _exit(9);
      // The length reached the disk, but not the pages.
      if (!shorter && ftruncate(file.fd, info.st_size) != 0) _exit(9);
    }
  }

  std::mutex mutex_;
  Plan plan_;
  std::map<uint64_t, File> files_;  // written to since arm(), by inode
};

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

}  // namespace muster::kill_points

extern "C" {

ssize_t write(int fd, const void* data, size_t bytes) {
  static auto* const next = muster::kill_points::real<ssize_t(int, const void*, size_t)>("write");
  muster::kill_points::Watch::get().before_write(fd);
  return next(fd, data, bytes);
}

int fsync(int fd) {
  static auto* const next = muster::kill_points::real<int(int)>("fsync");
  muster::kill_points::Watch::get().before_call();
  const int result = next(fd);
  muster::kill_points::Watch::get().after_sync(fd);
  return result;
}

int fdatasync(int fd) {
  static auto* const next = muster::kill_points::real<int(int)>("fdatasync");
  muster::kill_points::Watch::get().before_call();
  const int result = next(fd);
  muster::kill_points::Watch::get().after_sync(fd);
  return result;
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next = muster::kill_points::real<int(const char*, const char*)>("rename");
  muster::kill_points::Watch::get().before_call();
  return next(from, to);
}

int unlink(const char* path) noexcept {
  static auto* const next = muster::kill_points::real<int(const char*)>("unlink");
  muster::kill_points::Watch::get().before_call();
  return next(path);
}

}  // extern "C"
