#include "deploy/compose/values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

namespace muster::deploy::compose {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) { return lower(c); });
  return out;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return lower(c) >= 'a' && lower(c) <= 'z';
}

}  // namespace

Result<int64_t> parse_size(std::string_view text) {
  const Status wrong = invalid_argument("invalid size: '{}'", text);
  size_t end = 0;
  while (end < text.size() && (is_digit(text[end]) || text[end] == '.')) ++end;
  double size = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + end, size);
  if (end == 0 || parsed.ec != std::errc() || parsed.ptr != text.data() + end) return fail(wrong);
  std::string unit = lower(text.substr(end));
  if (!unit.empty() && unit[0] == ' ') unit.erase(0, 1);
  if (unit == "b") unit.clear();
  double factor = 1;
  if (!unit.empty()) {
    constexpr std::string_view kUnits = "kmgtp";
    const size_t power = kUnits.find(unit[0]);
    const std::string_view rest = std::string_view(unit).substr(1);
    if (power == std::string_view::npos || (rest != "" && rest != "b" && rest != "ib")) {
      return fail(wrong);
    }
    for (size_t i = 0; i <= power; ++i) factor *= 1024;
  }
  const double bytes = size * factor;
  if (!(bytes < 9.2e18)) return fail(wrong);
  return static_cast<int64_t>(bytes);
}

Result<int64_t> parse_cpus(std::string_view text) {
  const Status wrong = invalid_argument("failed to parse {} as a number of CPUs", text);
  const size_t dot = text.find('.');
  const std::string_view whole = text.substr(0, dot);
  std::string fraction(dot == std::string_view::npos ? "" : text.substr(dot + 1));
  const bool digits = std::all_of(whole.begin(), whole.end(), is_digit) &&
                      std::all_of(fraction.begin(), fraction.end(), is_digit);
  if (!digits || (whole.empty() && fraction.empty()) || whole.size() > 9) return fail(wrong);
  while (fraction.size() > 9 && fraction.back() == '0') fraction.pop_back();
  if (fraction.size() > 9) return fail(invalid_argument("value is too precise"));
  fraction.resize(9, '0');
  int64_t out = 0;
  for (const char c : whole) out = out * 10 + (c - '0');
  for (const char c : fraction) out = out * 10 + (c - '0');
  return out;
}

Result<bool> parse_yaml11_bool(std::string_view text) {
  const std::string word = lower(text);
  if (word == "y" || word == "yes" || word == "true" || word == "on") return true;
  if (word == "n" || word == "no" || word == "false" || word == "off") return false;
  return fail(invalid_argument("invalid boolean: {}", text));
}

Result<int64_t> parse_integer(std::string_view text) {
  int64_t out = 0;
  const char* const last = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), last, out);
  if (parsed.ec != std::errc() || parsed.ptr != last || text.empty()) {
    return fail(invalid_argument("\"{}\" is not a whole number", text));
  }
  return out;
}

Result<std::vector<std::string>> split_words(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  bool open = false;
  char quote = '\0';
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == '\'') {
      if (c == quote) {
        quote = '\0';
      } else {
        word.push_back(c);
      }
    } else if (c == '\\') {
      if (i + 1 >= text.size()) return fail(invalid_argument("a backslash ends the text"));
      ++i;
      // Between double quotes a backslash escapes only what would end or escape the quoting.
      if (quote == '"' && text[i] != '"' && text[i] != '\\') word.push_back('\\');
      word.push_back(text[i]);
      open = true;
    } else if (quote == '"') {
      if (c == quote) {
        quote = '\0';
      } else {
        word.push_back(c);
      }
    } else if (c == '"' || c == '\'') {
      quote = c;
      open = true;
    } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
      if (open) out.push_back(std::move(word));
      word.clear();
      open = false;
    } else if (c == '#' && !open) {
      while (i + 1 < text.size() && text[i + 1] != '\n') ++i;
    } else {
      word.push_back(c);
      open = true;
    }
  }
  if (quote != '\0') return fail(invalid_argument("a closing {} is missing", quote));
  if (open) out.push_back(std::move(word));
  return out;
}

// ---------------------------------------------------------------- ports

namespace {

struct Range {
  int64_t first = 0;
  int64_t last = 0;
  int64_t size() const { return last - first + 1; }
};

bool is_address(const std::string& text) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

Result<Range> parse_range(std::string_view text, std::string_view what) {
  const Status wrong = invalid_argument("invalid {}: {}", what, text);
  const size_t dash = text.find('-');
  const Result<int64_t> first = parse_integer(text.substr(0, dash));
  const Result<int64_t> last =
      dash == std::string_view::npos ? first : parse_integer(text.substr(dash + 1));
  if (!first || !last || *first < 0 || *last > 65535 || *last < *first) return fail(wrong);
  return Range{*first, *last};
}

}  // namespace

Result<std::vector<Node>> parse_port(std::string_view text, const Position& at) {
  std::string_view rest = text;
  std::string protocol = "tcp";
  if (const size_t slash = rest.rfind('/'); slash != std::string_view::npos) {
    protocol = lower(rest.substr(slash + 1));
    rest = rest.substr(0, slash);
  }
  if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") {
    return fail(invalid_argument("invalid proto: {}", protocol));
  }
  const size_t colon = rest.rfind(':');
  const std::string_view target = colon == std::string_view::npos ? rest : rest.substr(colon + 1);
  std::string_view host = colon == std::string_view::npos ? "" : rest.substr(0, colon);
  std::string address;
  if (const size_t split = host.rfind(':'); split != std::string_view::npos) {
    address = host.substr(0, split);
    host = host.substr(split + 1);
    if (address.size() > 2 && address.front() == '[' && address.back() == ']') {
      address = address.substr(1, address.size() - 2);
    }
    if (!is_address(address)) return fail(invalid_argument("invalid IP address in \"{}\"", text));
  }
  if (target.empty()) return fail(invalid_argument("no port specified: {}<empty>", text));
  MUSTER_ASSIGN(const Range targets, parse_range(target, "containerPort"));
  if (targets.first == 0) return fail(invalid_argument("invalid containerPort: {}", target));
  Range hosts{0, 0};
  if (!host.empty()) {
    MUSTER_ASSIGN(hosts, parse_range(host, "hostPort"));
    if (hosts.size() != targets.size() && targets.size() != 1) {
      return fail(invalid_argument(
          "invalid ranges specified for container and host Ports: {} and {}", target, host));
    }
  }
  std::vector<Node> out;
  const int64_t count = host.empty() ? targets.size() : hosts.size();
  for (int64_t i = 0; i < count; ++i) {
    Node port = Node::map(at);
    port.set("mode", Node::string("ingress", at));
    if (!address.empty()) port.set("host_ip", Node::string(address, at));
    port.set("target", Node::integer(targets.size() == 1 ? targets.first : targets.first + i, at));
    if (!host.empty()) port.set("published", Node::integer(hosts.first + i, at));
    port.set("protocol", Node::string(protocol, at));
    out.push_back(std::move(port));
  }
  return out;
}

// ---------------------------------------------------------------- volumes

namespace {

bool is_path(std::string_view source) {
  if (source[0] == '.' || source[0] == '/' || source[0] == '~') return true;
  if (source.starts_with("\\\\")) return true;
  return source.size() > 1 && is_letter(source[0]) && source[1] == ':';
}

// Splits at colons, but not behind the letter of a Windows drive.
std::vector<std::string> volume_sections(std::string_view text) {
  std::vector<std::string> out(1);
  for (const char c : text) {
    std::string& last = out.back();
    if (c == ':' && !(last.size() == 1 && is_letter(last[0]))) {
      out.emplace_back();
    } else {
      last.push_back(c);
    }
  }
  return out;
}

}  // namespace

Result<Node> parse_volume(std::string_view text, const Position& at) {
  if (text.empty()) return fail(invalid_argument("invalid empty volume spec"));
  std::vector<std::string> sections =
      text.size() <= 2 ? std::vector<std::string>{std::string(text)} : volume_sections(text);
  if (std::any_of(sections.begin(), sections.end(),
                  [](const std::string& section) { return section.empty(); })) {
    return fail(invalid_argument("invalid spec: {}: empty section between colons", text));
  }
  if (sections.size() > 3) return fail(invalid_argument("invalid spec: {}: too many colons", text));
  Node out = Node::map(at);
  const bool anonymous = sections.size() == 1;
  out.set("type", Node::string(!anonymous && is_path(sections[0]) ? "bind" : "volume", at));
  if (!anonymous) out.set("source", Node::string(sections[0], at));
  out.set("target", Node::string(anonymous ? sections[0] : sections[1], at));
  if (sections.size() < 3) return out;
  std::string_view options = sections[2];
  while (true) {
    const size_t comma = options.find(',');
    const std::string_view option = options.substr(0, comma);
    if (option == "ro") {
      out.set("read_only", Node::boolean(true, at));
    } else if (option == "nocopy") {
      Node volume = Node::map(at);
      volume.set("nocopy", Node::boolean(true, at));
      out.set("volume", std::move(volume));
    } else if (option == "shared" || option == "slave" || option == "private" ||
               option == "rshared" || option == "rslave" || option == "rprivate") {
      Node bind = Node::map(at);
      bind.set("propagation", Node::string(std::string(option), at));
      out.set("bind", std::move(bind));
    }
    if (comma == std::string_view::npos) return out;
    options.remove_prefix(comma + 1);
  }
}

// ---------------------------------------------------------------- images, paths

namespace {

bool is_alnum_lower(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z');
}

// Lower-case words joined by ".", "_", "__" or dashes.
bool is_path_component(std::string_view text) {
  if (text.empty() || !is_alnum_lower(text.front()) || !is_alnum_lower(text.back())) return false;
  for (size_t i = 0; i < text.size();) {
    if (is_alnum_lower(text[i])) {
      ++i;
      continue;
    }
    const char c = text[i];
    size_t run = 0;
    while (i < text.size() && text[i] == c) ++run, ++i;
    const size_t most = c == '.' ? 1 : c == '_' ? 2 : c == '-' ? text.size() : 0;
    if (run > most || !is_alnum_lower(text[i])) return false;
  }
  return true;
}

bool is_domain(std::string_view text) {
  const size_t colon = text.rfind(':');
  std::string_view host = text.substr(0, colon);
  if (colon != std::string_view::npos && !text.ends_with(']')) {
    const std::string_view port = text.substr(colon + 1);
    if (port.empty() || !std::all_of(port.begin(), port.end(), is_digit)) return false;
  } else {
    host = text;
  }
  return !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return is_digit(c) || is_letter(c) || c == '.' || c == '-' || c == '[' || c == ']' || c == ':';
  });
}

}  // namespace

Status check_image(std::string_view text) {
  const Status wrong =
      invalid_argument("invalid image reference \"{}\": invalid reference format", text);
  std::string_view rest = text;
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    const std::string_view digest = rest.substr(at + 1);
    const size_t colon = digest.find(':');
    const bool hex =
        colon != std::string_view::npos && digest.size() >= colon + 33 &&
        digest.find_first_not_of("0123456789abcdef", colon + 1) == std::string_view::npos;
    if (!hex || colon == 0) return wrong;
    rest = rest.substr(0, at);
  }
  const size_t slash = rest.rfind('/');
  const size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    const std::string_view tag = rest.substr(colon + 1);
    const bool good = !tag.empty() && tag.size() <= 128 && tag[0] != '.' && tag[0] != '-' &&
                      std::all_of(tag.begin(), tag.end(), [](char c) {
                        return is_digit(c) || is_letter(c) || c == '_' || c == '.' || c == '-';
                      });
    if (!good) return wrong;
    rest = rest.substr(0, colon);
  }
  const size_t first = rest.find('/');
  if (first != std::string_view::npos) {
    const std::string_view domain = rest.substr(0, first);
    const bool named = domain.find_first_of(".:") != std::string_view::npos ||
                       domain == "localhost" || lower(domain) != domain;
    if (named) {
      if (!is_domain(domain)) return wrong;
      rest = rest.substr(first + 1);
    }
  }
  if (rest.empty() || rest.size() > 255) return wrong;
  while (true) {
    const size_t next = rest.find('/');
    if (!is_path_component(rest.substr(0, next))) return wrong;
    if (next == std::string_view::npos) return {};
    rest.remove_prefix(next + 1);
  }
}

bool is_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t more = first < 0x80 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    if ((first >= 0x80 && first < 0xC2) || first > 0xF4 || i + more >= text.size()) return false;
    uint32_t code = more == 0 ? first : first & (0x3Fu >> more);
    for (size_t j = 1; j <= more; ++j) {
      const auto next = static_cast<unsigned char>(text[i + j]);
      if ((next & 0xC0) != 0x80) return false;
      code = code << 6 | (next & 0x3Fu);
    }
    constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    if (code < kLeast[more] || (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF) return false;
    i += more + 1;
  }
  return true;
}

std::string join_file_path(std::string_view base, std::string_view path) {
  const std::filesystem::path joined = std::filesystem::path(base) / std::filesystem::path(path);
  std::string out = joined.lexically_normal().string();
  if (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

std::string parent_path(std::string_view path) {
  return std::filesystem::path(path).parent_path().string();
}

}  // namespace muster::deploy::compose
