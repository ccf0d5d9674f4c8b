#include "deploy/cli/wrapped_table.h"

#include <sys/ioctl.h>

#include <string>

namespace muster::deploy::cli {
namespace {

// A narrower column is harder to read than lines the terminal breaks itself.
constexpr size_t kReasonMin = 24;

// Breaks the last column at blanks, so that it stays a column; `header` is its title in the first
// line.
std::string wrap_last_column(std::string_view table, std::string_view header, size_t width) {
  const size_t column = table.substr(0, table.find('\n')).rfind(header);
  if (column == std::string_view::npos || column + kReasonMin > width) return std::string(table);
  const size_t room = width - column;
  std::string out;
  for (const std::string& line : split(table, '\n')) {
    if (line.size() <= column) {
      if (!line.empty()) out += line + "\n";
      continue;
    }
    out += line.substr(0, column);
    std::string_view rest = std::string_view(line).substr(column);
    while (rest.size() > room) {
      const size_t blank = rest.rfind(' ', room);
      if (blank == std::string_view::npos || blank == 0) break;
      out += std::string(rest.substr(0, blank)) + "\n" + std::string(column, ' ');
      rest.remove_prefix(blank + 1);
    }
    out += std::string(rest) + "\n";
  }
  return out;
}

size_t terminal_width(const World& world) {
  winsize size{};
  if (!world.out_is_terminal || ioctl(world.out_fd, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

}  // namespace

Status print_wrapped(Run& run, const Listing& listing, std::string_view last_header) {
  MUSTER_ASSIGN(const std::string text, listing.render("table"));
  const size_t width = terminal_width(run.world);
  run.out(width == 0 ? text : wrap_last_column(text, last_header, width));
  return ok_status();
}

}  // namespace muster::deploy::cli
