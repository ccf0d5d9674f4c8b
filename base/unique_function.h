#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/check.h"

namespace muster {

template <class Signature>
class UniqueFunction;

// A callable that can be moved but not copied, so it may own what it captures. What
// std::move_only_function will be in C++23; callables up to three pointers live inside the object.
template <class R, class... Args>
class UniqueFunction<R(Args...)> {
 public:
  UniqueFunction() = default;
  UniqueFunction(std::nullptr_t) {}  // NOLINT: implicit like std::function

  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, UniqueFunction> &&
           std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
      UniqueFunction(F&& f) {  // NOLINT: implicit like std::function
    using Callable = std::decay_t<F>;
    if constexpr (fits<Callable>) {
      new (&storage_) Callable(std::forward<F>(f));
      ops_ = &kInline<Callable>;
    } else {
      *reinterpret_cast<Callable**>(&storage_) = new Callable(std::forward<F>(f));
      ops_ = &kHeap<Callable>;
    }
  }

  UniqueFunction(UniqueFunction&& other) noexcept { take(other); }
  UniqueFunction& operator=(UniqueFunction&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  ~UniqueFunction() { reset(); }

  explicit operator bool() const { return ops_ != nullptr; }

  R operator()(Args... args) {
    MUSTER_CHECK(ops_ != nullptr, "call of an empty UniqueFunction");
    return ops_->call(&storage_, std::forward<Args>(args)...);
  }

 private:
  static constexpr size_t kInlineBytes = 3 * sizeof(void*);
  struct Ops {
    R (*call)(void*, Args&&...);
    void (*move)(void* from, void* to) noexcept;
    void (*destroy)(void*) noexcept;
  };

  template <class C>
  static constexpr bool fits =
      sizeof(C) <= kInlineBytes &&
      alignof(C) <= alignof(void*) && std::is_nothrow_move_constructible_v<C>;
  template <class C>
  static constexpr Ops kInline{[](void* s, Args&&... args) -> R {
                                 return (*static_cast<C*>(s))(std::forward<Args>(args)...);
                               },
                               [](void* from, void* to) noexcept {
                                 new (to) C(std::move(*static_cast<C*>(from)));
                                 static_cast<C*>(from)->~C();
                               },
                               [](void* s) noexcept { static_cast<C*>(s)->~C(); }};
  template <class C>
  static constexpr Ops kHeap{
      [](void* s, Args&&... args) -> R {
        return (**static_cast<C**>(s))(std::forward<Args>(args)...);
      },
      [](void* from, void* to) noexcept { *static_cast<C**>(to) = *static_cast<C**>(from); },
      [](void* s) noexcept { delete *static_cast<C**>(s); }};

  void take(UniqueFunction& other) noexcept {
    ops_ = std::exchange(other.ops_, nullptr);
    if (ops_ != nullptr) ops_->move(&other.storage_, &storage_);
  }
  void reset() noexcept {
    if (ops_ != nullptr) std::exchange(ops_, nullptr)->destroy(&storage_);
  }

  const Ops* ops_ = nullptr;
  alignas(void*) std::byte storage_[kInlineBytes];
};

}  // namespace muster
