#include "base/check.h"
#include "manager/store/transaction_impl.h"

namespace muster::manager::store {
namespace {

// Checks that no other object has the name of `object`.
template <class T>
Status check_name(const State& state, const T& object) {
  if constexpr (TableTraits<T>::kUniqueName) {
    const std::string_view name = TableTraits<T>::name(object);
    if (name.empty()) return invalid_argument("a {} must have a name", TableTraits<T>::kKind);
    const Ptr<T> holder = state.find_unique<T>(name);
    if (holder != nullptr && holder->id() != object.id()) {
      return Status(StatusCode::kAlreadyExists,
                    fmt::format("name conflicts with an existing object: {} {} already exists",
                                TableTraits<T>::kKind, name),
                    "name-conflict");
    }
  }
  return ok_status();
}

Status out_of_sequence() {
  return Status(StatusCode::kAborted, "update out of sequence", "out-of-sequence");
}

}  // namespace

Snapshot Transaction::view() const {
  return Snapshot(impl_.working);
}

WallTime Transaction::now() const {
  return impl_.now;
}

template <class T>
Status Transaction::create(T object) {
  if (object.id().empty()) return invalid_argument("a {} must have an id", TableTraits<T>::kKind);
  if (impl_.working->get<T>(object.id()) != nullptr) {
    return already_exists("{} {} already exists", TableTraits<T>::kKind, object.id());
  }
  MUSTER_TRY(check_name(*impl_.working, object));
  v1::Meta& meta = *object.mutable_meta();
  meta.set_version(impl_.version);
  meta.set_created_at_ns(impl_.now.unix_ns);
  meta.set_updated_at_ns(impl_.now.unix_ns);
  impl_.apply<T>(nullptr, make_stored<T>(std::move(object)));
  return ok_status();
}

template <class T>
Status Transaction::update(T object) {
  Ptr<T> before = impl_.working->get<T>(object.id());
  if (before == nullptr) return not_found("{} {} not found", TableTraits<T>::kKind, object.id());
  if (object.meta().version() != before->meta().version()) {
    return out_of_sequence();
  }
  MUSTER_TRY(check_name(*impl_.working, object));
  v1::Meta& meta = *object.mutable_meta();
  meta.set_version(impl_.version);
  meta.set_created_at_ns(before->meta().created_at_ns());
  meta.set_updated_at_ns(impl_.now.unix_ns);
  impl_.apply<T>(std::move(before), make_stored<T>(std::move(object)));
  return ok_status();
}

template <class T>
Status Transaction::replace(const Ptr<T>& seen, T object) {
  const Ptr<T>* stored = impl_.working->find<T>(seen->id());
  if (stored == nullptr) return not_found("{} {} not found", TableTraits<T>::kKind, seen->id());
  // Usually the very same object; a copy of it that went another way has its version.
  if (*stored != seen && (*stored)->meta().version() != seen->meta().version()) {
    return out_of_sequence();
  }
  MUSTER_CHECK(object.id() == seen->id(), "an object is replaced by another one");
  MUSTER_TRY(check_name(*impl_.working, object));
  v1::Meta& meta = *object.mutable_meta();
  meta.set_version(impl_.version);
  meta.set_created_at_ns(seen->meta().created_at_ns());
  meta.set_updated_at_ns(impl_.now.unix_ns);
  impl_.apply<T>(*stored, make_stored<T>(std::move(object)));
  return ok_status();
}

template <class T>
Status Transaction::remove(std::string_view id) {
  Ptr<T> before = impl_.working->get<T>(id);
  if (before == nullptr) return not_found("{} {} not found", TableTraits<T>::kKind, id);
  impl_.apply<T>(std::move(before), nullptr);
  return ok_status();
}

#define MUSTER_INSTANTIATE(T)                                     \
  template Status Transaction::create<T>(T);                      \
  template Status Transaction::update<T>(T);                      \
  template Status Transaction::replace<T>(const Ptr<T>& seen, T); \
  template Status Transaction::remove<T>(std::string_view id);
MUSTER_STORE_KINDS(MUSTER_INSTANTIATE)
#undef MUSTER_INSTANTIATE

}  // namespace muster::manager::store
