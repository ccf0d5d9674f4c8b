#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>

namespace muster {
namespace {

// %J: the message as a JSON string, escaped.
class JsonMessageFlag final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& msg, const std::tm&,
              spdlog::memory_buf_t& dest) override {
    const std::string text = boost::json::serialize(
        boost::json::value(boost::json::string_view(msg.payload.data(), msg.payload.size())));
    dest.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessageFlag>();
  }
};

Result<spdlog::level::level_enum> parse_level(std::string_view level) {
  if (level == "debug") return spdlog::level::debug;
  if (level == "info") return spdlog::level::info;
  if (level == "warn") return spdlog::level::warn;
  if (level == "error") return spdlog::level::err;
  return fail(
      invalid_argument("unknown log level \"{}\" (one of debug, info, warn, error)", level));
}

}  // namespace

Result<Log> make_log(std::string_view component, std::string_view level, LogFormat format) {
  MUSTER_ASSIGN(const auto parsed, parse_level(level));
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  if (format == LogFormat::kJson) {
    formatter->add_flag<JsonMessageFlag>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l","component":"%n","msg":%*})");
  } else {
    formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %-7l %n: %v");
  }
  sink->set_formatter(std::move(formatter));
  auto log = std::make_shared<spdlog::logger>(std::string(component), std::move(sink));
  log->set_level(parsed);
  log->flush_on(spdlog::level::debug);
  return log;
}

Log child_log(const Log& parent, std::string_view component) {
  return parent->clone(std::string(component));
}

Log null_log() {
  return std::make_shared<spdlog::logger>("null", std::make_shared<spdlog::sinks::null_sink_mt>());
}

}  // namespace muster
