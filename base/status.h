#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace muster {

// The canonical codes of gRPC, with gRPC's numbers, so that the mapping at the wire is a cast.
enum class StatusCode {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// "invalid argument", "not found", ...
std::string_view to_string(StatusCode code);

// The outcome of an operation that can fail for a reason outside the program: the caller's input,
// the environment, a peer. Broken invariants of our own are MUSTER_CHECKs instead (base/check.h).
//
// `message` is for people: it says what and why, in one line, without a trailing full stop.
// `reason` is for programs: a stable, lower-case, dash-separated word such as "out-of-sequence";
// it may be empty.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message, std::string reason = {})
      : code_(code), message_(std::move(message)), reason_(std::move(reason)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& reason() const { return reason_; }

  // The same status with "`context`: " in front of the message. OK stays OK.
  Status with_context(std::string_view context) const;
  std::string to_string() const;

  friend bool operator==(const Status&, const Status&) = default;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
  std::string reason_;
};

template <class T>
using Result = tl::expected<T, Status>;

inline Status ok_status() {
  return {};
}
inline tl::unexpected<Status> fail(Status status) {
  return tl::unexpected<Status>(std::move(status));
}
inline tl::unexpected<Status> fail(StatusCode code, std::string message, std::string reason = {}) {
  return tl::unexpected<Status>(Status(code, std::move(message), std::move(reason)));
}

// Short makers for the codes used most: `return invalid_argument("replicas {} is negative", n);`
template <class... Args>
Status invalid_argument(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kInvalidArgument, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
Status not_found(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kNotFound, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
Status already_exists(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kAlreadyExists, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
Status failed_precondition(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kFailedPrecondition, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
Status permission_denied(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kPermissionDenied, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
Status resource_exhausted(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kResourceExhausted, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
Status unavailable(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kUnavailable, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
Status internal_error(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kInternal, fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
Status data_loss(fmt::format_string<Args...> f, Args&&... args) {
  return Status(StatusCode::kDataLoss, fmt::format(f, std::forward<Args>(args)...));
}

// A failed system call as a status: "`what`: No such file or directory". The code follows errno
// (ENOENT not found, EEXIST already exists, EACCES and EPERM permission denied, ENOSPC and EDQUOT
// resource exhausted, others internal).
Status errno_status(int error, std::string_view what);

}  // namespace muster

// Evaluates `expr` (a Status); returns it from the calling function when it is not OK. The caller
// may return Status or Result<T>.
#define MUSTER_TRY(expr)                                       \
  do {                                                         \
    ::muster::Status muster_try_status = (expr);               \
    if (!muster_try_status.ok()) [[unlikely]]                  \
      return ::muster::internal::Propagate{muster_try_status}; \
  } while (false)

#define MUSTER_CONCAT_INNER(a, b) a##b
#define MUSTER_CONCAT(a, b) MUSTER_CONCAT_INNER(a, b)

// MUSTER_ASSIGN(auto x, expr): evaluates `expr` (a Result<T>); returns its status when it failed,
// else moves its value into `x`.
#define MUSTER_ASSIGN(lhs, expr) \
  MUSTER_ASSIGN_INNER(MUSTER_CONCAT(muster_result_, __LINE__), lhs, expr)
#define MUSTER_ASSIGN_INNER(tmp, lhs, expr)                       \
  auto tmp = (expr);                                              \
  if (!tmp) [[unlikely]]                                          \
    return ::muster::internal::Propagate{std::move(tmp).error()}; \
  lhs = *std::move(tmp)

namespace muster::internal {
// Converts to whatever the calling function returns: Status itself or any Result<T>.
struct Propagate {
  Status status;
  operator Status() && { return std::move(status); }  // NOLINT: implicit by design
  template <class T>
  operator Result<T>() && {  // NOLINT: implicit by design
    return fail(std::move(status));
  }
};
}  // namespace muster::internal
