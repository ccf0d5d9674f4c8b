#include "base/crash_report.h"

#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>

namespace muster {
namespace {

constexpr int kFramesMax = 64;
const char* program_name = "";

// Nothing here may allocate or lock: the thread may hold the allocator's own lock.
void write_text(const char* text) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, ::strlen(text));
}

void report(int signal) {
  std::array<char, 17> thread{};
  ::prctl(PR_GET_NAME, thread.data());
  const char* name = ::sigabbrev_np(signal);
  for (const char* part : {program_name, ": ended by SIG", name == nullptr ? "?" : name,
                           " in thread ", static_cast<const char*>(thread.data()), "; stack:\n"}) {
    write_text(part);
  }
  std::array<void*, kFramesMax> frames;
  ::backtrace_symbols_fd(frames.data(), ::backtrace(frames.data(), kFramesMax), STDERR_FILENO);
  // The handler is taken off already (SA_RESETHAND): now the signal does what it does.
  ::raise(signal);
}

}  // namespace

void report_crashes(const char* program) {
  program_name = program;
  // The first call loads a library, which a handler must not.
  std::array<void*, 1> frame;
  ::backtrace(frame.data(), 1);
  struct sigaction action {};
  action.sa_handler = report;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
    ::sigaction(signal, &action, nullptr);
  }
}

}  // namespace muster
