#include "agent/logs/log_plan.h"

#include <algorithm>
#include <map>
#include <regex>

#include "base/template.h"

namespace muster::agent {
namespace {

constexpr const char* kNoReading = "configured logging driver does not support reading";

// Docker's local driver keeps this much; so does its cache of what other drivers get.
constexpr uint64_t kKeptBytes = 20 << 20;
constexpr unsigned kKeptFiles = 5;
// What waits for a syslog server or a journal that does not take it.
constexpr uint64_t kSpoolBytes = 10 << 20;
constexpr unsigned kSpoolFiles = 5;

uint64_t size_option(const v1::LogDriver& driver, const char* key, uint64_t otherwise) {
  const std::string text = log_option(driver, key);
  if (text == "-1") return 0;
  return parse_log_size(text).value_or(otherwise);
}

unsigned count_option(const v1::LogDriver& driver, const char* key, unsigned otherwise) {
  const auto count = parse_log_size(log_option(driver, key));
  return count ? static_cast<unsigned>(std::clamp<uint64_t>(*count, 1, 100)) : otherwise;
}

bool is_true(const std::string& text) {
  return text == "true" || text == "1" || text == "t" || text == "T" || text == "TRUE" ||
         text == "True";
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) out.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

// Keys of `from` that the list names or the expression finds, into `into`.
void select(const std::map<std::string, std::string>& from, const std::string& list,
            const std::string& expression, std::map<std::string, std::string>& into) {
  for (const std::string& key : split(list)) {
    if (const auto found = from.find(key); found != from.end()) into[key] = found->second;
  }
  if (expression.empty()) return;
  try {
    const std::regex pattern(expression);
    for (const auto& [key, value] : from) {
      if (std::regex_search(key, pattern)) into[key] = value;
    }
  } catch (const std::regex_error&) {
    // Refused when the service came in; a node's default may be wrong, and then selects nothing.
  }
}

}  // namespace

std::string log_option(const v1::LogDriver& driver, const std::string& key) {
  for (const v1::KeyValue& option : driver.options()) {
    if (option.key() == key) return option.value();
  }
  return {};
}

LogOptions log_options(const v1::LogDriver& driver) {
  LogOptions out;
  for (const v1::KeyValue& option : driver.options())
    out.emplace_back(option.key(), option.value());
  return out;
}

bool is_forwarded(const v1::LogDriver& driver) {
  return driver.name() == "journald" || driver.name() == "syslog";
}

LogPlan plan_log(const v1::LogDriver& driver) {
  LogPlan plan;
  plan.driver = driver.name().empty() ? "json-file" : driver.name();
  plan.forwarded = is_forwarded(driver);
  if (plan.driver == "none") {
    plan.file = false;
    plan.unreadable = kNoReading;
  } else if (plan.driver == "local") {
    plan.bytes_max = size_option(driver, "max-size", kKeptBytes);
    plan.files_max = count_option(driver, "max-file", kKeptFiles);
  } else if (plan.driver == "journald") {
    plan.bytes_max = size_option(driver, "cache-max-size", kKeptBytes);
    plan.files_max = std::max(count_option(driver, "cache-max-file", kKeptFiles), 2u);
    if (is_true(log_option(driver, "cache-disabled"))) {
      plan.unreadable = kNoReading;
      plan.bytes_max = kSpoolBytes;
      plan.files_max = kSpoolFiles;
    }
  } else if (plan.driver == "syslog") {
    plan.unreadable = kNoReading;
    plan.files_max = kSpoolFiles;
    plan.bytes_max = std::max<uint64_t>(
        size_option(driver, "max-buffer-size", kSpoolBytes * kSpoolFiles) / kSpoolFiles, 16 << 10);
  } else {
    plan.bytes_max = size_option(driver, "max-size", 0);
    plan.files_max = count_option(driver, "max-file", 1);
  }
  return plan;
}

v1::LogDriver effective_log_driver(const v1::LogDriver& own, const v1::LogDriver& cluster,
                                   const v1::LogDriver& node) {
  const v1::LogDriver& base = cluster.name().empty() ? node : cluster;
  const std::string base_name = base.name().empty() ? "json-file" : base.name();
  if (!own.name().empty() && own.name() != base_name) return own;
  v1::LogDriver out;
  out.set_name(base_name);
  std::map<std::string, std::string> options;
  for (const v1::KeyValue& option : base.options()) options[option.key()] = option.value();
  for (const v1::KeyValue& option : own.options()) options[option.key()] = option.value();
  for (const auto& [key, value] : options) {
    v1::KeyValue& option = *out.add_options();
    option.set_key(key);
    option.set_value(value);
  }
  return out;
}

std::vector<v1::KeyValue> log_attributes(const v1::LogDriver& driver,
                                         const std::vector<v1::KeyValue>& labels,
                                         const std::vector<std::string>& env) {
  std::map<std::string, std::string> label_map;
  for (const v1::KeyValue& label : labels) label_map[label.key()] = label.value();
  std::map<std::string, std::string> env_map;
  for (const std::string& entry : env) {
    const size_t equals = entry.find('=');
    if (equals != std::string::npos) env_map[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  std::map<std::string, std::string> chosen;
  select(label_map, log_option(driver, "labels"), log_option(driver, "labels-regex"), chosen);
  select(env_map, log_option(driver, "env"), log_option(driver, "env-regex"), chosen);
  if (driver.name() != "syslog" && driver.name() != "journald") {
    if (const std::string tag = log_option(driver, "tag"); !tag.empty()) chosen["tag"] = tag;
  }
  std::vector<v1::KeyValue> out;
  for (const auto& [key, value] : chosen) {
    v1::KeyValue& pair = out.emplace_back();
    pair.set_key(key);
    pair.set_value(value);
  }
  return out;
}

Result<std::string> log_tag(const v1::LogDriver& driver, const LogTagContext& context,
                            const std::string& fallback) {
  const std::string own = log_option(driver, "tag");
  boost::json::object names;
  names["ID"] = context.container_id.substr(0, 12);
  names["FullID"] = context.container_id;
  names["Name"] = context.name;
  const size_t colon = context.image_id.find(':');
  const std::string image =
      colon == std::string::npos ? context.image_id : context.image_id.substr(colon + 1);
  names["ImageID"] = image.substr(0, 12);
  names["ImageFullID"] = context.image_id;
  names["ImageName"] = context.image_name;
  names["DaemonName"] = "muster";
  return expand_template(own.empty() ? fallback : own, names);
}

}  // namespace muster::agent
