#include "overlay/dataplane/container/inside_record.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <utility>
#include <vector>

namespace muster::overlay {
namespace {

constexpr std::string_view kFormat = "muster-inside 1";
constexpr std::string_view kChanging = "changing";
constexpr std::string_view kNone = "-";

std::string text_of(const std::optional<Ip>& ip) {
  return ip ? ip->str() : std::string(kNone);
}

// The first word, which is taken off; what is empty has none.
std::string_view next(std::string_view& text, char separator) {
  const size_t end = text.find(separator);
  const std::string_view word = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  return word;
}

Status damaged(std::string_view what) {
  return invalid_argument("\"{}\" is nothing that a record of a container's inside has", what);
}

// The values of a line, one after another.
class Values {
 public:
  explicit Values(std::string_view line) : rest_(line) {}

  template <class Number>
  Status read(Number& out) {
    const std::string_view word = next(rest_, ' ');
    const auto read = std::from_chars(word.data(), word.data() + word.size(), out);
    const bool all = read.ec == std::errc() && read.ptr == word.data() + word.size();
    return all ? ok_status() : damaged(word);
  }
  Status read(Ip& out) {
    MUSTER_ASSIGN(out, Ip::parse(next(rest_, ' ')));
    return ok_status();
  }
  Status read(std::optional<Ip>& out) {
    const std::string_view word = next(rest_, ' ');
    if (word == kNone) return ok_status();
    MUSTER_ASSIGN(out, Ip::parse(word));
    return ok_status();
  }
  Status read(Prefix& out) {
    MUSTER_ASSIGN(out, Prefix::parse(next(rest_, ' ')));
    return ok_status();
  }
  Status read(Cidr& out) {
    MUSTER_ASSIGN(out, Cidr::parse(next(rest_, ' ')));
    return ok_status();
  }
  Status read(bool& out) {
    int number = 0;
    MUSTER_TRY(read(number));
    out = number != 0;
    return ok_status();
  }
  Status read(std::string& out) {
    out = next(rest_, ' ');
    return out.empty() ? damaged("") : ok_status();
  }
  template <class First, class... Others>
  Status read(First& first, Others&... others) {
    MUSTER_TRY(read(first));
    return read(others...);
  }

 private:
  std::string_view rest_;
};

Status read_line(std::string_view line, InsideRecord& out) {
  if (line == kChanging) {
    out.changing = true;
    return ok_status();
  }
  const std::string_view kind = next(line, ' ');
  Values values(line);
  InsideState& state = out.wanted;
  if (kind == "link") {
    int index = 0;
    InsideLink link{"", true};
    MUSTER_TRY(values.read(index, link.name));
    state.links[index] = std::move(link);
  } else if (kind == "address") {
    InsideAddress a;
    MUSTER_TRY(values.read(a.interface, a.cidr, a.peer));
    state.addresses.push_back(a);
  } else if (kind == "route") {
    InsideRoute r{{}, true};
    TableRoute& route = r.route;
    MUSTER_TRY(
        values.read(route.table, route.destination, route.interface, route.gateway, route.source));
    state.routes.push_back(r);
  } else if (kind == "rule") {
    PolicyRule r;
    MUSTER_TRY(
        values.read(r.preference, r.v6, r.from, r.protocol, r.source_port, r.table, r.no_default));
    state.rules.push_back(r);
  } else if (kind == "neighbour") {
    InsideNeighbour n;
    MUSTER_TRY(values.read(n.interface, n.neighbour.ip, n.neighbour.mac));
    state.neighbours.push_back(std::move(n));
  } else {
    return damaged(kind);
  }
  return ok_status();
}

}  // namespace

std::string format_inside_record(const InsideRecord& record) {
  const InsideState& state = record.wanted;
  std::string out = fmt::format("{}\n", kFormat);
  if (record.changing) out += fmt::format("{}\n", kChanging);
  for (const auto& [index, link] : state.links)
    out += fmt::format("link {} {}\n", index, link.name);
  for (const InsideAddress& a : state.addresses) {
    out += fmt::format("address {} {} {}\n", a.interface, a.cidr.str(), text_of(a.peer));
  }
  for (const auto& [route, fixed] : state.routes) {
    out += fmt::format("route {} {} {} {} {}\n", route.table, route.destination.str(),
                       route.interface, text_of(route.gateway), text_of(route.source));
  }
  for (const PolicyRule& r : state.rules) {
    out += fmt::format("rule {} {:d} {} {} {} {} {:d}\n", r.preference, r.v6, text_of(r.from),
                       r.protocol, r.source_port, r.table, r.no_default);
  }
  for (const InsideNeighbour& n : state.neighbours) {
    out += fmt::format("neighbour {} {} {}\n", n.interface, n.neighbour.ip.str(), n.neighbour.mac);
  }
  return out;
}

Result<InsideRecord> parse_inside_record(std::string_view text) {
  if (!text.ends_with('\n') || next(text, '\n') != kFormat) {
    return fail(invalid_argument("it does not begin with \"{}\", or its end is missing", kFormat));
  }
  InsideRecord out;
  while (!text.empty()) MUSTER_TRY(read_line(next(text, '\n'), out));
  return out;
}

}  // namespace muster::overlay
