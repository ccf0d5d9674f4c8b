#include "deploy/compose/node.h"
#include "deploy/compose/yaml_reader.h"

namespace muster::deploy::compose {
namespace {

bool needs_quotes(std::string_view text) {
  if (resolve_scalar(text).kind != Node::Kind::kString) return true;
  // Words that YAML 1.1 readers take for booleans, and the merge key.
  for (const std::string_view word : {"y", "Y", "n", "N", "yes", "Yes", "YES", "no", "No", "NO",
                                      "on", "On", "ON", "off", "Off", "OFF", "<<", "="}) {
    if (text == word) return true;
  }
  if (text.front() == ' ' || text.back() == ' ' || text.back() == ':') return true;
  constexpr std::string_view kIndicators = "-?:,[]{}#&*!|>'\"%@`";
  const bool indicator = kIndicators.find(text.front()) != std::string_view::npos;
  const bool dash = (text.front() == '-' || text.front() == '?' || text.front() == ':') &&
                    text.size() > 1 && text[1] != ' ';
  if (indicator && !dash) return true;
  if (text.starts_with("---") || text.starts_with("...")) return true;
  if (text.find(": ") != std::string_view::npos || text.find(" #") != std::string_view::npos) {
    return true;
  }
  // Digits with colons read as base-60 numbers in YAML 1.1.
  if (text.find_first_not_of("0123456789:.-+_eExXoO") == std::string_view::npos) return true;
  for (const unsigned char c : text) {
    if (c < 0x20 || c == 0x7F || c >= 0x80) return true;
  }
  return false;
}

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

std::string plain_or_quoted(std::string_view text) {
  return needs_quotes(text) ? quote(text) : std::string(text);
}

std::string scalar(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull: return "null";
    case Node::Kind::kFloat:
      if (node.scalar_text() == "NaN") return ".nan";
      if (node.scalar_text() == "+Inf") return ".inf";
      if (node.scalar_text() == "-Inf") return "-.inf";
      // A float that looks like a whole number keeps its kind.
      return node.scalar_text().find_first_of(".e") == std::string::npos ? node.scalar_text() + ".0"
                                                                         : node.scalar_text();
    case Node::Kind::kString: return plain_or_quoted(node.text);
    default: return node.scalar_text();
  }
}

void write(const Node& node, size_t indent, bool in_list, std::string& out) {
  const std::string pad(indent, ' ');
  if (node.is_map()) {
    bool first = true;
    for (const Member& member : node.members) {
      out += first && in_list ? "" : pad;
      first = false;
      out += plain_or_quoted(member.key) + ":";
      const Node& value = member.value;
      if (value.is_scalar()) {
        out += " " + scalar(value) + "\n";
      } else if (value.is_zero()) {
        out += value.is_map() ? " {}\n" : " []\n";
      } else {
        out += "\n";
        write(value, indent + 2, false, out);
      }
    }
    return;
  }
  for (const Node& item : node.items) {
    out += pad + "- ";
    if (item.is_scalar()) {
      out += scalar(item) + "\n";
    } else if (item.is_zero()) {
      out += item.is_map() ? "{}\n" : "[]\n";
    } else if (item.is_list()) {
      out += "\n";
      write(item, indent + 4, false, out);
    } else {
      write(item, indent + 2, true, out);
    }
  }
}

}  // namespace

std::string write_yaml(const Node& node) {
  if (node.is_scalar()) return scalar(node) + "\n";
  if (node.is_zero()) return node.is_map() ? "{}\n" : "[]\n";
  std::string out;
  write(node, 0, false, out);
  return out;
}

}  // namespace muster::deploy::compose
