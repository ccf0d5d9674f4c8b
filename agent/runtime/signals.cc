#include "agent/runtime/signals.h"

#include <fmt/format.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <tuple>

namespace muster::agent {

Result<int> parse_signal(std::string_view text) {
  if (text.empty()) return SIGTERM;
  const auto bad = [&] { return fail(invalid_argument("invalid signal \"{}\"", text)); };
  if (std::isdigit(static_cast<unsigned char>(text[0]))) {
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return bad();
    if (number < 1 || number > SIGRTMAX) return bad();
    return number;
  }
  std::string name(text);
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (name.rfind("SIG", 0) == 0) name.erase(0, 3);
  for (const auto& [prefix, base, sign] :
       {std::tuple<std::string_view, int, int>{"RTMIN", SIGRTMIN, 1}, {"RTMAX", SIGRTMAX, -1}}) {
    if (name.rfind(prefix, 0) != 0) continue;
    if (name.size() == prefix.size()) return base;
    const char expected = sign > 0 ? '+' : '-';
    if (name[prefix.size()] != expected) return bad();
    int offset = 0;
    const char* begin = name.data() + prefix.size() + 1;
    const auto [end, error] = std::from_chars(begin, name.data() + name.size(), offset);
    if (error != std::errc() || end != name.data() + name.size()) return bad();
    const int number = base + sign * offset;
    if (offset < 0 || number < SIGRTMIN || number > SIGRTMAX) return bad();
    return number;
  }
  for (int number = 1; number < 32; ++number) {
    const char* abbreviation = ::sigabbrev_np(number);
    if (abbreviation != nullptr && name == abbreviation) return number;
  }
  if (name == "CLD") return SIGCHLD;
  if (name == "POLL") return SIGIO;
  return bad();
}

std::string signal_name(int signal) {
  const char* abbreviation = ::sigabbrev_np(signal);
  if (abbreviation != nullptr) return fmt::format("SIG{}", abbreviation);
  return fmt::format("signal {}", signal);
}

}  // namespace muster::agent
