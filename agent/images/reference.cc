#include "agent/images/reference.h"

#include <algorithm>
#include <vector>

namespace muster::agent {
namespace {

constexpr std::string_view kDefaultRegistry = "docker.io";
constexpr std::string_view kOfficialPrefix = "library/";
constexpr size_t kNameLengthMax = 255;
constexpr size_t kTagLengthMax = 128;

bool is_lower_alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_alnum(char c) {
  return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}
bool is_lower_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

// Runs of lower-case letters and digits, separated by one '.', one or two '_', or any number of
// '-'.
bool is_path_component(std::string_view text) {
  size_t i = 0;
  while (true) {
    const size_t start = i;
    while (i < text.size() && is_lower_alnum(text[i])) ++i;
    if (i == start) return false;
    if (i == text.size()) return true;
    const size_t separator = i;
    while (i < text.size() && text[i] == text[separator]) ++i;
    const size_t count = i - separator;
    const char c = text[separator];
    const bool legal = (c == '.' && count == 1) || (c == '_' && count <= 2) || c == '-';
    if (!legal) return false;
  }
}

bool is_registry(std::string_view text) {
  std::string_view host = text;
  if (!text.empty() && text[0] == '[') {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return false;
    const auto inner = text.substr(1, close - 1);
    const auto legal = [](char c) { return is_alnum(c) || c == ':' || c == '.'; };
    if (inner.empty() || !std::all_of(inner.begin(), inner.end(), legal)) return false;
    const auto rest = text.substr(close + 1);
    if (rest.empty()) return true;
    if (rest[0] != ':' || rest.size() == 1) return false;
    return std::all_of(rest.begin() + 1, rest.end(), [](char c) { return c >= '0' && c <= '9'; });
  }
  if (const size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    const auto port = text.substr(colon + 1);
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (port.empty() || !std::all_of(port.begin(), port.end(), digit)) return false;
    host = text.substr(0, colon);
  }
  if (host.empty() || !is_alnum(host.front()) || !is_alnum(host.back())) return false;
  return host.find("..") == std::string_view::npos &&
         std::all_of(host.begin(), host.end(),
                     [](char c) { return is_alnum(c) || c == '.' || c == '-'; });
}

bool is_tag(std::string_view text) {
  if (text.empty() || text.size() > kTagLengthMax) return false;
  if (!is_alnum(text[0]) && text[0] != '_') return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

tl::unexpected<Status> bad(std::string_view text, std::string_view why) {
  return fail(invalid_argument("invalid reference format: \"{}\": {}", text, why));
}

Status check_repository(std::string_view text, std::string_view repository) {
  size_t start = 0;
  while (true) {
    const size_t slash = repository.find('/', start);
    if (!is_path_component(repository.substr(start, slash - start))) {
      const bool upper = std::any_of(repository.begin(), repository.end(),
                                     [](char c) { return c >= 'A' && c <= 'Z'; });
      return invalid_argument("invalid reference format: \"{}\": {}", text,
                              upper ? "repository name must be lowercase"
                                    : "repository name may only hold letters, digits and single "
                                      "separators (. _ __ -)");
    }
    if (slash == std::string_view::npos) return ok_status();
    start = slash + 1;
  }
}

}  // namespace

std::string ImageReference::name() const {
  return registry + "/" + repository;
}

std::string ImageReference::tagged() const {
  return tag.empty() ? name() : name() + ":" + tag;
}

std::string ImageReference::full() const {
  return digest.empty() ? tagged() : tagged() + "@" + digest;
}

std::string ImageReference::familiar_name() const {
  if (registry != kDefaultRegistry) return name();
  if (repository.starts_with(kOfficialPrefix) &&
      repository.find('/', kOfficialPrefix.size()) == std::string::npos) {
    return repository.substr(kOfficialPrefix.size());
  }
  return repository;
}

std::string ImageReference::familiar() const {
  std::string result = familiar_name();
  if (!tag.empty()) result += ":" + tag;
  if (!digest.empty()) result += "@" + digest;
  return result;
}

bool is_digest(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  return text.size() == kPrefix.size() + 64 && text.starts_with(kPrefix) &&
         std::all_of(text.begin() + kPrefix.size(), text.end(), is_lower_hex);
}

bool looks_like_id(std::string_view text) {
  return text.size() >= 4 && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), is_lower_hex);
}

Result<ImageReference> parse_reference(std::string_view text) {
  if (text.empty()) return bad(text, "it is empty");
  if (text.size() == 64 && looks_like_id(text)) {
    return bad(text, "a name cannot be 64 hexadecimal digits, which would be an image id");
  }
  ImageReference result;
  std::string_view rest = text;
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    result.digest = rest.substr(at + 1);
    if (!is_digest(result.digest)) return bad(text, "the digest is not sha256 and 64 hex digits");
    rest = rest.substr(0, at);
  }
  const size_t slash = rest.rfind('/');
  const size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    result.tag = rest.substr(colon + 1);
    if (!is_tag(result.tag)) return bad(text, "the tag is malformed");
    rest = rest.substr(0, colon);
  }
  // The first part is a registry only when it cannot be a part of a repository's name.
  const size_t first = rest.find('/');
  const std::string_view head = rest.substr(0, first);
  const bool has_registry =
      first != std::string_view::npos &&
      (head.find_first_of(".:[") != std::string_view::npos || head == "localhost" ||
       std::any_of(head.begin(), head.end(), [](char c) { return c >= 'A' && c <= 'Z'; }));
  if (has_registry) {
    if (!is_registry(head)) return bad(text, "the registry's host name is malformed");
    result.registry = head == "index.docker.io" ? kDefaultRegistry : head;
    rest = rest.substr(first + 1);
  } else {
    result.registry = kDefaultRegistry;
  }
  MUSTER_TRY(check_repository(text, rest));
  result.repository = rest;
  if (result.registry == kDefaultRegistry && rest.find('/') == std::string_view::npos) {
    result.repository = std::string(kOfficialPrefix) + result.repository;
  }
  if (result.name().size() > kNameLengthMax) return bad(text, "the name is too long");
  if (result.tag.empty() && result.digest.empty()) result.tag = "latest";
  return result;
}

}  // namespace muster::agent
