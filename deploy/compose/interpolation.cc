#include "deploy/compose/interpolation.h"

#include <algorithm>
#include <charconv>

#include "deploy/compose/loader.h"
#include "deploy/compose/schema.h"
#include "deploy/compose/values.h"

namespace muster::deploy::compose {
namespace {

constexpr int kNestingMax = 32;
constexpr size_t kBytesMax = 4 << 20;

bool name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool name_char(char c) {
  return name_start(c) || (c >= '0' && c <= '9');
}

Status malformed(std::string_view text) {
  return invalid_argument("\"{}\"; you may need to escape any $ with another $", text);
}

Status missing(std::string_view name, std::string_view why) {
  return invalid_argument("required variable {} is missing a value{}{}", name,
                          why.empty() ? "" : ": ", why);
}

// -------------------------------------------------------------- v3

class V3Substitution {
 public:
  V3Substitution(std::string_view text, const Lookup& lookup, std::vector<std::string>& notes)
      : text_(text), lookup_(lookup), notes_(notes) {}

  Result<std::string> run() {
    std::string out;
    size_t pos = 0;
    while (pos < text_.size()) {
      if (text_[pos] != '$') {
        out.push_back(text_[pos++]);
        continue;
      }
      ++pos;
      if (pos < text_.size() && text_[pos] == '$') {
        out.push_back('$');
        ++pos;
        continue;
      }
      MUSTER_ASSIGN(const std::string value, variable(pos));
      out += value;
    }
    return out;
  }

 private:
  // `pos` stands behind the "$".
  Result<std::string> variable(size_t& pos) {
    const bool braced = pos < text_.size() && text_[pos] == '{';
    const size_t start = pos + (braced ? 1 : 0);
    size_t end = start;
    if (end < text_.size() && name_start(text_[end])) {
      while (end < text_.size() && name_char(text_[end])) ++end;
    }
    if (end == start) return fail(malformed(text_));
    const std::string name(text_.substr(start, end - start));
    const bool colon = end + 1 < text_.size() && text_[end] == ':' &&
                       (text_[end + 1] == '-' || text_[end + 1] == '?');
    const size_t at = colon ? end + 1 : end;
    const char op = at < text_.size() ? text_[at] : '\0';
    const bool has_op = op == '-' || op == '?';
    std::string_view rest;
    if (has_op) {
      end = std::min(text_.find('}', at + 1), text_.size());
      rest = text_.substr(at + 1, end - at - 1);
    }
    if (braced && (end >= text_.size() || text_[end] != '}')) return fail(malformed(text_));
    if (has_op && !braced) {
      notes_.push_back(
          fmt::format("\"{}\" is read as ${{{}}}: write ${{{}}} with braces to keep "
                      "what follows it",
                      text_, text_.substr(start, end - start), name));
    }
    pos = braced ? end + 1 : end;
    const std::optional<std::string> value = lookup_(name);
    const bool absent = !value || (colon && value->empty());
    if (op == '?' && has_op && absent) return fail(missing(name, rest));
    if (op == '-' && has_op && absent) return std::string(rest);
    return value.value_or("");
  }

  std::string_view text_;
  const Lookup& lookup_;
  std::vector<std::string>& notes_;
};

// -------------------------------------------------------------- the Compose Specification

class SpecSubstitution {
 public:
  SpecSubstitution(std::string_view text, const Lookup& lookup, std::vector<std::string>& notes)
      : text_(text), lookup_(lookup), notes_(notes) {}

  Result<std::string> run() {
    std::string out;
    MUSTER_TRY(read(out, 0, true));
    return out;
  }

 private:
  // Copies text with its variables replaced, up to the end or, nested, to the closing brace.
  // An inactive branch is read for its extent only: its variables may be missing.
  Status read(std::string& out, int depth, bool active) {
    if (depth > kNestingMax) return malformed(text_);
    while (pos_ < text_.size()) {
      const char c = text_[pos_];
      if (c == '}' && depth > 0) return {};
      ++pos_;
      if (c != '$') {
        out.push_back(c);
      } else if (pos_ < text_.size() && text_[pos_] == '$') {
        out.push_back('$');
        ++pos_;
      } else {
        MUSTER_TRY(variable(out, depth, active));
      }
      if (out.size() > kBytesMax) return invalid_argument("the text grows too long");
    }
    return depth == 0 ? Status() : malformed(text_);
  }

  Status variable(std::string& out, int depth, bool active) {
    const bool braced = pos_ < text_.size() && text_[pos_] == '{';
    if (braced) ++pos_;
    const size_t start = pos_;
    if (pos_ < text_.size() && name_start(text_[pos_])) {
      while (pos_ < text_.size() && name_char(text_[pos_])) ++pos_;
    }
    if (pos_ == start) return malformed(text_);
    const std::string name(text_.substr(start, pos_ - start));
    const std::optional<std::string> value = lookup_(name);
    if (!braced) {
      plain(name, value, active, out);
      return {};
    }
    if (pos_ < text_.size() && text_[pos_] == '}') {
      ++pos_;
      plain(name, value, active, out);
      return {};
    }
    const bool colon = pos_ < text_.size() && text_[pos_] == ':';
    if (colon) ++pos_;
    const char op = pos_ < text_.size() ? text_[pos_] : '\0';
    if (op != '-' && op != '?' && op != '+') return malformed(text_);
    ++pos_;
    const bool present = value && !(colon && value->empty());
    const bool branch = op == '+' ? present : !present;
    std::string inner;
    MUSTER_TRY(read(inner, depth + 1, active && branch));
    ++pos_;  // the closing brace
    if (!branch) {
      if (op != '+') out += *value;
      return {};
    }
    if (op == '?') return active ? missing(name, inner) : Status();
    out += inner;
    return {};
  }

  void plain(const std::string& name, const std::optional<std::string>& value, bool active,
             std::string& out) {
    if (!value && active) {
      notes_.push_back(
          fmt::format("The \"{}\" variable is not set. Defaulting to a blank string.", name));
    }
    out += value.value_or("");
  }

  std::string_view text_;
  const Lookup& lookup_;
  std::vector<std::string>& notes_;
  size_t pos_ = 0;
};

// -------------------------------------------------------------- documents

enum class Cast { kInt, kFloat, kBool };
struct CastRule {
  std::string_view path;
  Cast cast;
};

constexpr CastRule kCasts[] = {
    {"services.*.configs.[].mode", Cast::kInt},
    {"services.*.secrets.[].mode", Cast::kInt},
    {"services.*.healthcheck.retries", Cast::kInt},
    {"services.*.healthcheck.disable", Cast::kBool},
    {"services.*.deploy.replicas", Cast::kInt},
    {"services.*.deploy.update_config.parallelism", Cast::kInt},
    {"services.*.deploy.update_config.max_failure_ratio", Cast::kFloat},
    {"services.*.deploy.rollback_config.parallelism", Cast::kInt},
    {"services.*.deploy.rollback_config.max_failure_ratio", Cast::kFloat},
    {"services.*.deploy.restart_policy.max_attempts", Cast::kInt},
    {"services.*.deploy.placement.max_replicas_per_node", Cast::kInt},
    {"services.*.ports.[].target", Cast::kInt},
    {"services.*.ports.[].published", Cast::kInt},
    {"services.*.ulimits.*", Cast::kInt},
    {"services.*.ulimits.*.hard", Cast::kInt},
    {"services.*.ulimits.*.soft", Cast::kInt},
    {"services.*.oom_score_adj", Cast::kInt},
    {"services.*.privileged", Cast::kBool},
    {"services.*.read_only", Cast::kBool},
    {"services.*.stdin_open", Cast::kBool},
    {"services.*.tty", Cast::kBool},
    {"services.*.volumes.[].read_only", Cast::kBool},
    {"services.*.volumes.[].volume.nocopy", Cast::kBool},
    {"networks.*.external", Cast::kBool},
    {"networks.*.internal", Cast::kBool},
    {"networks.*.attachable", Cast::kBool},
    {"volumes.*.external", Cast::kBool},
    {"secrets.*.external", Cast::kBool},
    {"configs.*.external", Cast::kBool},
};

Result<Node> cast(const Node& node, Cast to) {
  const std::string& text = node.text;
  const char* const last = text.data() + text.size();
  switch (to) {
    case Cast::kInt: {
      int64_t number = 0;
      const char* first = text.data() + (text.starts_with('+') ? 1 : 0);
      const auto parsed = std::from_chars(first, last, number);
      if (parsed.ec == std::errc() && parsed.ptr == last) return Node::integer(number, node.at);
      return fail(invalid_argument("\"{}\" is not a whole number", text));
    }
    case Cast::kFloat: {
      Node out = Node::string(text, node.at);
      const auto parsed = std::from_chars(text.data(), last, out.real);
      if (parsed.ec != std::errc() || parsed.ptr != last) {
        return fail(invalid_argument("\"{}\" is not a number", text));
      }
      out.kind = Node::Kind::kFloat;
      return out;
    }
    case Cast::kBool: {
      MUSTER_ASSIGN(const bool flag, parse_yaml11_bool(text));
      return Node::boolean(flag, node.at);
    }
  }
  return node;
}

class Interpolator {
 public:
  Interpolator(Dialect dialect, const Lookup& lookup, std::vector<std::string>& notes)
      : dialect_(dialect), lookup_(lookup), notes_(notes) {}

  Status walk(Node& node) {
    if (node.is_string()) return replace(node);
    for (size_t i = 0; i < node.items.size(); ++i) {
      path_.push_back(std::to_string(i));
      MUSTER_TRY(walk(node.items[i]));
      path_.pop_back();
    }
    for (Member& member : node.members) {
      path_.push_back(member.key);
      MUSTER_TRY(walk(member.value));
      path_.pop_back();
    }
    return {};
  }

 private:
  Status replace(Node& node) {
    if (node.text.find('$') == std::string::npos) return {};
    Result<std::string> text = substitute(node.text, dialect_, lookup_, notes_);
    if (!text) {
      const bool quoted = text.error().message().starts_with('"');
      return error_at(node.at, fmt::format("{} {}: {}",
                                           quoted ? "invalid interpolation format for"
                                                  : "error while interpolating",
                                           join_path(path_), text.error().message()));
    }
    bytes_ += text->size();
    if (bytes_ > kBytesMax) return error_at(node.at, "variables make the document too long");
    const bool changed = *text != node.text;
    node.text = *std::move(text);
    if (!changed || dialect_ != Dialect::kV3) return {};
    for (const CastRule& rule : kCasts) {
      if (!path_matches(path_, rule.path)) continue;
      Result<Node> value = cast(node, rule.cast);
      if (!value) {
        return error_at(node.at, fmt::format("error while interpolating {}: failed to cast to "
                                             "expected type: {}",
                                             join_path(path_), value.error().message()));
      }
      node = *std::move(value);
      return {};
    }
    return {};
  }

  Dialect dialect_;
  const Lookup& lookup_;
  std::vector<std::string>& notes_;
  std::vector<std::string> path_;
  size_t bytes_ = 0;
};

}  // namespace

Result<std::string> substitute(std::string_view text, Dialect dialect, const Lookup& lookup,
                               std::vector<std::string>& notes) {
  if (dialect == Dialect::kV3) return V3Substitution(text, lookup, notes).run();
  return SpecSubstitution(text, lookup, notes).run();
}

Status interpolate(Node& document, Dialect dialect, const Lookup& lookup,
                   std::vector<std::string>& notes) {
  return Interpolator(dialect, lookup, notes).walk(document);
}

}  // namespace muster::deploy::compose
