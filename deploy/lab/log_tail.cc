#include "deploy/lab/log_tail.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"

namespace muster::deploy::lab {

off_t tail_offset(int fd, int64_t lines) {
  const off_t end = lseek(fd, 0, SEEK_END);
  if (lines <= 0) return end;
  char buffer[65536];
  off_t at = end;
  int64_t seen = 0;
  while (at > 0) {
    const auto size = static_cast<size_t>(std::min<off_t>(at, sizeof buffer));
    const off_t from = at - static_cast<off_t>(size);
    const ssize_t n = pread(fd, buffer, size, from);
    if (n <= 0) return from;
    for (ssize_t i = n; i-- > 0;) {
      const off_t place = from + i;
      // The line feed that ends the file begins no line.
      if (buffer[i] == '\n' && place + 1 != end && ++seen == lines) return place + 1;
    }
    at = from;
  }
  return 0;
}

std::string log_tail(const std::string& path, int64_t lines) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return {};
  lseek(fd.get(), tail_offset(fd.get(), lines), SEEK_SET);
  std::string text;
  char buffer[4096];
  ssize_t n = 0;
  while ((n = read(fd.get(), buffer, sizeof buffer)) > 0) {
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

}  // namespace muster::deploy::lab
