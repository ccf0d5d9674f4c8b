#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace muster::deploy::cli {

// The options of one command, in the grammar Docker's scripts are written in: "--name value",
// "--name=value", "-n value", "-nvalue", "-it", "--switch=false", "--" ends options. Options and
// arguments mix freely, except after stop_at_first_argument(), for commands that pass the rest on.
// A list option takes exactly one value each time it is given, as written: no splitting, no
// guessing, which is why this is not CLI11 (it rewrites "[a,b]" and "{}").
//
// Names are written "long,s" or "long". Targets must outlive parse().
class Flags {
 public:
  using Setter = std::function<Status(const std::string&)>;

  // What completes an option's value; words of the hidden `__complete` command.
  struct Flag {
    std::string name;
    char letter = 0;
    std::string value_name;  // empty for switches
    std::string help;
    bool is_switch = false;
    bool hidden = false;
    Setter set;
  };

  void toggle(std::string_view names, bool* target, std::string help);
  void toggle(std::string_view names, std::optional<bool>* target, std::string help);
  void value(std::string_view names, std::string* target, std::string value_name, std::string help);
  void value(std::string_view names, std::optional<std::string>* target, std::string value_name,
             std::string help);
  void list(std::string_view names, std::vector<std::string>* target, std::string value_name,
            std::string help);
  void custom(std::string_view names, std::string value_name, std::string help, Setter set);

  void stop_at_first_argument() { stop_at_first_argument_ = true; }

  // The arguments left when all options are taken. INVALID_ARGUMENT with reason "usage".
  Result<std::vector<std::string>> parse(const std::vector<std::string>& words);

  // The options of the last parse() that were given, whatever their values, by name.
  const std::set<std::string>& given() const { return given_; }

  const std::vector<Flag>& all() const { return flags_; }
  const Flag* find(std::string_view name) const;
  const Flag* find(char letter) const;
  // Aligned "  -d, --detach      help" lines, sorted by name.
  std::string help() const;

 private:
  Flag& add(std::string_view names, std::string value_name, std::string help, Setter set);
  Status parse_long(const std::vector<std::string>& words, size_t* at);
  Status parse_short(const std::vector<std::string>& words, size_t* at);

  std::vector<Flag> flags_;
  std::set<std::string> given_;
  bool stop_at_first_argument_ = false;
};

// INVALID_ARGUMENT that makes the program end with 2 and point to --help.
Status usage_error(std::string message);

}  // namespace muster::deploy::cli
