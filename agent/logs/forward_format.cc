#include "agent/logs/forward_format.h"

#include <fmt/format.h>

#include <cctype>
#include <cstdint>
#include <ctime>
#include <string_view>

#include "base/time.h"

namespace muster::agent {
namespace {

std::string_view without_newline(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

std::tm local_time(int64_t time_ns) {
  const auto seconds = static_cast<std::time_t>(time_ns / 1'000'000'000);
  std::tm out{};
  ::localtime_r(&seconds, &out);
  return out;
}

// "Jan  2 15:04:05".
std::string stamp(int64_t time_ns) {
  const std::tm time = local_time(time_ns);
  char text[32];
  std::strftime(text, sizeof text, "%b %e %H:%M:%S", &time);
  return text;
}

// RFC 3339 in local time, without a fraction or with microseconds.
std::string stamp_5424(int64_t time_ns, bool micro) {
  const std::tm time = local_time(time_ns);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &time);
  const long offset = time.tm_gmtoff / 60;
  std::string zone = "Z";
  if (offset != 0) {
    const long size = offset < 0 ? -offset : offset;
    zone = fmt::format("{}{:02}:{:02}", offset < 0 ? '-' : '+', size / 60, size % 60);
  }
  if (!micro) return text + zone;
  return fmt::format("{}.{:06}{}", text, time_ns / 1'000 % 1'000'000, zone);
}

// Bytes that would end a message or confuse what reads it.
std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c == '\n' || c == '\0') c = ' ';
  }
  return out;
}

void put_field(std::string& out, std::string_view key, std::string_view value) {
  if (value.find('\n') == std::string_view::npos) {
    out.append(key).append("=").append(value).append("\n");
    return;
  }
  out.append(key).append("\n");
  uint64_t size = value.size();
  for (int i = 0; i < 8; ++i, size >>= 8) out.push_back(static_cast<char>(size & 0xff));
  out.append(value).append("\n");
}

// The journal's field names are upper-case letters, digits and underscores, not first.
std::string field_name(std::string_view key) {
  std::string out;
  for (const char c : key) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalnum(u) != 0) {
      out.push_back(static_cast<char>(std::toupper(u)));
    } else if (!out.empty()) {
      out.push_back('_');
    }
  }
  while (!out.empty() && std::isdigit(static_cast<unsigned char>(out.front())) != 0) {
    out.erase(0, 1);
  }
  while (!out.empty() && out.front() == '_') out.erase(0, 1);
  return out.substr(0, 64);
}

}  // namespace

std::string syslog_message(const std::string& format, unsigned facility,
                           const ForwardIdentity& identity, const LogLine& line) {
  const unsigned priority = facility * 8 + (line.is_stderr ? 3 : 6);
  const std::string text = printable(without_newline(line.text));
  if (format == "rfc3164") {
    return fmt::format("<{}>{} {} {}[{}]: {}", priority, stamp(line.time_ns), identity.hostname,
                       identity.tag, identity.pid, text);
  }
  if (format == "rfc5424" || format == "rfc5424micro") {
    return fmt::format("<{}>1 {} {} {} {} {} - {}", priority,
                       stamp_5424(line.time_ns, format == "rfc5424micro"), identity.hostname,
                       identity.tag, identity.pid, identity.tag, text);
  }
  return fmt::format("<{}>{} {}[{}]: {}", priority, stamp(line.time_ns), identity.tag, identity.pid,
                     text);
}

std::string journal_entry(const ForwardIdentity& identity, const LogLine& line) {
  std::string out;
  put_field(out, "MESSAGE", without_newline(line.text));
  put_field(out, "PRIORITY", line.is_stderr ? "3" : "6");
  put_field(out, "CONTAINER_ID", identity.container_id.substr(0, 12));
  put_field(out, "CONTAINER_ID_FULL", identity.container_id);
  put_field(out, "CONTAINER_NAME", identity.name);
  put_field(out, "CONTAINER_TAG", identity.tag);
  put_field(out, "IMAGE_NAME", identity.image);
  put_field(out, "SYSLOG_IDENTIFIER", identity.tag);
  put_field(out, "SYSLOG_TIMESTAMP", format_rfc3339(WallTime{line.time_ns}));
  if (!line.text.empty() && line.text.back() != '\n') {
    put_field(out, "CONTAINER_PARTIAL_MESSAGE", "true");
  }
  for (const v1::KeyValue& attribute : identity.attributes) {
    const std::string name = field_name(attribute.key());
    if (!name.empty()) put_field(out, name, attribute.value());
  }
  return out;
}

}  // namespace muster::agent
