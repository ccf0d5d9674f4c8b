#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "agent/logs/log_line.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace muster::agent {

// A place in a container's log that outlives the process: which file, and how far it was read. A
// file is known by how it begins (its first time stamp), since inode numbers are used again.
struct LogPosition {
  std::string file_head;
  uint64_t offset = 0;
};

// Reads one container's log forward through its rotated files, container.log.N ... container.log.1,
// container.log, without ever waiting. Pieces of a long line are put together again, up to
// kLineBytesMax. Nothing that was written is skipped as long as the files are there: rotation
// only renames, and the file that is being read stays open.
//
// Memory: one block, and the unfinished line of each stream.
class LogCursor {
 public:
  static constexpr size_t kBlockBytes = 64 << 10;
  static constexpr size_t kLineBytesMax = 64 << 10;
  static constexpr int kRotatedFilesMax = 100;
  static constexpr uint64_t kScanBytesMax = 8 << 20;

  LogCursor(std::string bundle_dir, LogFilter filter);

  // Where next() begins: at the first line, or so that `tail` lines that the filter takes are left.
  // Both may be called before there is a file.
  void seek_start();
  void seek_tail(int64_t lines);
  // Where position() was. When that file is gone: at the oldest there is, and the answer is false.
  bool seek(const LogPosition& position);

  enum class Next {
    kLine,
    kNothing,    // everything written so far has been read
    kMore,       // nothing among the next kScanBytesMax; go on
    kPastUntil,  // the filter takes nothing that can still come
  };
  Next next(LogLine* line);
  // What is left of lines that were never finished, one call a stream; false when nothing is. For
  // logs that no one writes any more.
  bool take_unfinished(LogLine* line);

  // How far what next() has returned reaches. Unfinished pieces are read again from there.
  const LogPosition& position() const { return safe_; }
  // How often the file that was being read had been deleted before its successor was begun: with
  // more than one file kept, lines in between are lost.
  uint64_t gaps() const { return gaps_; }
  const std::string& bundle_dir() const { return bundle_dir_; }

 private:
  std::string file_name(int index) const;
  // The index that the open file has now; -1 when it was deleted.
  int index_of_current() const;
  bool open_oldest();
  bool open_file(int index, uint64_t offset);
  void adopt(UniqueFd file, uint64_t offset);
  // At the end of the open file: goes on with the next newer one, if that exists.
  bool advance();
  bool fill();
  // Everything up to here has been handed out, or is of no interest.
  void mark_safe();
  // Takes a record into the pieces; true when that completes a line.
  bool add_record(LogLine record, LogLine* line);

  std::string bundle_dir_;
  LogFilter filter_;
  UniqueFd current_;
  std::string head_;          // of current_, see LogPosition
  uint64_t read_offset_ = 0;  // of current_: behind what is in block_
  std::string block_;         // read and not yet consumed
  size_t block_begin_ = 0;
  bool skipping_ = false;          // inside a record that is longer than a block can be
  bool drained_ = false;           // read to its end after it was seen to be an old one
  std::array<LogLine, 2> pieces_;  // by is_stderr; empty text = none
  LogPosition safe_;               // in front of the oldest unfinished piece
  uint64_t gaps_ = 0;
};

}  // namespace muster::agent
