#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "deploy/cli/flags.h"
#include "deploy/cli/run.h"

namespace muster::deploy::cli {

// A list as `ls` and `ps` commands print it: rows of named fields, shown as a table of the default
// columns, through a template per row, or as JSON objects, one a line.
class Listing {
 public:
  struct Column {
    std::string field;   // "ID", as templates say
    std::string header;  // "CONTAINER ID"
    bool shown = true;   // in the default table
  };

  explicit Listing(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Values in the order of the columns.
  void add(const std::vector<std::string>& values);

  // `format`: empty or "table", "json", "table TEMPLATE", or a template. With `quiet`, the field
  // `quiet_field` of each row alone.
  Result<std::string> render(std::string_view format, bool quiet = false,
                             std::string_view quiet_field = "ID") const;

 private:
  std::vector<Column> columns_;
  std::vector<boost::json::object> rows_;
};

// Lines of tab-separated cells, aligned as Docker does: cells at least 10 wide, 3 blanks between,
// the last one as it is.
std::string align_cells(std::string_view lines);

// JSON with an indentation of four blanks, as inspect prints it; ends with a newline.
std::string pretty_json(const boost::json::value& value);

// The outcome of an inspect command: all objects as one array, or each through the template.
Result<std::string> render_inspect(const boost::json::array& objects, std::string_view format);

// "web2" before "web10", without regard to case.
bool natural_less(std::string_view a, std::string_view b);

// --filter of the list commands: "key=value", repeated. Only `allowed` keys pass.
class Filters {
 public:
  Status add(const std::string& text);
  Status check(std::initializer_list<std::string_view> allowed) const;
  // Values of the key, in the order given.
  std::vector<std::string> of(std::string_view key) const;
  bool has(std::string_view key) const { return !of(key).empty(); }
  // True when nothing was asked of the key or one of its values is equal / a prefix.
  bool equals(std::string_view key, std::string_view value) const;
  bool prefixes(std::string_view key, std::string_view value) const;
  // Every "label=k[=v]" has to be there.
  template <class Labels>
  bool labels(std::string_view key, const Labels& labels) const {
    for (const std::string& want : of(key)) {
      const size_t equals = want.find('=');
      const std::string name = want.substr(0, equals);
      bool found = false;
      for (const auto& label : labels)
        found = found || (label.key() == name && (equals == std::string::npos ||
                                                  label.value() == want.substr(equals + 1)));
      if (!found) return false;
    }
    return true;
  }

 private:
  std::vector<std::pair<std::string, std::string>> terms_;
};

// The options that every list has.
struct ListOptions {
  std::string format;
  bool quiet = false;
  bool no_trunc = false;
  Filters filters;

  void declare(Flags& flags, bool with_no_trunc);
  // From the command's options to its output.
  Status print(Run& run, const Listing& listing, std::string_view quiet_field = "ID") const;
  std::string id(std::string_view id) const;  // 12 characters unless --no-trunc
};

std::string short_id(std::string_view id);
// At most `width` bytes and a "…" for the rest; never half a character.
std::string shorten(const std::string& text, size_t width);
// "3 hours ago"; "" for no time.
std::string time_ago(int64_t now_ns, int64_t then_ns);
// "12.3MB" (decimal, as docker's sizes) and "1.5GiB" (binary, as docker stats).
std::string human_size(uint64_t bytes);
std::string binary_size(uint64_t bytes);
std::string join(const std::vector<std::string>& items, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);
std::string lower(std::string_view text);

}  // namespace muster::deploy::cli
