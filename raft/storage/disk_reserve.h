#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>

#include "base/log.h"
#include "base/status.h"
#include "raft/storage/log_store.h"

namespace muster::raft {

// RESOURCE_EXHAUSTED, reason "disk-full", when less than `bytes_min` is free on the file system of
// `dir`.
Status check_free(const std::filesystem::path& dir, uint64_t bytes_min);

// Watches the room on the log's file system, and keeps a file of set-aside space there, which is
// given up when others have filled the disk, so that term and vote can still be written.
class DiskReserve {
 public:
  struct Limits {
    uint64_t full_bytes = 32 << 20;     // free below this: proposals are refused
    uint64_t reserve_bytes = 64 << 20;  // 0: none is kept
  };
  DiskReserve(std::filesystem::path dir, Limits limits, Log log);

  // What was given up is for term and vote: a disk stays full until others have made room. Any
  // thread.
  DiskRoom room() const;
  // Whether there is room at all for entries that were accepted before the disk was full, which are
  // few (a window of the leader's): they may take of what was given up.
  Status check_accepted() const;
  // Gives the reserve up, or sets it aside again, as there is room. Not sooner than needed:
  // proposals are refused from twice as much free on, so what is given up is left for term and
  // vote. To open a log on a full disk takes some of it, too. One thread.
  void keep(bool opening = false);
  uint64_t full_bytes() const { return limits_.full_bytes; }

 private:
  uint64_t available() const;

  std::filesystem::path dir_;
  Limits limits_;
  Log log_;
  // Set when the reserve was given up: until so much is free the disk is full all the same.
  mutable std::atomic<uint64_t> roomy_at_{0};
};

}  // namespace muster::raft
