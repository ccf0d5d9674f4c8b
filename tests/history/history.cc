#include "tests/history/history.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <map>

namespace muster::history {
namespace {

constexpr std::array kKinds = {Kind::kRead, Kind::kPlain, Kind::kCreate, Kind::kUpdate,
                               Kind::kRemove};
constexpr std::array kOutcomes = {Outcome::kOk, Outcome::kRefused, Outcome::kFailed,
                                  Outcome::kUnknown};

std::string_view shown(const std::string& field) {
  return field.empty() ? std::string_view("-") : field;
}
std::string taken(std::string_view field) {
  return field == "-" ? std::string() : std::string(field);
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t space = line.find(' ');
    words.push_back(line.substr(0, space));
    if (space == std::string_view::npos) return words;
    line.remove_prefix(space + 1);
  }
}

template <class Number>
bool read_number(std::string_view word, Number* out) {
  const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), *out);
  return error == std::errc() && stop == word.data() + word.size();
}

template <class Word, class Words>
bool read_word(std::string_view text, const Words& words, Word* out) {
  for (const Word word : words) {
    if (to_string(word) != text) continue;
    *out = word;
    return true;
  }
  return false;
}

bool read_time(std::string_view word, TimePoint* out) {
  int64_t ns = 0;
  if (!read_number(word, &ns)) return false;
  out->since_start = Duration(ns);
  return true;
}

// The operations so far, and which has which id.
struct Reading {
  std::vector<Operation> ops;
  std::map<uint64_t, size_t> by_id;

  bool begin(const std::vector<std::string_view>& words) {
    Operation op;
    if (words.size() != 8 || !read_number(words[1], &op.id) || !read_number(words[2], &op.client) ||
        !read_word(words[3], kKinds, &op.kind) || !read_time(words[7], &op.begin))
      return false;
    op.key = words[4];
    op.from = taken(words[5]);
    op.value = taken(words[6]);
    return by_id.emplace(op.id, ops.size()).second && (ops.push_back(std::move(op)), true);
  }

  bool end(const std::vector<std::string_view>& words) {
    uint64_t id = 0;
    TimePoint at;
    if (words.size() != 7 || !read_number(words[1], &id) || !by_id.contains(id)) return false;
    Operation& op = ops[by_id[id]];
    if (op.end || !read_word(words[2], kOutcomes, &op.outcome) ||
        !read_number(words[5], &op.version) || !read_time(words[6], &at) || at < op.begin)
      return false;
    op.manager = taken(words[3]);
    if (op.kind == Kind::kRead || op.kind == Kind::kPlain) op.value = taken(words[4]);
    op.end = at;
    return true;
  }
};

}  // namespace

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::kRead: return "read";
    case Kind::kPlain: return "plain";
    case Kind::kCreate: return "create";
    case Kind::kUpdate: return "update";
    case Kind::kRemove: return "remove";
  }
  return "?";
}

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk: return "ok";
    case Outcome::kRefused: return "refused";
    case Outcome::kFailed: return "failed";
    case Outcome::kUnknown: return "unknown";
  }
  return "?";
}

std::string begin_line(const Operation& op) {
  return fmt::format("b {} {} {} {} {} {} {}\n", op.id, op.client, to_string(op.kind), op.key,
                     shown(op.from), shown(op.value), op.begin.since_start.count());
}

std::string end_line(const Operation& op) {
  return fmt::format("e {} {} {} {} {} {}\n", op.id, to_string(op.outcome), shown(op.manager),
                     shown(op.value), op.version, op.end.value_or(op.begin).since_start.count());
}

Result<std::vector<Operation>> parse_history(std::string_view text) {
  Reading reading;
  for (uint64_t number = 1; text.find('\n') != std::string_view::npos; ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(line.size() + 1);
    if (line.starts_with('#')) continue;
    const auto words = words_of(line);
    const bool good = words[0] == "b"   ? reading.begin(words)
                      : words[0] == "e" ? reading.end(words)
                                        : false;
    if (!good) return fail(data_loss("line {} is no line of a history: {}", number, line));
  }
  return std::move(reading.ops);
}

std::string describe(const Operation& op) {
  const auto seconds = [](TimePoint t) {
    return fmt::format("{:.6f}", std::chrono::duration<double>(t.since_start).count());
  };
  std::string out = fmt::format("{} of {} by client {}", to_string(op.kind), op.key, op.client);
  if (!op.from.empty()) out += fmt::format(", from {}", op.from);
  if (!op.value.empty()) out += fmt::format(", value {}", op.value);
  out += fmt::format(": {}", to_string(op.outcome));
  if (op.version != 0) out += fmt::format(" at version {}", op.version);
  if (!op.manager.empty()) out += fmt::format(" by {}", op.manager);
  return out + fmt::format(", {} to {}", seconds(op.begin), op.end ? seconds(*op.end) : "the end");
}

}  // namespace muster::history
