#include "deploy/compose/env_file.h"

#include <algorithm>

#include "deploy/compose/loader.h"

namespace muster::deploy::compose {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string_view without_bom(std::string_view text) {
  return text.starts_with("\xEF\xBB\xBF") ? text.substr(3) : text;
}

Position line_of(const std::string& file, size_t line) {
  return {std::make_shared<const std::string>(file), static_cast<uint32_t>(line), 0};
}

class Dotenv {
 public:
  Dotenv(std::string_view text, const std::string& file, const Lookup& lookup)
      : text_(without_bom(text)), file_(file), lookup_(lookup) {}

  Result<EnvPairs> run() {
    while (true) {
      while (pos_ < text_.size() && (is_blank(text_[pos_]) || text_[pos_] == '\n')) advance();
      if (pos_ >= text_.size()) return std::move(out_);
      if (text_[pos_] == '#') {
        skip_line();
        continue;
      }
      MUSTER_TRY(entry());
    }
  }

 private:
  void advance() {
    if (text_[pos_] == '\n') ++line_;
    ++pos_;
  }
  void skip_line() {
    while (pos_ < text_.size() && text_[pos_] != '\n') ++pos_;
  }
  void skip_blanks() {
    while (pos_ < text_.size() && is_blank(text_[pos_])) ++pos_;
  }
  Status error(size_t line, std::string_view message) const {
    return error_at(line_of(file_, line), message);
  }

  Status entry() {
    const size_t line = line_;
    if (text_.substr(pos_).starts_with("export ")) pos_ += 7;
    skip_blanks();
    const size_t start = pos_;
    while (pos_ < text_.size() && text_[pos_] != '=' && text_[pos_] != ':' && text_[pos_] != '\n' &&
           text_[pos_] != '#') {
      ++pos_;
    }
    const std::string name(trim(text_.substr(start, pos_ - start)));
    const bool assigned = pos_ < text_.size() && (text_[pos_] == '=' || text_[pos_] == ':');
    const bool good = !name.empty() && std::none_of(name.begin(), name.end(), [](char c) {
      return is_blank(c) || c == '"' || c == '\'' || static_cast<unsigned char>(c) < 0x20;
    });
    if (!good) {
      return error(line, fmt::format("unexpected character in variable name \"{}\"", name));
    }
    if (!assigned) {
      skip_line();
      if (const std::optional<std::string> value = lookup_(name)) out_.emplace_back(name, *value);
      return {};
    }
    ++pos_;
    skip_blanks();
    std::string value;
    MUSTER_TRY(read_value(line, value));
    out_.emplace_back(name, std::move(value));
    return {};
  }

  Status read_value(size_t line, std::string& value) {
    const char quote = pos_ < text_.size() ? text_[pos_] : '\n';
    if (quote == '\'') return literal(line, value);
    if (quote == '"') return quoted(line, value);
    const size_t start = pos_;
    skip_line();
    std::string_view raw = text_.substr(start, pos_ - start);
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] == '#' && is_blank(text_[start + i - 1])) {
        raw = raw.substr(0, i);
        break;
      }
    }
    return expand(line, trim(raw), value);
  }

  // As it is, but for a quote behind a backslash.
  Status literal(size_t line, std::string& value) {
    ++pos_;
    while (true) {
      if (pos_ >= text_.size()) return error(line, "unterminated quoted value");
      const bool escaped = text_.substr(pos_).starts_with("\\'");
      if (escaped) ++pos_;
      const char c = text_[pos_];
      advance();
      if (c == '\'' && !escaped) break;
      value.push_back(c);
    }
    skip_line();
    return {};
  }

  Status quoted(size_t line, std::string& value) {
    ++pos_;
    std::string raw;
    while (true) {
      if (pos_ >= text_.size()) return error(line, "unterminated quoted value");
      const char c = text_[pos_];
      advance();
      if (c == '"') break;
      if (c != '\\' || pos_ >= text_.size()) {
        raw.push_back(c);
        continue;
      }
      const char escaped = text_[pos_];
      advance();
      constexpr std::string_view kFrom = "nrt\"\\";
      constexpr std::string_view kTo = "\n\r\t\"\\";
      if (const size_t i = kFrom.find(escaped); i != std::string_view::npos) {
        raw.push_back(kTo[i]);
      } else if (escaped == '$') {
        raw += "$$";  // what the substitution turns back into one
      } else {
        raw.push_back('\\');
        raw.push_back(escaped);
      }
    }
    skip_line();
    return expand(line, raw, value);
  }

  Status expand(size_t line, std::string_view raw, std::string& value) {
    const Lookup lookup = [this](const std::string& name) -> std::optional<std::string> {
      if (std::optional<std::string> found = lookup_(name)) return found;
      for (auto it = out_.rbegin(); it != out_.rend(); ++it) {
        if (it->first == name) return it->second;
      }
      return std::nullopt;
    };
    std::vector<std::string> notes;
    Result<std::string> expanded = substitute(raw, Dialect::kSpec, lookup, notes);
    if (!expanded) return error(line, expanded.error().message());
    value = *std::move(expanded);
    return {};
  }

  std::string_view text_;
  const std::string& file_;
  const Lookup& lookup_;
  size_t pos_ = 0;
  size_t line_ = 1;
  EnvPairs out_;
};

}  // namespace

Result<EnvPairs> parse_docker_env(std::string_view text, const std::string& file,
                                  const Lookup& lookup) {
  EnvPairs out;
  text = without_bom(text);
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = text.find('\n');
    std::string_view row = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (row.ends_with('\r')) row.remove_suffix(1);
    while (!row.empty() && is_blank(row.front())) row.remove_prefix(1);
    if (row.empty() || row[0] == '#') continue;
    const size_t equals = row.find('=');
    std::string name(row.substr(0, equals));
    if (name.empty()) {
      return fail(error_at(line_of(file, line), fmt::format("no variable name on line '{}'", row)));
    }
    if (equals == std::string_view::npos) name = std::string(trim(name));
    if (name.find_first_of(" \t") != std::string::npos) {
      return fail(
          error_at(line_of(file, line), fmt::format("variable '{}' contains whitespaces", name)));
    }
    if (equals != std::string_view::npos) {
      out.emplace_back(name, std::string(row.substr(equals + 1)));
    } else if (const std::optional<std::string> value = lookup(name)) {
      out.emplace_back(name, *value);
    }
  }
  return out;
}

Result<EnvPairs> parse_dotenv(std::string_view text, const std::string& file,
                              const Lookup& lookup) {
  return Dotenv(text, file, lookup).run();
}

}  // namespace muster::deploy::compose
