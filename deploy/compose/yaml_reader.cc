#include "deploy/compose/yaml_reader.h"

#include <yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace muster::deploy::compose {
namespace {

// One libyaml event, released at the end of its scope.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() {
    if (filled_) yaml_event_delete(&raw_);
  }
  bool read(yaml_parser_t* parser) {
    if (filled_) yaml_event_delete(&raw_);
    filled_ = yaml_parser_parse(parser, &raw_) != 0;
    return filled_;
  }
  const yaml_event_t& operator*() const { return raw_; }
  const yaml_event_t* operator->() const { return &raw_; }

 private:
  yaml_event_t raw_{};
  bool filled_ = false;
};

std::string_view view_of(const yaml_char_t* text) {
  return text == nullptr ? std::string_view() : reinterpret_cast<const char*>(text);
}

constexpr std::string_view kYamlTag = "tag:yaml.org,2002:";
constexpr std::string_view kMergeKey = "<<";

struct Anchor {
  Node node;
  size_t size = 0;   // nodes in it
  size_t bytes = 0;  // of text in it
};

// Levels below the node.
int height(const Node& node) {
  int out = 0;
  for (const Node& item : node.items) out = std::max(out, 1 + height(item));
  for (const Member& member : node.members) out = std::max(out, 1 + height(member.value));
  return out;
}

class Reader {
 public:
  Reader(std::string_view text, const std::string& file, const YamlLimits& limits)
      : limits_(limits), file_(std::make_shared<const std::string>(file)), text_(text) {
    initialised_ = yaml_parser_initialize(&parser_) != 0;
    if (initialised_) {
      yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                   text.size());
    }
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() {
    if (initialised_) yaml_parser_delete(&parser_);
  }

  Result<std::vector<Node>> run() {
    if (!initialised_) return fail(internal_error("out of memory"));
    if (text_.size() > limits_.bytes_max) {
      return fail(
          error_at({file_, 0, 0}, fmt::format("the file of {} bytes is over the limit of {}",
                                              text_.size(), limits_.bytes_max)));
    }
    std::vector<Node> documents;
    while (true) {
      MUSTER_TRY(next());
      switch (event_->type) {
        case YAML_STREAM_END_EVENT: return documents;
        case YAML_DOCUMENT_START_EVENT: {
          anchors_.clear();
          kept_nodes_ = kept_bytes_ = 0;
          MUSTER_TRY(next());
          MUSTER_ASSIGN(Node document, read_node(0));
          documents.push_back(std::move(document));
          break;
        }
        default: break;  // stream start, document end
      }
    }
  }

 private:
  Position here() const {
    return {file_, static_cast<uint32_t>(event_->start_mark.line + 1),
            static_cast<uint32_t>(event_->start_mark.column + 1)};
  }

  Status next() {
    if (event_.read(&parser_)) return {};
    std::string message = parser_.problem != nullptr ? parser_.problem : "cannot read the text";
    if (parser_.context != nullptr) message += fmt::format(" {}", parser_.context);
    return error_at({file_, problem_line(), 0}, "yaml: " + message);
  }

  uint32_t problem_line() const {
    if (parser_.error == YAML_READER_ERROR) {
      // Characters are decoded ahead of what is parsed: only the offset tells the place.
      const std::string_view before = text_.substr(0, parser_.problem_offset);
      return static_cast<uint32_t>(std::count(before.begin(), before.end(), '\n') + 1);
    }
    const bool marked = parser_.error == YAML_SCANNER_ERROR || parser_.error == YAML_PARSER_ERROR;
    return static_cast<uint32_t>((marked ? parser_.problem_mark : parser_.mark).line + 1);
  }

  Status too_deep() const {
    return error_at(here(), fmt::format("nested more than {} levels", limits_.depth_max));
  }

  Status count(size_t nodes, size_t bytes) {
    nodes_ += nodes;
    bytes_ += bytes;
    if (nodes_ > limits_.nodes_max) {
      return error_at(
          here(), fmt::format("the document expands to more than {} values", limits_.nodes_max));
    }
    if (bytes_ > limits_.expanded_bytes_max) {
      return error_at(here(), fmt::format("the document expands to more than {} bytes of text",
                                          limits_.expanded_bytes_max));
    }
    return {};
  }

  // An anchored value is kept beside its place: anchors within anchors would multiply.
  Status keep(const std::string& anchor, const Node& node, size_t nodes, size_t bytes) {
    kept_nodes_ += nodes;
    kept_bytes_ += bytes;
    if (kept_nodes_ > limits_.nodes_max || kept_bytes_ > limits_.expanded_bytes_max) {
      return error_at(node.at, "the document anchors too much");
    }
    anchors_[anchor] = Anchor{node, nodes, bytes};
    return {};
  }

  // The event of the node's start has been read; on return its last one has been.
  Result<Node> read_node(int depth) {
    if (depth > limits_.depth_max) return fail(too_deep());
    const Position at = here();
    const size_t nodes_before = nodes_;
    const size_t bytes_before = bytes_;
    MUSTER_TRY(count(1, 0));
    std::string anchor;
    Node out;
    switch (event_->type) {
      case YAML_ALIAS_EVENT: return read_alias(at, depth);
      case YAML_SCALAR_EVENT: {
        anchor = view_of(event_->data.scalar.anchor);
        MUSTER_ASSIGN(out, read_scalar(at));
        break;
      }
      case YAML_SEQUENCE_START_EVENT: {
        anchor = view_of(event_->data.sequence_start.anchor);
        if (!anchor.empty()) open_.insert(anchor);
        MUSTER_ASSIGN(out, read_list(at, depth));
        break;
      }
      case YAML_MAPPING_START_EVENT: {
        anchor = view_of(event_->data.mapping_start.anchor);
        if (!anchor.empty()) open_.insert(anchor);
        MUSTER_ASSIGN(out, read_map(at, depth));
        break;
      }
      default: return fail(error_at(at, "yaml: unexpected end of the text"));
    }
    if (!anchor.empty()) {
      open_.erase(anchor);
      MUSTER_TRY(keep(anchor, out, nodes_ - nodes_before, bytes_ - bytes_before));
    }
    return out;
  }

  Result<Node> read_alias(const Position& at, int depth) {
    const std::string name(view_of(event_->data.alias.anchor));
    if (open_.count(name) != 0) {
      return fail(error_at(at, fmt::format("yaml: anchor \"{}\" contains itself", name)));
    }
    const auto found = anchors_.find(name);
    if (found == anchors_.end()) {
      return fail(error_at(at, fmt::format("yaml: unknown anchor \"{}\" referenced", name)));
    }
    MUSTER_TRY(count(found->second.size, found->second.bytes));
    if (depth + height(found->second.node) > limits_.depth_max) return fail(too_deep());
    return found->second.node;
  }

  Result<Node::Tag> read_tag(std::string_view tag, const Position& at, Node* scalar) {
    if (tag == "!reset") return Node::Tag::kReset;
    if (tag == "!override") return Node::Tag::kOverride;
    if (tag.empty() || tag == "!") return Node::Tag::kNone;
    if (tag.starts_with(kYamlTag)) {
      const std::string_view name = tag.substr(kYamlTag.size());
      if (name == "map" || name == "seq") return Node::Tag::kNone;
      if (scalar != nullptr) {
        const Node resolved = resolve_scalar(scalar->text, at);
        if (name == "str") {
          *scalar = Node::string(scalar->text, at);
          return Node::Tag::kNone;
        }
        const bool fits = (name == "int" && resolved.kind == Node::Kind::kInt) ||
                          (name == "bool" && resolved.kind == Node::Kind::kBool) ||
                          (name == "null" && resolved.is_null()) ||
                          (name == "float" && (resolved.kind == Node::Kind::kFloat ||
                                               resolved.kind == Node::Kind::kInt));
        if (!fits) {
          return fail(
              error_at(at, fmt::format("yaml: cannot read \"{}\" as !!{}", scalar->text, name)));
        }
        *scalar = resolved;
        return Node::Tag::kNone;
      }
    }
    return fail(error_at(at, fmt::format("yaml: unknown tag {}", tag)));
  }

  Result<Node> read_scalar(const Position& at) {
    const auto& scalar = event_->data.scalar;
    const std::string text(reinterpret_cast<const char*>(scalar.value), scalar.length);
    if (text.find('\0') != std::string::npos) {
      return fail(error_at(at, "a text contains a NUL character"));
    }
    MUSTER_TRY(count(0, text.size()));
    const std::string_view tag = view_of(scalar.tag);
    const bool plain = scalar.style == YAML_PLAIN_SCALAR_STYLE && tag != "!";
    Node out = plain ? resolve_scalar(text, at) : Node::string(text, at);
    MUSTER_ASSIGN(out.tag, read_tag(tag, at, &out));
    return out;
  }

  Result<Node> read_list(const Position& at, int depth) {
    Node out = Node::list(at);
    MUSTER_ASSIGN(out.tag, read_tag(view_of(event_->data.sequence_start.tag), at, nullptr));
    while (true) {
      MUSTER_TRY(next());
      if (event_->type == YAML_SEQUENCE_END_EVENT) return out;
      MUSTER_ASSIGN(Node item, read_node(depth + 1));
      out.items.push_back(std::move(item));
    }
  }

  Result<Node> read_map(const Position& at, int depth) {
    Node out = Node::map(at);
    MUSTER_ASSIGN(out.tag, read_tag(view_of(event_->data.mapping_start.tag), at, nullptr));
    std::vector<Node> merged;
    std::map<std::string, uint32_t> lines;
    while (true) {
      MUSTER_TRY(next());
      if (event_->type == YAML_MAPPING_END_EVENT) break;
      const Position key_at = here();
      const bool plain =
          event_->type == YAML_SCALAR_EVENT && event_->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
      MUSTER_ASSIGN(const Node key, read_node(depth + 1));
      MUSTER_TRY(next());
      if (plain && key.is_string() && key.text == kMergeKey) {
        MUSTER_ASSIGN(Node source, read_node(depth + 1));
        MUSTER_TRY(add_merge(source, key_at, merged));
        continue;
      }
      if (!key.is_scalar() || !key.is_string()) {
        const std::string shown = key.is_scalar() ? key.text : "a list or mapping";
        return fail(error_at(key_at, fmt::format("non-string key: {}", shown)));
      }
      const auto [line, fresh] = lines.emplace(key.text, key_at.line);
      if (!fresh) {
        return fail(error_at(key_at, fmt::format("key \"{}\" is already defined at line {}",
                                                 key.text, line->second)));
      }
      MUSTER_ASSIGN(Node value, read_node(depth + 1));
      out.members.push_back(Member{key.text, key_at, std::move(value)});
    }
    // The mapping's own keys win, then the sources in their order.
    for (const Node& source : merged) {
      for (const Member& member : source.members) {
        if (lines.emplace(member.key, member.key_at.line).second) out.members.push_back(member);
      }
    }
    return out;
  }

  Status add_merge(const Node& source, const Position& at, std::vector<Node>& merged) {
    if (source.is_map()) {
      merged.push_back(source);
      return {};
    }
    if (source.is_list()) {
      for (const Node& item : source.items) {
        if (!item.is_map()) return error_at(at, "yaml: << expects mappings");
        merged.push_back(item);
      }
      return {};
    }
    return error_at(at, "yaml: << expects a mapping or a list of mappings");
  }

  YamlLimits limits_;
  std::shared_ptr<const std::string> file_;
  std::string_view text_;
  yaml_parser_t parser_{};
  bool initialised_ = false;
  Event event_;
  std::map<std::string, Anchor> anchors_;
  std::set<std::string> open_;
  size_t nodes_ = 0;
  size_t bytes_ = 0;
  size_t kept_nodes_ = 0;
  size_t kept_bytes_ = 0;
};

bool parse_int(std::string_view text, int64_t& out) {
  std::string digits(text);
  std::erase(digits, '_');
  std::string_view rest(digits);
  bool negative = false;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  if (rest.empty() || rest[0] < '0' || rest[0] > '9') return false;
  int base = 10;
  if (rest.size() > 1 && rest[0] == '0') {
    const char kind = rest[1];
    base = kind == 'x' || kind == 'X' ? 16 : kind == 'b' || kind == 'B' ? 2 : 8;
    const bool prefixed = base != 8 || kind == 'o' || kind == 'O';
    rest.remove_prefix(prefixed ? 2 : 1);
  }
  uint64_t size = 0;
  const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), size, base);
  if (parsed.ec != std::errc() || parsed.ptr != rest.data() + rest.size()) return false;
  const uint64_t limit = static_cast<uint64_t>(INT64_MAX) + (negative ? 1 : 0);
  if (size > limit) return false;
  out = negative ? static_cast<int64_t>(0 - size) : static_cast<int64_t>(size);
  return true;
}

// [-+]? digits with one dot or an exponent, as YAML 1.2 writes floats.
bool parse_float(std::string_view text, double& out) {
  std::string digits(text);
  std::erase(digits, '_');
  std::string_view rest(digits);
  const bool negative = !rest.empty() && rest[0] == '-';
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) rest.remove_prefix(1);
  if (rest == ".inf" || rest == ".Inf" || rest == ".INF") {
    out = negative ? -std::numeric_limits<double>::infinity()
                   : std::numeric_limits<double>::infinity();
    return true;
  }
  if (text == ".nan" || text == ".NaN" || text == ".NAN") {
    out = std::numeric_limits<double>::quiet_NaN();
    return true;
  }
  const bool starts =
      !rest.empty() && ((rest[0] >= '0' && rest[0] <= '9') ||
                        (rest[0] == '.' && rest.size() > 1 && rest[1] >= '0' && rest[1] <= '9'));
  if (!starts || rest.find_first_not_of("0123456789.eE+-") != std::string_view::npos) return false;
  double size = 0;
  const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), size);
  if (parsed.ec != std::errc() || parsed.ptr != rest.data() + rest.size()) return false;
  out = negative ? -size : size;
  return true;
}

}  // namespace

Node resolve_scalar(std::string_view text, Position at) {
  Node out = Node::string(std::string(text), std::move(at));
  const auto is_one_of = [text](std::initializer_list<std::string_view> words) {
    return std::find(words.begin(), words.end(), text) != words.end();
  };
  if (is_one_of({"", "~", "null", "Null", "NULL"})) {
    out.kind = Node::Kind::kNull;
  } else if (is_one_of({"true", "True", "TRUE"})) {
    out.kind = Node::Kind::kBool;
    out.flag = true;
  } else if (is_one_of({"false", "False", "FALSE"})) {
    out.kind = Node::Kind::kBool;
  } else if (parse_int(text, out.number)) {
    out.kind = Node::Kind::kInt;
  } else if (parse_float(text, out.real)) {
    out.kind = Node::Kind::kFloat;
  }
  return out;
}

Result<std::vector<Node>> read_yaml(std::string_view text, const std::string& file,
                                    const YamlLimits& limits) {
  return Reader(text, file, limits).run();
}

}  // namespace muster::deploy::compose
