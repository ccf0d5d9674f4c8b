#include <boost/json/value.hpp>
#include <charconv>
#include <optional>
#include <utility>

#include "base/template_tree.h"

namespace muster::internal {
namespace {

using boost::json::value;

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}
bool is_alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_word(char c) {
  return is_alpha(c) || is_digit(c) || static_cast<unsigned char>(c) >= 0x80;
}

void append_utf8(std::string& out, uint32_t rune) {
  if (rune < 0x80) {
    out.push_back(static_cast<char>(rune));
  } else if (rune < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (rune >> 6)));
    out.push_back(static_cast<char>(0x80 | (rune & 0x3F)));
  } else if (rune < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (rune >> 12)));
    out.push_back(static_cast<char>(0x80 | ((rune >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (rune & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | (rune >> 18)));
    out.push_back(static_cast<char>(0x80 | ((rune >> 12) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | ((rune >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (rune & 0x3F)));
  }
}

// One left-to-right pass over the text, without a token list: the grammar is small and positions
// come for free.
class Parser {
 public:
  Parser(std::string_view text, TemplateOptions options) : text_(text) {
    tree_.text = std::string(text);
    tree_.options = std::move(options);
    scope_.push_back({"$", 0});
  }

  Result<TemplateTree> run() {
    if (text_.size() > tree_.options.text_bytes_max) {
      return fail(invalid_argument("template of {} bytes is over the limit of {}", text_.size(),
                                   tree_.options.text_bytes_max));
    }
    MUSTER_ASSIGN(const Ending ending, parse_list(tree_.nodes, 0));
    if (ending.word != Word::kNone) {
      return fail(error(ending.offset, fmt::format("unexpected {{{{{}}}}}", ending.text)));
    }
    return std::move(tree_);
  }

 private:
  enum class Word { kNone, kEnd, kElse };
  // What closed a list of nodes: the end of the text, {{end}} or {{else}}.
  struct Ending {
    Word word = Word::kNone;
    size_t offset = 0;
    std::string text;
  };
  struct Variable {
    std::string name;
    size_t slot;
  };

  Status error(size_t offset, std::string_view message) const {
    return template_error(text_, offset, message);
  }

  char peek(size_t ahead = 0) const {
    return pos_ + ahead < text_.size() ? text_[pos_ + ahead] : '\0';
  }
  bool at(std::string_view what) const { return text_.substr(pos_).starts_with(what); }
  void skip_space() {
    while (pos_ < text_.size() && is_space(text_[pos_])) ++pos_;
  }
  bool at_close() const {
    return at("}}") || (is_space(peek()) && text_.substr(pos_ + 1).starts_with("-}}")) ||
           (peek() == '-' && at("-}}") && pos_ > 0 && is_space(text_[pos_ - 1]));
  }

  // Reads text up to the next action and the action's opening; false at the end of the text.
  bool read_text(std::vector<TemplateNode>& out) {
    const size_t open = text_.find("{{", pos_);
    const size_t end = open == std::string_view::npos ? text_.size() : open;
    std::string_view part = text_.substr(pos_, end - pos_);
    if (trim_next_) {
      while (!part.empty() && is_space(part.front())) part.remove_prefix(1);
      trim_next_ = false;
    }
    const bool trim = open != std::string_view::npos && open + 3 < text_.size() &&
                      text_[open + 2] == '-' && is_space(text_[open + 3]);
    if (trim) {
      while (!part.empty() && is_space(part.back())) part.remove_suffix(1);
    }
    if (!part.empty()) {
      TemplateNode node;
      node.kind = TemplateNode::Kind::kText;
      node.offset = pos_;
      node.text = std::string(part);
      out.push_back(std::move(node));
    }
    pos_ = end;
    if (open == std::string_view::npos) return false;
    pos_ += trim ? 3 : 2;
    return true;
  }

  Status read_close() {
    const size_t start = pos_;
    skip_space();
    if (at("-}}") && pos_ > 0 && is_space(text_[pos_ - 1])) {
      trim_next_ = true;
      pos_ += 3;
      return {};
    }
    if (at("}}")) {
      pos_ += 2;
      return {};
    }
    if (pos_ >= text_.size()) return error(start, "the action is not closed with }}");
    return error(pos_, fmt::format("unexpected \"{}\" in the action", word_at(pos_)));
  }

  std::string word_at(size_t offset) const {
    size_t end = offset;
    while (end < text_.size() && is_word(text_[end]) && end - offset < 40) ++end;
    if (end == offset && end < text_.size()) ++end;
    return std::string(text_.substr(offset, end - offset));
  }

  // The bare word at the cursor, without consuming it.
  std::string_view peek_word() const {
    size_t end = pos_;
    if (end >= text_.size() || !is_alpha(text_[end])) return {};
    while (end < text_.size() && is_word(text_[end])) ++end;
    return text_.substr(pos_, end - pos_);
  }

  Result<Ending> parse_list(std::vector<TemplateNode>& out, int depth) {
    if (depth > tree_.options.depth_max) return fail(error(pos_, "blocks are nested too deeply"));
    while (true) {
      if (!read_text(out)) return Ending{Word::kNone, text_.size(), {}};
      skip_space();
      if (at("/*")) {
        MUSTER_TRY(skip_comment());
        continue;
      }
      const size_t offset = pos_;
      const std::string word(peek_word());
      if (word == "end" || word == "else") {
        pos_ += word.size();
        return Ending{word == "end" ? Word::kEnd : Word::kElse, offset, word};
      }
      MUSTER_ASSIGN(TemplateNode node, parse_action(offset, word, depth));
      out.push_back(std::move(node));
    }
  }

  Status skip_comment() {
    const size_t start = pos_;
    const size_t end = text_.find("*/", pos_ + 2);
    if (end == std::string_view::npos) return error(start, "the comment is not closed with */");
    pos_ = end + 2;
    if (!at_close()) return error(pos_, "a comment must fill its action: {{/* ... */}}");
    return read_close();
  }

  Result<TemplateNode> parse_action(size_t offset, const std::string& word, int depth) {
    using Kind = TemplateNode::Kind;
    if (word == "if" || word == "with" || word == "range") {
      pos_ += word.size();
      const Kind kind = word == "if" ? Kind::kIf : word == "with" ? Kind::kWith : Kind::kRange;
      return parse_block(kind, offset, depth);
    }
    TemplateNode node;
    node.offset = offset;
    if (word == "break" || word == "continue") {
      if (range_depth_ == 0) {
        return fail(error(offset, fmt::format("{{{{{}}}}} outside of a range", word)));
      }
      pos_ += word.size();
      node.kind = word == "break" ? Kind::kBreak : Kind::kContinue;
      MUSTER_TRY(read_close());
      return node;
    }
    if (word == "define" || word == "template" || word == "block") {
      return fail(error(offset, fmt::format("{} is not supported", word)));
    }
    node.kind = Kind::kAction;
    MUSTER_ASSIGN(node.pipeline, parse_pipeline(depth, false));
    MUSTER_TRY(read_close());
    return node;
  }

  Result<TemplateNode> parse_block(TemplateNode::Kind kind, size_t offset, int depth) {
    if (depth >= tree_.options.depth_max) return fail(error(offset, "nested too deeply"));
    const bool range = kind == TemplateNode::Kind::kRange;
    const size_t scope = scope_.size();
    TemplateNode node;
    node.kind = kind;
    node.offset = offset;
    MUSTER_ASSIGN(node.pipeline, parse_pipeline(depth, range));
    MUSTER_TRY(read_close());
    range_depth_ += range ? 1 : 0;
    auto body_end = parse_list(node.body, depth + 1);
    range_depth_ -= range ? 1 : 0;
    if (!body_end) return fail(std::move(body_end).error());
    Ending ending = *std::move(body_end);
    if (ending.word == Word::kElse) {
      skip_space();
      const std::string word(peek_word());
      if ((word == "if" && kind == TemplateNode::Kind::kIf) ||
          (word == "with" && kind == TemplateNode::Kind::kWith)) {
        // "else if" is an if inside the else branch that shares its {{end}}.
        const size_t inner_offset = pos_;
        pos_ += word.size();
        MUSTER_ASSIGN(TemplateNode inner, parse_block(kind, inner_offset, depth + 1));
        node.otherwise.push_back(std::move(inner));
        scope_.resize(scope);
        return node;
      }
      MUSTER_TRY(read_close());
      MUSTER_ASSIGN(ending, parse_list(node.otherwise, depth + 1));
      if (ending.word == Word::kElse) return fail(error(ending.offset, "a second {{else}}"));
    }
    if (ending.word != Word::kEnd) {
      return fail(error(offset, fmt::format("{{{{{}}}}} has no {{{{end}}}}", word_at(offset))));
    }
    scope_.resize(scope);
    MUSTER_TRY(read_close());
    return node;
  }

  // [$x := | $x = | $k, $v :=] command {| command}
  Result<TemplatePipeline> parse_pipeline(int depth, bool range) {
    TemplatePipeline out;
    skip_space();
    out.offset = pos_;
    std::vector<std::string> declared;
    MUSTER_TRY(parse_targets(out, declared, range));
    while (true) {
      MUSTER_ASSIGN(TemplateCommand command, parse_command(depth));
      if (!out.commands.empty() && command.operands[0].kind == TemplateOperand::Kind::kLiteral) {
        return fail(error(command.offset, "a value cannot take the result of a pipe"));
      }
      out.commands.push_back(std::move(command));
      skip_space_inside();
      if (peek() != '|') break;
      ++pos_;
    }
    // A variable is visible only after its own pipeline.
    for (std::string& name : declared) {
      const size_t slot = tree_.variables++;
      scope_.push_back({std::move(name), slot});
      out.targets.push_back(slot);
    }
    return out;
  }

  // Skips white space, but leaves the blank of a closing " -}}" where at_close() looks for it.
  void skip_space_inside() {
    while (pos_ < text_.size() && is_space(text_[pos_]) && !at_close()) ++pos_;
  }

  Status parse_targets(TemplatePipeline& out, std::vector<std::string>& declared, bool range) {
    if (peek() != '$') return {};
    const size_t start = pos_;
    std::vector<std::string> names;
    while (true) {
      ++pos_;
      size_t end = pos_;
      while (end < text_.size() && is_word(text_[end])) ++end;
      names.push_back("$" + std::string(text_.substr(pos_, end - pos_)));
      pos_ = end;
      skip_space();
      if (!range || names.size() > 1 || peek() != ',') break;
      ++pos_;
      skip_space();
      if (peek() != '$') return error(pos_, "range expects a second variable after the comma");
    }
    if (at(":=")) {
      pos_ += 2;
      declared = std::move(names);
      return {};
    }
    if (peek() == '=') {
      ++pos_;
      for (const std::string& name : names) {
        const std::optional<size_t> slot = find_variable(name);
        if (!slot) return error(start, fmt::format("undefined variable \"{}\"", name));
        out.targets.push_back(*slot);
      }
      return {};
    }
    if (names.size() > 1) return error(pos_, "range expects := after its variables");
    pos_ = start;  // an ordinary operand
    return {};
  }

  std::optional<size_t> find_variable(std::string_view name) const {
    for (auto it = scope_.rbegin(); it != scope_.rend(); ++it) {
      if (it->name == name) return it->slot;
    }
    return std::nullopt;
  }

  Result<TemplateCommand> parse_command(int depth) {
    TemplateCommand out;
    skip_space_inside();
    out.offset = pos_;
    while (true) {
      skip_space_inside();
      if (pos_ >= text_.size()) return fail(error(out.offset, "the action is not closed with }}"));
      if (at_close() || peek() == '|' || peek() == ')') break;
      MUSTER_ASSIGN(TemplateOperand operand, parse_operand(depth));
      out.operands.push_back(std::move(operand));
      if (!is_space(peek()) && !at_close() && peek() != '|' && peek() != ')' &&
          pos_ < text_.size()) {
        return fail(error(pos_, fmt::format("unexpected \"{}\" after a value", word_at(pos_))));
      }
    }
    if (out.operands.empty()) return fail(error(out.offset, "a value is missing"));
    const TemplateOperand& first = out.operands[0];
    if (out.operands.size() > 1 &&
        (first.kind != TemplateOperand::Kind::kFunction || !first.fields.empty())) {
      return fail(error(out.offset, "arguments are given to something that is not a function"));
    }
    return out;
  }

  Result<TemplateOperand> parse_operand(int depth) {
    TemplateOperand out;
    out.offset = pos_;
    const char c = peek();
    if (c == '"' || c == '`' || c == '\'') {
      MUSTER_ASSIGN(out.literal, parse_quoted());
      out.kind = TemplateOperand::Kind::kLiteral;
      return out;
    }
    if (is_digit(c) || ((c == '-' || c == '+') && (is_digit(peek(1)) || peek(1) == '.')) ||
        (c == '.' && is_digit(peek(1)))) {
      MUSTER_ASSIGN(out.literal, parse_number());
      out.kind = TemplateOperand::Kind::kLiteral;
      return out;
    }
    if (c == '(') {
      if (depth >= tree_.options.depth_max) return fail(error(pos_, "nested too deeply"));
      ++pos_;
      MUSTER_ASSIGN(TemplatePipeline inner, parse_pipeline(depth + 1, false));
      if (!inner.targets.empty()) {
        return fail(error(out.offset, "a variable cannot be set inside parentheses"));
      }
      skip_space_inside();
      if (peek() != ')') return fail(error(out.offset, "( is not closed"));
      ++pos_;
      out.kind = TemplateOperand::Kind::kParen;
      out.parens = std::make_shared<TemplatePipeline>(std::move(inner));
    } else if (c == '$') {
      size_t end = pos_ + 1;
      while (end < text_.size() && is_word(text_[end])) ++end;
      const std::string_view name = text_.substr(pos_, end - pos_);
      const std::optional<size_t> slot = find_variable(name);
      if (!slot) return fail(error(pos_, fmt::format("undefined variable \"{}\"", name)));
      pos_ = end;
      out.kind = TemplateOperand::Kind::kVariable;
      out.variable = *slot;
    } else if (c == '.') {
      out.kind = TemplateOperand::Kind::kDot;
      if (!is_word(peek(1))) {
        ++pos_;
        return out;
      }
    } else if (is_alpha(c)) {
      return parse_word();
    } else {
      return fail(error(pos_, fmt::format("unexpected \"{}\"", word_at(pos_))));
    }
    while (peek() == '.' && is_word(peek(1))) {
      size_t end = ++pos_;
      while (end < text_.size() && is_word(text_[end])) ++end;
      out.fields.emplace_back(text_.substr(pos_, end - pos_));
      pos_ = end;
    }
    return out;
  }

  Result<TemplateOperand> parse_word() {
    TemplateOperand out;
    out.offset = pos_;
    const std::string word(peek_word());
    pos_ += word.size();
    if (word == "true" || word == "false") {
      out.kind = TemplateOperand::Kind::kLiteral;
      out.literal = word == "true";
    } else if (word == "nil") {
      out.kind = TemplateOperand::Kind::kLiteral;
    } else {
      if (tree_.options.functions.count(word) == 0 && find_template_builtin(word) == nullptr) {
        return fail(error(out.offset, fmt::format("function \"{}\" not defined", word)));
      }
      out.kind = TemplateOperand::Kind::kFunction;
      out.function = word;
    }
    return out;
  }

  Result<value> parse_number() {
    const size_t start = pos_;
    if (peek() == '-' || peek() == '+') ++pos_;
    while (is_word(peek()) || peek() == '.' ||
           ((peek() == '-' || peek() == '+') && (text_[pos_ - 1] == 'e' || text_[pos_ - 1] == 'E')))
      ++pos_;
    std::string digits(text_.substr(start, pos_ - start));
    std::erase(digits, '_');
    const bool negative = digits[0] == '-';
    std::string_view rest(digits);
    if (rest[0] == '-' || rest[0] == '+') rest.remove_prefix(1);
    int base = 10;
    if (rest.size() > 2 && rest[0] == '0') {
      const char kind = static_cast<char>(rest[1] | 0x20);
      base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
      if (base != 10) rest.remove_prefix(2);
    }
    uint64_t magnitude = 0;
    const char* const last = rest.data() + rest.size();
    const auto whole = std::from_chars(rest.data(), last, magnitude, base);
    if (whole.ec == std::errc() && whole.ptr == last && magnitude <= INT64_MAX) {
      const auto number = static_cast<int64_t>(magnitude);
      return value(negative ? -number : number);
    }
    double real = 0;
    const auto parsed = std::from_chars(rest.data(), last, real);
    if (base == 10 && parsed.ec == std::errc() && parsed.ptr == last) {
      return value(negative ? -real : real);
    }
    return fail(error(start, fmt::format("\"{}\" is not a number", digits)));
  }

  Result<value> parse_quoted() {
    const size_t start = pos_;
    const char quote = text_[pos_++];
    std::string out;
    while (true) {
      if (pos_ >= text_.size() || (quote != '`' && text_[pos_] == '\n')) {
        return fail(error(start, "the quoted text is not closed"));
      }
      const char c = text_[pos_++];
      if (c == quote) break;
      if (c != '\\' || quote == '`') {
        out.push_back(c);
        continue;
      }
      MUSTER_TRY(parse_escape(quote, out));
    }
    if (quote != '\'') return value(out);
    return rune_of(out, start);
  }

  // A character constant is its code point, a number, as in Go.
  Result<value> rune_of(std::string_view text, size_t start) const {
    const auto first = static_cast<unsigned char>(text.empty() ? 0 : text[0]);
    const size_t length = text.empty()    ? 0
                          : first < 0x80  ? 1
                          : first >= 0xF0 ? 4
                          : first >= 0xE0 ? 3
                                          : 2;
    if (text.empty() || text.size() != length) {
      return fail(error(start, "a character constant holds one character"));
    }
    uint32_t rune = length == 1 ? first : first & (0xFF >> (length + 1));
    for (size_t i = 1; i < length; ++i) {
      rune = (rune << 6) | (static_cast<unsigned char>(text[i]) & 0x3F);
    }
    return value(static_cast<int64_t>(rune));
  }

  Status parse_escape(char quote, std::string& out) {
    const size_t start = pos_ - 1;
    const char c = peek();
    ++pos_;
    constexpr std::string_view kFrom = "abfnrtv\\";
    constexpr std::string_view kTo = "\a\b\f\n\r\t\v\\";
    if (const size_t i = kFrom.find(c); i != std::string_view::npos && c != '\0') {
      out.push_back(kTo[i]);
      return {};
    }
    if (c == quote) {
      out.push_back(c);
      return {};
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0 || pos_ + digits > text_.size()) return error(start, "unknown escape");
    uint32_t rune = 0;
    const char* const first = text_.data() + pos_;
    const auto parsed = std::from_chars(first, first + digits, rune, 16);
    if (parsed.ec != std::errc() || parsed.ptr != first + digits || rune > 0x10FFFF) {
      return error(start, "unknown escape");
    }
    pos_ += digits;
    if (c == 'x') {
      out.push_back(static_cast<char>(rune));
    } else {
      append_utf8(out, rune);
    }
    return {};
  }

  std::string_view text_;
  size_t pos_ = 0;
  bool trim_next_ = false;
  int range_depth_ = 0;
  std::vector<Variable> scope_;
  TemplateTree tree_;
};

}  // namespace

Status template_error(std::string_view text, size_t offset, std::string_view message) {
  size_t line = 1;
  size_t column = 1;
  for (size_t i = 0; i < offset && i < text.size(); ++i) {
    if (text[i] == '\n') {
      ++line;
      column = 1;
    } else {
      ++column;
    }
  }
  return invalid_argument("template line {}, column {}: {}", line, column, message);
}

Result<TemplateTree> parse_template(std::string_view text, TemplateOptions options) {
  return Parser(text, std::move(options)).run();
}

}  // namespace muster::internal
