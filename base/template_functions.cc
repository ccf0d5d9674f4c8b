// The functions templates may call: Go's built-in ones, then Docker's.

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "base/template_tree.h"

namespace muster {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::string;
using boost::json::value;

constexpr size_t kPadMax = 1 << 16;

std::string_view view_of(const string& text) {
  return {text.data(), text.size()};
}

std::string print_double(double number) {
  char buffer[64];
  const double size = std::fabs(number);
  const bool plain = number == 0 || (size >= 1e-4 && size < 1e21);
  const auto done = std::to_chars(buffer, buffer + sizeof buffer, number,
                                  plain ? std::chars_format::fixed : std::chars_format::scientific);
  return std::string(buffer, done.ptr);
}

bool is_number(const value& v) {
  return v.is_int64() || v.is_uint64() || v.is_double();
}

Result<std::string_view> text_arg(const value& v) {
  if (const string* text = v.if_string()) return view_of(*text);
  return fail(invalid_argument("expected a text, got {}", template_print(v)));
}

Result<int64_t> int_arg(const value& v) {
  if (v.is_int64()) return v.get_int64();
  return fail(invalid_argument("expected an integer, got {}", template_print(v)));
}

Status want(const TemplateArgs& args, size_t count) {
  if (args.size() == count) return {};
  return invalid_argument("expects {} argument{}, got {}", count, count == 1 ? "" : "s",
                          args.size());
}

std::string with_case(std::string_view text, bool upper) {
  std::string out(text);
  for (char& c : out) {
    if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

// -------------------------------------------------------------- comparisons

Result<int> compare(const value& a, const value& b) {
  if (a.is_string() && b.is_string()) {
    const int c = view_of(a.get_string()).compare(view_of(b.get_string()));
    return c < 0 ? -1 : c > 0 ? 1 : 0;
  }
  if (a.is_int64() && b.is_int64()) {
    return a.get_int64() < b.get_int64() ? -1 : a.get_int64() > b.get_int64() ? 1 : 0;
  }
  if (is_number(a) && is_number(b)) {
    const double x = a.to_number<double>();
    const double y = b.to_number<double>();
    return x < y ? -1 : x > y ? 1 : 0;
  }
  return fail(invalid_argument("cannot compare {} with {}", template_print(a), template_print(b)));
}

bool equal(const value& a, const value& b) {
  if (is_number(a) && is_number(b)) return compare(a, b).value_or(1) == 0;
  return a == b;
}

Result<value> fn_eq(const TemplateArgs& args) {
  if (args.size() < 2) return fail(invalid_argument("expects at least 2 arguments"));
  for (size_t i = 1; i < args.size(); ++i) {
    if (equal(*args[0], *args[i])) return value(true);
  }
  return value(false);
}

Result<value> fn_ne(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 2));
  return value(!equal(*args[0], *args[1]));
}

template <class Test>
Result<value> ordered(const TemplateArgs& args, Test test) {
  MUSTER_TRY(want(args, 2));
  MUSTER_ASSIGN(const int order, compare(*args[0], *args[1]));
  return value(test(order));
}
Result<value> fn_lt(const TemplateArgs& args) {
  return ordered(args, [](int order) { return order < 0; });
}
Result<value> fn_le(const TemplateArgs& args) {
  return ordered(args, [](int order) { return order <= 0; });
}
Result<value> fn_gt(const TemplateArgs& args) {
  return ordered(args, [](int order) { return order > 0; });
}
Result<value> fn_ge(const TemplateArgs& args) {
  return ordered(args, [](int order) { return order >= 0; });
}

Result<value> fn_not(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 1));
  return value(!template_truth(*args[0]));
}

// The evaluator decides these; the table only has to know the names.
Result<value> fn_and_or(const TemplateArgs& args) {
  if (args.empty()) return fail(invalid_argument("expects arguments"));
  return *args.back();
}

// -------------------------------------------------------------- lists and maps

Result<value> fn_index(const TemplateArgs& args) {
  if (args.empty()) return fail(invalid_argument("expects at least 1 argument"));
  const value* at = args[0];
  for (size_t i = 1; i < args.size(); ++i) {
    if (const array* list = at->if_array()) {
      MUSTER_ASSIGN(const int64_t position, int_arg(*args[i]));
      if (position < 0 || static_cast<size_t>(position) >= list->size()) {
        return fail(
            invalid_argument("index {} is out of range, the list has {}", position, list->size()));
      }
      at = &(*list)[static_cast<size_t>(position)];
    } else if (const object* members = at->if_object()) {
      MUSTER_ASSIGN(const std::string_view key, text_arg(*args[i]));
      at = members->if_contains(boost::json::string_view(key.data(), key.size()));
      // As Go answers for a map of texts, which labels are.
      if (at == nullptr) return value("");
    } else {
      return fail(invalid_argument("cannot index {}", template_print(*at)));
    }
  }
  return *at;
}

Result<value> fn_slice(const TemplateArgs& args) {
  if (args.empty() || args.size() > 3) return fail(invalid_argument("expects 1 to 3 arguments"));
  const array* list = args[0]->if_array();
  const string* text = args[0]->if_string();
  if (list == nullptr && text == nullptr) {
    return fail(invalid_argument("cannot slice {}", template_print(*args[0])));
  }
  const auto size = static_cast<int64_t>(list != nullptr ? list->size() : text->size());
  int64_t from = 0;
  int64_t to = size;
  if (args.size() > 1) {
    MUSTER_ASSIGN(from, int_arg(*args[1]));
  }
  if (args.size() > 2) {
    MUSTER_ASSIGN(to, int_arg(*args[2]));
  }
  if (from < 0 || from > to || to > size) {
    return fail(invalid_argument("range {}:{} is outside of 0:{}", from, to, size));
  }
  if (text != nullptr) {
    return value(string(text->data() + from, static_cast<size_t>(to - from)));
  }
  array out;
  for (int64_t i = from; i < to; ++i) out.push_back((*list)[static_cast<size_t>(i)]);
  return out;
}

Result<value> fn_len(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 1));
  const value& v = *args[0];
  if (v.is_string()) return value(static_cast<int64_t>(v.get_string().size()));
  if (v.is_array()) return value(static_cast<int64_t>(v.get_array().size()));
  if (v.is_object()) return value(static_cast<int64_t>(v.get_object().size()));
  return fail(invalid_argument("{} has no length", template_print(v)));
}

// -------------------------------------------------------------- printing

Result<value> fn_print(const TemplateArgs& args) {
  std::string out;
  for (size_t i = 0; i < args.size(); ++i) {
    // Go's Sprint: a blank between two operands when neither is a text.
    if (i > 0 && !args[i]->is_string() && !args[i - 1]->is_string()) out.push_back(' ');
    out += template_print(*args[i]);
  }
  return value(out);
}

Result<value> fn_println(const TemplateArgs& args) {
  std::string out;
  for (size_t i = 0; i < args.size(); ++i) {
    if (i > 0) out.push_back(' ');
    out += template_print(*args[i]);
  }
  return value(out + "\n");
}

std::string quote(std::string_view text) {
  return boost::json::serialize(boost::json::string_view(text.data(), text.size()));
}

std::string in_base(uint64_t number, unsigned base, bool upper) {
  char buffer[72];
  const auto done = std::to_chars(buffer, buffer + sizeof buffer, number, static_cast<int>(base));
  return with_case(std::string_view(buffer, static_cast<size_t>(done.ptr - buffer)), upper);
}

struct Verb {
  bool left = false;
  bool zero = false;
  bool plus = false;
  size_t width = 0;
  std::optional<size_t> precision;
  char kind = 'v';
};

std::string print_hex(const value& v, bool upper) {
  if (v.is_int64()) {
    const int64_t n = v.get_int64();
    const auto size = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
    return (n < 0 ? "-" : "") + in_base(size, 16, upper);
  }
  std::string out;
  for (const unsigned char c : template_print(v)) {
    if (c < 16) out.push_back('0');
    out += in_base(c, 16, upper);
  }
  return out;
}

std::string print_verb(const Verb& verb, const value& v) {
  switch (verb.kind) {
    case 's':
    case 'v': {
      std::string text = template_print(v);
      if (verb.precision && verb.kind == 's') text = text.substr(0, *verb.precision);
      return text;
    }
    case 'q': return quote(template_print(v));
    case 't':
      if (v.is_bool()) return template_print(v);
      break;
    case 'd':
      if (v.is_int64() || v.is_uint64()) {
        return (verb.plus && v.is_int64() && v.get_int64() >= 0 ? "+" : "") + template_print(v);
      }
      break;
    case 'x':
    case 'X':
      if (v.is_string() || v.is_int64()) return print_hex(v, verb.kind == 'X');
      break;
    case 'f':
    case 'g':
    case 'e':
      if (is_number(v)) {
        const double number = v.to_number<double>();
        if (verb.kind == 'g' && !verb.precision) return print_double(number);
        const int digits = static_cast<int>(std::min<size_t>(verb.precision.value_or(6), 64));
        char buffer[512];
        const auto format = verb.kind == 'f'   ? std::chars_format::fixed
                            : verb.kind == 'e' ? std::chars_format::scientific
                                               : std::chars_format::general;
        const auto done = std::to_chars(buffer, buffer + sizeof buffer, number, format, digits);
        return std::string(buffer, done.ptr);
      }
      break;
    default: break;
  }
  return fmt::format("%!{}({})", verb.kind, template_print(v));
}

Result<Verb> read_verb(std::string_view format, size_t& pos) {
  Verb verb;
  for (; pos < format.size(); ++pos) {
    if (format[pos] == '-') {
      verb.left = true;
    } else if (format[pos] == '0') {
      verb.zero = true;
    } else if (format[pos] == '+') {
      verb.plus = true;
    } else if (format[pos] != ' ' && format[pos] != '#') {
      break;
    }
  }
  const auto read_number = [&] {
    size_t number = 0;
    for (; pos < format.size() && format[pos] >= '0' && format[pos] <= '9'; ++pos) {
      number = std::min<size_t>(number * 10 + static_cast<size_t>(format[pos] - '0'), kPadMax + 1);
    }
    return number;
  };
  verb.width = read_number();
  if (pos < format.size() && format[pos] == '.') {
    ++pos;
    verb.precision = read_number();
  }
  if (verb.width > kPadMax) return fail(invalid_argument("a width is over {}", kPadMax));
  if (pos >= format.size()) return fail(invalid_argument("the format ends inside a verb"));
  verb.kind = format[pos++];
  return verb;
}

Result<value> fn_printf(const TemplateArgs& args) {
  if (args.empty()) return fail(invalid_argument("expects a format"));
  MUSTER_ASSIGN(const std::string_view format, text_arg(*args[0]));
  std::string out;
  size_t next = 1;
  for (size_t pos = 0; pos < format.size();) {
    if (format[pos] != '%') {
      out.push_back(format[pos++]);
      continue;
    }
    ++pos;
    if (pos < format.size() && format[pos] == '%') {
      out.push_back('%');
      ++pos;
      continue;
    }
    MUSTER_ASSIGN(const Verb verb, read_verb(format, pos));
    if (next >= args.size()) return fail(invalid_argument("too few values for the format"));
    std::string text = print_verb(verb, *args[next++]);
    if (text.size() < verb.width) {
      const size_t missing = verb.width - text.size();
      const bool sign = verb.zero && !text.empty() && (text[0] == '-' || text[0] == '+');
      if (verb.left) {
        text.append(missing, ' ');
      } else {
        text.insert(sign ? 1 : 0, missing, verb.zero ? '0' : ' ');
      }
    }
    out += text;
  }
  if (next < args.size()) return fail(invalid_argument("too many values for the format"));
  return value(out);
}

Result<value> fn_urlquery(const TemplateArgs& args) {
  MUSTER_ASSIGN(const value printed, fn_print(args));
  std::string out;
  for (const unsigned char c : view_of(printed.get_string())) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      out.push_back(static_cast<char>(c));
    } else if (c == ' ') {
      out.push_back('+');
    } else {
      out += fmt::format("%{:02X}", c);
    }
  }
  return value(out);
}

// -------------------------------------------------------------- Docker's

Result<value> fn_json(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 1));
  return value(template_json(*args[0]));
}

Result<value> fn_join(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 2));
  // `join .List ","`, and `.List | join ","` for those who pipe.
  const bool swapped = args[0]->is_string() && args[1]->is_array();
  const value& list = *args[swapped ? 1 : 0];
  MUSTER_ASSIGN(const std::string_view separator, text_arg(*args[swapped ? 0 : 1]));
  std::string out;
  if (list.is_null()) return value(out);
  const array* items = list.if_array();
  if (items == nullptr) {
    return fail(invalid_argument("expected a list, got {}", template_print(list)));
  }
  for (size_t i = 0; i < items->size(); ++i) {
    if (i > 0) out += separator;
    out += template_print((*items)[i]);
  }
  return value(out);
}

Result<value> fn_split(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 2));
  MUSTER_ASSIGN(const std::string_view text, text_arg(*args[0]));
  MUSTER_ASSIGN(const std::string_view separator, text_arg(*args[1]));
  array out;
  const auto add = [&out](std::string_view part) {
    out.emplace_back(string(part.data(), part.size()));
  };
  if (separator.empty()) {
    for (size_t i = 0; i < text.size(); ++i) add(text.substr(i, 1));
    return out;
  }
  size_t start = 0;
  while (true) {
    const size_t end = text.find(separator, start);
    add(text.substr(start, end == std::string_view::npos ? end : end - start));
    if (end == std::string_view::npos) return out;
    start = end + separator.size();
  }
}

Result<value> fn_lower(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 1));
  return value(with_case(template_print(*args[0]), false));
}
Result<value> fn_upper(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 1));
  return value(with_case(template_print(*args[0]), true));
}
Result<value> fn_title(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 1));
  std::string out = template_print(*args[0]);
  bool start = true;
  for (char& c : out) {
    if (start && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    start = c == ' ' || c == '\t' || c == '\n' || c == '-';
  }
  return value(out);
}

Result<value> fn_pad(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 3));
  MUSTER_ASSIGN(const std::string_view text, text_arg(*args[0]));
  MUSTER_ASSIGN(const int64_t before, int_arg(*args[1]));
  MUSTER_ASSIGN(const int64_t after, int_arg(*args[2]));
  const auto limit = static_cast<int64_t>(kPadMax);
  if (before < 0 || after < 0 || before > limit || after > limit) {
    return fail(invalid_argument("a width is outside of 0 to {}", kPadMax));
  }
  if (text.empty()) return value("");
  return value(std::string(static_cast<size_t>(before), ' ') + std::string(text) +
               std::string(static_cast<size_t>(after), ' '));
}

Result<value> fn_truncate(const TemplateArgs& args) {
  MUSTER_TRY(want(args, 2));
  MUSTER_ASSIGN(const std::string_view text, text_arg(*args[0]));
  MUSTER_ASSIGN(const int64_t size, int_arg(*args[1]));
  if (size < 0) return fail(invalid_argument("a length is negative"));
  return value(std::string(text.substr(0, static_cast<size_t>(size))));
}

struct Entry {
  std::string_view name;
  internal::TemplateBuiltin function;
};

constexpr Entry kFunctions[] = {
    {"and", fn_and_or},  {"or", fn_and_or},     {"not", fn_not},         {"eq", fn_eq},
    {"ne", fn_ne},       {"lt", fn_lt},         {"le", fn_le},           {"gt", fn_gt},
    {"ge", fn_ge},       {"index", fn_index},   {"slice", fn_slice},     {"len", fn_len},
    {"print", fn_print}, {"printf", fn_printf}, {"println", fn_println}, {"urlquery", fn_urlquery},
    {"json", fn_json},   {"join", fn_join},     {"split", fn_split},     {"lower", fn_lower},
    {"upper", fn_upper}, {"title", fn_title},   {"pad", fn_pad},         {"truncate", fn_truncate},
};

}  // namespace

namespace internal {
TemplateBuiltin find_template_builtin(std::string_view name) {
  for (const Entry& entry : kFunctions) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}
}  // namespace internal

bool template_truth(const value& v) {
  switch (v.kind()) {
    case boost::json::kind::null: return false;
    case boost::json::kind::bool_: return v.get_bool();
    case boost::json::kind::int64: return v.get_int64() != 0;
    case boost::json::kind::uint64: return v.get_uint64() != 0;
    case boost::json::kind::double_: return v.get_double() != 0;
    case boost::json::kind::string: return !v.get_string().empty();
    case boost::json::kind::array: return !v.get_array().empty();
    case boost::json::kind::object: return !v.get_object().empty();
  }
  return false;
}

std::string template_print(const value& v) {
  switch (v.kind()) {
    case boost::json::kind::null: return "<nil>";
    case boost::json::kind::bool_: return v.get_bool() ? "true" : "false";
    case boost::json::kind::int64: return std::to_string(v.get_int64());
    case boost::json::kind::uint64: return std::to_string(v.get_uint64());
    case boost::json::kind::double_: return print_double(v.get_double());
    case boost::json::kind::string: return std::string(view_of(v.get_string()));
    case boost::json::kind::array: {
      std::string out = "[";
      for (const value& item : v.get_array()) {
        if (out.size() > 1) out.push_back(' ');
        out += template_print(item);
      }
      return out + "]";
    }
    case boost::json::kind::object: {
      std::map<std::string_view, const value*> sorted;
      for (const auto& member : v.get_object()) sorted.emplace(member.key(), &member.value());
      std::string out = "map[";
      for (const auto& [key, member] : sorted) {
        if (out.size() > 4) out.push_back(' ');
        out += std::string(key) + ":" + template_print(*member);
      }
      return out + "]";
    }
  }
  return {};
}

std::string template_json(const value& v) {
  if (v.is_double()) return print_double(v.get_double());
  if (const array* items = v.if_array()) {
    std::string out = "[";
    for (const value& item : *items) {
      if (out.size() > 1) out.push_back(',');
      out += template_json(item);
    }
    return out + "]";
  }
  if (const object* members = v.if_object()) {
    std::string out = "{";
    for (const auto& member : *members) {
      if (out.size() > 1) out.push_back(',');
      out +=
          quote({member.key().data(), member.key().size()}) + ":" + template_json(member.value());
    }
    return out + "}";
  }
  return boost::json::serialize(v);
}

}  // namespace muster
