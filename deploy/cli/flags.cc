#include "deploy/cli/flags.h"

#include <algorithm>

namespace muster::deploy::cli {
namespace {

Result<bool> parse_bool(const std::string& text) {
  for (const char* yes : {"true", "1", "t", "T", "TRUE", "True"})
    if (text == yes) return true;
  for (const char* no : {"false", "0", "f", "F", "FALSE", "False"})
    if (text == no) return false;
  return fail(invalid_argument("\"{}\" is neither true nor false", text));
}

Status bad_value(const std::string& flag, const std::string& value, const Status& why) {
  return usage_error(
      fmt::format("invalid argument \"{}\" for \"{}\" flag: {}", value, flag, why.message()));
}

}  // namespace

Status usage_error(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message), "usage");
}

Flags::Flag& Flags::add(std::string_view names, std::string value_name, std::string help,
                        Setter set) {
  Flag flag;
  const size_t comma = names.find(',');
  flag.name = names.substr(0, comma);
  if (comma != std::string_view::npos) flag.letter = names[comma + 1];
  flag.value_name = std::move(value_name);
  flag.help = std::move(help);
  flag.set = std::move(set);
  return flags_.emplace_back(std::move(flag));
}

void Flags::toggle(std::string_view names, bool* target, std::string help) {
  add(names, "", std::move(help), [target](const std::string& text) -> Status {
    MUSTER_ASSIGN(*target, parse_bool(text));
    return ok_status();
  }).is_switch = true;
}

void Flags::toggle(std::string_view names, std::optional<bool>* target, std::string help) {
  add(names, "", std::move(help), [target](const std::string& text) -> Status {
    MUSTER_ASSIGN(*target, parse_bool(text));
    return ok_status();
  }).is_switch = true;
}

void Flags::value(std::string_view names, std::string* target, std::string value_name,
                  std::string help) {
  add(names, std::move(value_name), std::move(help), [target](const std::string& text) -> Status {
    *target = text;
    return ok_status();
  });
}

void Flags::value(std::string_view names, std::optional<std::string>* target,
                  std::string value_name, std::string help) {
  add(names, std::move(value_name), std::move(help), [target](const std::string& text) -> Status {
    *target = text;
    return ok_status();
  });
}

void Flags::list(std::string_view names, std::vector<std::string>* target, std::string value_name,
                 std::string help) {
  add(names, std::move(value_name), std::move(help), [target](const std::string& text) -> Status {
    target->push_back(text);
    return ok_status();
  });
}

void Flags::custom(std::string_view names, std::string value_name, std::string help, Setter set) {
  add(names, std::move(value_name), std::move(help), std::move(set));
}

const Flags::Flag* Flags::find(std::string_view name) const {
  for (const Flag& flag : flags_)
    if (flag.name == name) return &flag;
  return nullptr;
}

const Flags::Flag* Flags::find(char letter) const {
  for (const Flag& flag : flags_)
    if (flag.letter == letter) return &flag;
  return nullptr;
}

Status Flags::parse_long(const std::vector<std::string>& words, size_t* at) {
  const std::string& word = words[*at];
  const size_t equals = word.find('=');
  const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
  const Flag* flag = find(name);
  if (flag == nullptr) return usage_error(fmt::format("unknown flag: --{}", name));
  std::string value = "true";
  if (equals != std::string::npos) {
    value = word.substr(equals + 1);
  } else if (!flag->is_switch) {
    if (*at + 1 >= words.size())
      return usage_error(fmt::format("flag needs an argument: --{}", name));
    value = words[++*at];
  }
  given_.insert(flag->name);
  const Status status = flag->set(value);
  return status.ok() ? status : bad_value("--" + name, value, status);
}

Status Flags::parse_short(const std::vector<std::string>& words, size_t* at) {
  const std::string& word = words[*at];
  for (size_t i = 1; i < word.size(); ++i) {
    const Flag* flag = find(word[i]);
    if (flag == nullptr)
      return usage_error(fmt::format("unknown shorthand flag: '{}' in {}", word[i], word));
    std::string value = "true";
    bool last = false;
    if (i + 1 < word.size() && word[i + 1] == '=') {
      value = word.substr(i + 2);
      last = true;
    } else if (!flag->is_switch) {
      last = true;
      if (i + 1 < word.size())
        value = word.substr(i + 1);
      else if (*at + 1 < words.size())
        value = words[++*at];
      else
        return usage_error(fmt::format("flag needs an argument: '{}' in {}", flag->letter, word));
    }
    given_.insert(flag->name);
    if (Status status = flag->set(value); !status.ok())
      return bad_value(fmt::format("-{}, --{}", flag->letter, flag->name), value, status);
    if (last) break;
  }
  return ok_status();
}

Result<std::vector<std::string>> Flags::parse(const std::vector<std::string>& words) {
  std::vector<std::string> arguments;
  given_.clear();
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") {
      arguments.insert(arguments.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                       words.end());
      break;
    }
    if (word.size() > 2 && word.starts_with("--")) {
      MUSTER_TRY(parse_long(words, &i));
    } else if (word.size() > 1 && word[0] == '-') {
      MUSTER_TRY(parse_short(words, &i));
    } else {
      arguments.push_back(word);
      if (!stop_at_first_argument_) continue;
      arguments.insert(arguments.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                       words.end());
      break;
    }
  }
  return arguments;
}

std::string Flags::help() const {
  std::vector<const Flag*> sorted;
  size_t width = 0;
  const auto left = [](const Flag& flag) {
    std::string text = flag.letter != 0 ? fmt::format("  -{}, --{}", flag.letter, flag.name)
                                        : fmt::format("      --{}", flag.name);
    if (!flag.value_name.empty()) text += " " + flag.value_name;
    return text;
  };
  for (const Flag& flag : flags_) {
    if (flag.hidden) continue;
    sorted.push_back(&flag);
    width = std::max(width, left(flag).size());
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const Flag* a, const Flag* b) { return a->name < b->name; });
  std::string text;
  for (const Flag* flag : sorted)
    text += fmt::format("{:<{}}   {}\n", left(*flag), width, flag->help);
  return text;
}

}  // namespace muster::deploy::cli
