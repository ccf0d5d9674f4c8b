#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace muster::deploy::lab {

// Where the last `lines` lines of the file begin; a last line without its line feed is one. Moves
// the descriptor's offset.
off_t tail_offset(int fd, int64_t lines);

// The last lines of a file, for an error message; "" when it cannot be read.
std::string log_tail(const std::string& path, int64_t lines);

}  // namespace muster::deploy::lab
