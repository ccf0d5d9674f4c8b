#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/unique_fd.h"

namespace muster::kill_points {

enum class End {
  kKill,      // as kill -9: what was written is in the page cache, and stays
  kPowerCut,  // what was not synced is lost: contents of files, and names in directories
};

// Ends a process at a chosen system call on files: its own calls, RocksDB's and those of the
// language's library come through here (kill_points.cc), since a program's symbols go before
// those of libraries.
//
// A power cut leaves of each file what was synced and a part of what was not; of each directory the
// names as of its last fsync(2) and some of what was done since: none of it, the first changes, or
// any (a rename is one change). Syncing a file says nothing of its name. That is what POSIX
// promises; ext4 keeps more, since all changes of names are in one journal.
class Watch {
 public:
  static Watch& get();

  // From now on; in a process of its own. What lies on the disk counts as synced. `at` is the
  // number of the call that is not made any more; 0: only count. Names are lost under `root`;
  // beside it, in `root`.lost, lies what no name stands for.
  void arm(uint64_t at, End end, uint64_t seed, const std::string& root);
  // The number of calls; itself the last of them, so that a process can end after all it did.
  uint64_t disarm();

  // In the place of the calls.
  ssize_t write(int fd, const void* data, size_t bytes);
  int sync(int fd, const char* call);
  // `make` makes it, or opens what is there.
  int make(const char* name, const std::function<int()>& make);
  int rename(const char* from, const char* to);
  int remove(const char* name, bool directory);

 private:
  struct File {
    int fd = -1;
    int64_t synced = 0;
  };
  using Inode = uint64_t;                                     // 0: there is none
  using Change = std::vector<std::pair<std::string, Inode>>;  // names and what they stand for then
  struct Directory {
    UniqueFd fd;
    std::map<std::string, Inode> synced;  // of the names that changed since
    std::vector<Change> changes;
  };

  bool before_call();  // whether names are to be noted
  bool is_watched(const std::string& path) const;
  Directory& directory_of(const std::string& path);
  void note(const std::string& path, Inode before, Inode after);
  bool put_aside(const std::string& path);
  void cut();
  void cut_files(Rng& rng);
  void cut_names(Directory& directory, Rng& rng);

  std::mutex mutex_;
  bool armed_ = false;
  uint64_t at_ = 0;
  End end_ = End::kKill;
  uint64_t seed_ = 0;
  uint64_t calls_ = 0;
  std::string root_;
  std::map<Inode, File> files_;                                            // written to since arm()
  std::vector<std::pair<Inode, std::unique_ptr<Directory>>> directories_;  // changed since arm()
};

// The exit code of `body` in a process of its own, or 256 and the signal that ended it.
int in_child(const std::function<int()>& body);

}  // namespace muster::kill_points
