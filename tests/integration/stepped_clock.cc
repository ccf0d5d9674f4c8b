// Loaded into a program with LD_PRELOAD: its wall clock is off by as many seconds as the file named
// by STEPPED_CLOCK_FILE says, from the moment on that it says so. The monotonic clock is not
// touched, as with a real step. Linux has no namespace for the wall clock, and libfaketime leaves
// out what matters here: waits until a wall-clock time, which gRPC's mutexes (abseil) do by futex
// themselves. A real step is seen by waits under way; here they look again every 20 ms.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>

namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kReadAgain = 10'000'000;
constexpr int64_t kLookAgain = 20'000'000;

// The kernel's own answers: libc's functions are the ones below.
int64_t kernel_clock(clockid_t clock) {
  timespec time{};
  using ClockGettime = int (*)(clockid_t, timespec*);
  static const auto real = reinterpret_cast<ClockGettime>(dlsym(RTLD_NEXT, "clock_gettime"));
  real(clock, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

// Nothing when the file is being written.
bool read_offset(int64_t* offset) {
  const char* path = getenv("STEPPED_CLOCK_FILE");
  if (path == nullptr) return false;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[32] = {};
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0 || text[n - 1] != '\n') return false;
  *offset = strtoll(text, nullptr, 10) * kSecond;
  return true;
}

int64_t offset() {
  static std::atomic<int64_t> known{0};
  static std::atomic<int64_t> read_at{0};
  int64_t last = read_at.load(std::memory_order_relaxed);
  const int64_t now = kernel_clock(CLOCK_MONOTONIC);
  if ((last == 0 || now - last > kReadAgain) && read_at.compare_exchange_strong(last, now)) {
    const int error = errno;
    int64_t fresh = 0;
    if (read_offset(&fresh)) known = fresh;
    errno = error;
  }
  return known.load(std::memory_order_relaxed);
}

bool is_wall(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}
int64_t wall() {
  return kernel_clock(CLOCK_REALTIME) + offset();
}
timespec to_timespec(int64_t ns) {
  return {ns / kSecond, ns % kSecond};
}
int64_t to_ns(const timespec& time) {
  return time.tv_sec * kSecond + time.tv_nsec;
}

// Until the wall clock says `deadline`: `wait` waits until a time of the monotonic clock and says
// whether that was all that happened.
template <class Wait>
bool wait_until_wall(const timespec& deadline, const Wait& wait) {
  while (true) {
    const int64_t rest = to_ns(deadline) - wall();
    const timespec until =
        to_timespec(kernel_clock(CLOCK_MONOTONIC) + std::clamp<int64_t>(rest, 0, kLookAgain));
    if (!wait(until)) return false;
    if (rest <= kLookAgain && to_ns(deadline) <= wall()) return true;
  }
}

using Syscall = long (*)(long, ...);
Syscall real_syscall() {
  static const auto real = reinterpret_cast<Syscall>(dlsym(RTLD_NEXT, "syscall"));
  return real;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  using ClockGettime = int (*)(clockid_t, timespec*);
  static const auto real = reinterpret_cast<ClockGettime>(dlsym(RTLD_NEXT, "clock_gettime"));
  const int result = real(clock, time);
  if (result == 0 && is_wall(clock)) *time = to_timespec(to_ns(*time) + offset());
  return result;
}

int gettimeofday(timeval* time, void*) noexcept {
  const int64_t now = wall();
  *time = {now / kSecond, now % kSecond / 1000};
  return 0;
}

time_t time(time_t* out) noexcept {
  const time_t now = wall() / kSecond;
  if (out != nullptr) *out = now;
  return now;
}

int pthread_cond_timedwait(pthread_cond_t* cond, pthread_mutex_t* mutex, const timespec* deadline) {
  // glibc notes the clock of a condition variable in this bit.
  if ((cond->__data.__wrefs & 2) != 0)
    return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, deadline);
  int result = 0;
  const bool over = wait_until_wall(*deadline, [&](const timespec& until) {
    result = pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &until);
    return result == ETIMEDOUT;
  });
  return over ? ETIMEDOUT : result;
}

long syscall(long number, ...) noexcept {
  long a[6];
  va_list list;
  va_start(list, number);
  for (long& word : a) word = va_arg(list, long);
  va_end(list);
  const auto call = [&] { return real_syscall()(number, a[0], a[1], a[2], a[3], a[4], a[5]); };
  const auto* deadline = reinterpret_cast<const timespec*>(a[3]);
  if (number != SYS_futex || (a[1] & FUTEX_CLOCK_REALTIME) == 0 || deadline == nullptr)
    return call();
  a[1] &= ~static_cast<long>(FUTEX_CLOCK_REALTIME);
  long result = 0;
  const bool over = wait_until_wall(*deadline, [&](const timespec& until) {
    a[3] = reinterpret_cast<long>(&until);
    result = call();
    return result != 0 && errno == ETIMEDOUT;
  });
  if (over) errno = ETIMEDOUT;
  return over ? -1 : result;
}
}
