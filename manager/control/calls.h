#pragma once

#include <string>
#include <utility>

#include "base/check.h"
#include "manager/control/control_api.h"

// What the files of ControlApi's methods have in common. Internal to control_*.cc.
namespace muster::manager::control {

inline constexpr size_t kRequestIdBytesMax = 128;

inline Status check_request_id(const std::string& request_id) {
  if (request_id.size() <= kRequestIdBytesMax) return ok_status();
  return invalid_argument("a request id may have {} bytes at most", kRequestIdBytesMax);
}

// An id of one method never answers for another.
inline std::string scoped(const char* method, const std::string& request_id) {
  return request_id.empty() ? std::string() : fmt::format("{}/{}", method, request_id);
}

// Every mutation ends the same way: the response is read from the committed state.
template <class Response, class Body, class Read>
void commit(store::Store& store, const char* method, const std::string& request_id, Body body,
            Read read, Callback<Response> done) {
  if (Status status = check_request_id(request_id); !status.ok()) {
    done(fail(std::move(status)));
    return;
  }
  store.update({scoped(method, request_id)}, std::move(body),
               [&store, read = std::move(read),
                done = std::move(done)](const store::Commit& result) mutable {
                 if (!result.status.ok()) {
                   done(fail(result.status));
                 } else {
                   done(read(store.snapshot(), result.object_id));
                 }
               });
}

// The answer to a change that was made: the object as it is now. Somebody else may have removed it
// since, even in the same entry of the log: NOT_FOUND, with a reason that tells it from a change
// that was refused.
template <class Response, class Object>
Result<Response> respond(const store::Ptr<Object>& object, Object* (Response::*field)()) {
  if (object == nullptr) {
    return fail(
        StatusCode::kNotFound,
        fmt::format("the change was made, but the {} has been removed since by somebody else",
                    store::TableTraits<Object>::kKind),
        "removed-since");
  }
  Response response;
  *(response.*field)() = *object;
  return response;
}

// Ends the request when the caller may not make it or nobody can answer.
#define MUSTER_WRITING(store, method)                 \
  auto store##_result = writing((method), principal); \
  if (!store##_result) {                              \
    done(fail(std::move(store##_result).error()));    \
    return;                                           \
  }                                                   \
  store::Store& store = **store##_result
#define MUSTER_OR_DONE(expr)                  \
  if (Status status = (expr); !status.ok()) { \
    done(fail(std::move(status)));            \
    return;                                   \
  }                                           \
  static_assert(true)

}  // namespace muster::manager::control
