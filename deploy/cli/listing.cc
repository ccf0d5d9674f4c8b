#include "deploy/cli/listing.h"

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <cctype>

#include "base/template.h"
#include "base/time.h"

namespace muster::deploy::cli {
namespace {

constexpr size_t kCellMin = 10;
constexpr size_t kCellGap = 3;
constexpr size_t kShortId = 12;

// Columns a terminal gives the text: its code points, which is right for all but wide scripts.
size_t display_width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

// Scripts write \t and \n in their quotes, which the shell leaves as they are.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == 't' || text[i + 1] == 'n')) {
      out += text[++i] == 't' ? '\t' : '\n';
    } else {
      out += text[i];
    }
  }
  return out;
}

// A command or an error may hold line breaks and tabs, which would tear a table apart.
boost::json::object one_line_cells(boost::json::object row) {
  for (auto& cell : row) {
    if (!cell.value().is_string()) continue;
    for (char& c : cell.value().get_string())
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return row;
}

void write_pretty(const boost::json::value& value, size_t depth, std::string* out) {
  const std::string inner((depth + 1) * 4, ' ');
  const std::string outer(depth * 4, ' ');
  if (value.is_object() && !value.get_object().empty()) {
    *out += "{\n";
    bool first = true;
    for (const auto& member : value.get_object()) {
      if (!first) *out += ",\n";
      first = false;
      *out += inner + boost::json::serialize(boost::json::value(member.key())) + ": ";
      write_pretty(member.value(), depth + 1, out);
    }
    *out += "\n" + outer + "}";
  } else if (value.is_array() && !value.get_array().empty()) {
    *out += "[\n";
    bool first = true;
    for (const auto& item : value.get_array()) {
      if (!first) *out += ",\n";
      first = false;
      *out += inner;
      write_pretty(item, depth + 1, out);
    }
    *out += "\n" + outer + "]";
  } else {
    *out += template_json(value);
  }
}

std::string scaled(uint64_t bytes, double base, const std::array<const char*, 6>& units) {
  double size = static_cast<double>(bytes);
  size_t unit = 0;
  while (size >= base && unit + 1 < units.size()) {
    size /= base;
    ++unit;
  }
  return fmt::format("{:.4g}{}", size, units[unit]);
}

}  // namespace

void Listing::add(const std::vector<std::string>& values) {
  boost::json::object row;
  for (size_t i = 0; i < columns_.size() && i < values.size(); ++i)
    row[columns_[i].field] = values[i];
  rows_.push_back(std::move(row));
}

Result<std::string> Listing::render(std::string_view format, bool quiet,
                                    std::string_view quiet_field) const {
  std::string out;
  if (quiet) {
    for (const auto& row : rows_) {
      out += std::string_view(row.at(quiet_field).as_string());
      out += '\n';
    }
    return out;
  }
  if (format == "json") {
    for (const auto& row : rows_) out += template_json(row) + "\n";
    return out;
  }
  const bool table = format.empty() || format == "table" || format.starts_with("table ");
  std::string text;
  if (table && format.size() > 6) {
    text = unescape(format.substr(6));
  } else if (table) {
    for (const Column& column : columns_)
      if (column.shown)
        text += fmt::format("{}{{{{.{}}}}}", text.empty() ? "" : "\t", column.field);
  } else {
    text = unescape(format);
  }
  MUSTER_ASSIGN(const Template row_template, Template::parse(text));
  if (table) {
    boost::json::object header;
    for (const Column& column : columns_) header[column.field] = column.header;
    MUSTER_ASSIGN(const std::string line, row_template.render(header));
    out += line + "\n";
  }
  for (const auto& row : rows_) {
    MUSTER_ASSIGN(const std::string line, row_template.render(table ? one_line_cells(row) : row));
    out += line + "\n";
  }
  return table ? align_cells(out) : out;
}

std::string align_cells(std::string_view lines) {
  std::vector<std::vector<std::string>> rows;
  std::vector<size_t> widths;
  for (const std::string& line : split(lines, '\n')) {
    rows.push_back(split(line, '\t'));
    const auto& cells = rows.back();
    // A cell that nothing follows takes part in no column.
    for (size_t i = 0; i + 1 < cells.size(); ++i) {
      if (widths.size() <= i) widths.resize(i + 1, kCellMin);
      widths[i] = std::max(widths[i], display_width(cells[i]) + kCellGap);
    }
  }
  if (!rows.empty() && rows.back().size() == 1 && rows.back()[0].empty()) rows.pop_back();
  std::string out;
  for (const auto& cells : rows) {
    for (size_t i = 0; i < cells.size(); ++i) {
      out += cells[i];
      if (i + 1 < cells.size()) out.append(widths[i] - display_width(cells[i]), ' ');
    }
    out += '\n';
  }
  return out;
}

std::string pretty_json(const boost::json::value& value) {
  std::string out;
  write_pretty(value, 0, &out);
  return out + "\n";
}

Result<std::string> render_inspect(const boost::json::array& objects, std::string_view format) {
  if (format.empty()) return pretty_json(objects);
  std::string out;
  for (const auto& object : objects) {
    if (format == "json") {
      out += template_json(object) + "\n";
      continue;
    }
    MUSTER_ASSIGN(const std::string line, expand_template(unescape(format), object));
    out += line + "\n";
  }
  return out;
}

bool natural_less(std::string_view a, std::string_view b) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      size_t i_end = i;
      size_t j_end = j;
      while (i_end < a.size() && digit(a[i_end])) ++i_end;
      while (j_end < b.size() && digit(b[j_end])) ++j_end;
      while (i + 1 < i_end && a[i] == '0') ++i;
      while (j + 1 < j_end && b[j] == '0') ++j;
      if (i_end - i != j_end - j) return i_end - i < j_end - j;
      const int order = a.substr(i, i_end - i).compare(b.substr(j, j_end - j));
      if (order != 0) return order < 0;
      i = i_end;
      j = j_end;
      continue;
    }
    const int x = std::tolower(static_cast<unsigned char>(a[i]));
    const int y = std::tolower(static_cast<unsigned char>(b[j]));
    if (x != y) return x < y;
    ++i;
    ++j;
  }
  if ((i < a.size()) != (j < b.size())) return j < b.size();
  return a < b;
}

Status Filters::add(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    return invalid_argument("invalid filter '{}': expected key=value", text);
  terms_.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  return ok_status();
}

Status Filters::check(std::initializer_list<std::string_view> allowed) const {
  for (const auto& [key, value] : terms_) {
    if (std::find(allowed.begin(), allowed.end(), key) != allowed.end()) continue;
    return usage_error(
        fmt::format("invalid filter '{}': known are {}", key,
                    join(std::vector<std::string>(allowed.begin(), allowed.end()), ", ")));
  }
  return ok_status();
}

std::vector<std::string> Filters::of(std::string_view key) const {
  std::vector<std::string> values;
  for (const auto& [name, value] : terms_)
    if (name == key) values.push_back(value);
  return values;
}

bool Filters::equals(std::string_view key, std::string_view value) const {
  const auto values = of(key);
  return values.empty() || std::find(values.begin(), values.end(), value) != values.end();
}

bool Filters::prefixes(std::string_view key, std::string_view value) const {
  const auto values = of(key);
  return values.empty() || std::any_of(values.begin(), values.end(), [&](const auto& prefix) {
           return value.starts_with(prefix);
         });
}

void ListOptions::declare(Flags& flags, bool with_no_trunc) {
  flags.value("format", &format, "FORMAT", "table, json, 'table TEMPLATE' or a template");
  flags.toggle("quiet,q", &quiet, "only ids");
  flags.custom("filter,f", "KEY=VALUE", "show only what matches; may be repeated",
               [this](const std::string& text) { return filters.add(text); });
  if (with_no_trunc) flags.toggle("no-trunc", &no_trunc, "do not shorten ids and errors");
}

Status ListOptions::print(Run& run, const Listing& listing, std::string_view quiet_field) const {
  MUSTER_ASSIGN(const std::string text, listing.render(format, quiet, quiet_field));
  run.out(text);
  return ok_status();
}

std::string ListOptions::id(std::string_view id) const {
  return no_trunc ? std::string(id) : short_id(id);
}

std::string short_id(std::string_view id) {
  if (id.starts_with("sha256:")) id.remove_prefix(7);
  return std::string(id.substr(0, kShortId));
}

std::string shorten(const std::string& text, size_t width) {
  if (text.size() <= width) return text;
  size_t end = width - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "…";
}

std::string time_ago(int64_t now_ns, int64_t then_ns) {
  if (then_ns == 0) return "";
  return human_duration(Duration(std::max<int64_t>(now_ns - then_ns, 0))) + " ago";
}

std::string human_size(uint64_t bytes) {
  return scaled(bytes, 1000, {"B", "kB", "MB", "GB", "TB", "PB"});
}

std::string binary_size(uint64_t bytes) {
  return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"});
}

std::string join(const std::vector<std::string>& items, std::string_view separator) {
  std::string out;
  for (const std::string& item : items) {
    if (&item != &items.front()) out += separator;
    out += item;
  }
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace muster::deploy::cli
