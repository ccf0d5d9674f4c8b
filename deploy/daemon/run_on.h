#pragma once

#include <future>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/executor.h"

namespace muster::daemon {

// Runs `f` on the strand and waits for its result; at once when the caller is on it. For the
// daemon's own starting and stopping, never from one strand to another.
template <class F>
auto run_on(Executor& strand, F f) -> std::invoke_result_t<F&> {
  using R = std::invoke_result_t<F&>;
  if (strand.is_current()) return f();
  std::promise<R> promise;
  auto result = promise.get_future();
  strand.post([&f, &promise] {
    if constexpr (std::is_void_v<R>) {
      f();
      promise.set_value();
    } else {
      promise.set_value(f());
    }
  });
  return result.get();
}

// Runs `start` on the strand, handing it a callback, and waits until that is called, at most for
// `limit`. False when it was not.
template <class F>
bool await_on(Executor& strand, Duration limit, F start) {
  auto done = std::make_shared<std::promise<void>>();
  auto future = done->get_future();
  strand.post([start = std::move(start), done]() mutable { start([done] { done->set_value(); }); });
  return future.wait_for(limit) == std::future_status::ready;
}

}  // namespace muster::daemon
