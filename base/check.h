#pragma once

#include <string_view>

namespace muster {

// Prints the failed condition and aborts. Never returns.
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view detail);

}  // namespace muster

// A broken invariant of our own code: on in every build, ends the process. For faults of input or
// environment return a Status (base/status.h).
#define MUSTER_CHECK(condition, ...)                                                           \
  do {                                                                                         \
    if (!(condition)) [[unlikely]]                                                             \
      ::muster::check_failed(__FILE__, __LINE__, #condition, ::std::string_view{__VA_ARGS__}); \
  } while (false)
