#include "deploy/daemon/config_file.h"

#include <yaml.h>

#include <filesystem>

#include "base/file.h"

namespace muster::daemon {
namespace {

// libyaml's parser as an RAII source of events.
class Events {
 public:
  Events(const std::string& text, const std::string& name) : name_(name) {
    yaml_parser_initialize(&parser_);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  ~Events() {
    yaml_event_delete(&event_);
    yaml_parser_delete(&parser_);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  Result<yaml_event_type_t> next() {
    yaml_event_delete(&event_);
    if (yaml_parser_parse(&parser_, &event_) == 0) {
      event_ = {};
      return fail(invalid_argument("{}:{}: {}", name_, parser_.problem_mark.line + 1,
                                   parser_.problem != nullptr ? parser_.problem : "bad YAML"));
    }
    return event_.type;
  }
  std::string scalar() const {
    return std::string(reinterpret_cast<const char*>(event_.data.scalar.value),
                       event_.data.scalar.length);
  }
  Status bad(std::string_view why) const {
    return invalid_argument("{}:{}: {}", name_, event_.start_mark.line + 1, why);
  }

 private:
  std::string name_;
  yaml_parser_t parser_{};
  yaml_event_t event_{};
};

}  // namespace

Result<ConfigFile> parse_config(const std::string& text, const std::string& name) {
  Events events(text, name);
  ConfigFile file;
  int depth = 0;
  std::string key;
  bool in_list = false;
  while (true) {
    MUSTER_ASSIGN(const yaml_event_type_t type, events.next());
    switch (type) {
      case YAML_STREAM_END_EVENT: return file;
      case YAML_MAPPING_START_EVENT:
        if (++depth > 1)
          return fail(events.bad("only a flat mapping of keys to values is allowed"));
        break;
      case YAML_MAPPING_END_EVENT: --depth; break;
      case YAML_SEQUENCE_START_EVENT:
        if (depth != 1 || key.empty() || in_list)
          return fail(events.bad("a list is not allowed here"));
        in_list = true;
        break;
      case YAML_SEQUENCE_END_EVENT:
        in_list = false;
        key.clear();
        break;
      case YAML_SCALAR_EVENT:
        if (depth == 0) {
          if (events.scalar().empty()) break;  // an empty document
          return fail(events.bad("a mapping of keys to values is expected"));
        }
        if (key.empty()) {
          key = events.scalar();
          if (file.contains(key)) return fail(events.bad("the key \"" + key + "\" stands twice"));
          file[key];
        } else {
          file[key].push_back(events.scalar());
          if (!in_list) key.clear();
        }
        break;
      case YAML_ALIAS_EVENT: return fail(events.bad("aliases are not allowed"));
      default: break;
    }
  }
}

Result<ConfigFile> read_config_file(const std::string& path, bool must_exist) {
  std::error_code error;
  if (!must_exist && !std::filesystem::exists(path, error)) return ConfigFile{};
  MUSTER_ASSIGN(const std::string text, read_file(path, 1 << 20));
  return parse_config(text, path);
}

}  // namespace muster::daemon
