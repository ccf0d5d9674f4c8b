#include "manager/control/blob_keeper.h"

#include <utility>
#include <variant>

namespace muster::manager::control {

BlobKeeper::BlobKeeper(Executor& strand, store::Store& store, Log log)
    : strand_(strand), store_(store), log_(std::move(log)) {
  subscription_ = store_.watch([this](const store::CommitEvent& event) { on_commit(event); });
}

BlobKeeper::~BlobKeeper() {
  strand_.cancel(retry_);
}

void BlobKeeper::begin(const std::string& blob_id) {
  begun_.insert(blob_id);
}

void BlobKeeper::end(const std::string& blob_id, bool owned) {
  begun_.erase(blob_id);
  if (!owned) look();
}

void BlobKeeper::on_commit(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    const auto* change = std::get_if<store::Change<v1::Blob>>(&any);
    if (change == nullptr || change->after == nullptr) continue;
    if (!begun_.contains(change->after->id())) return look();
  }
}

void BlobKeeper::look() {
  if (busy_) {
    again_ = true;
    return;
  }
  busy_ = true;
  strand_.post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) collect();
  });
}

std::set<std::string> BlobKeeper::unowned(const store::Snapshot& state) const {
  std::set<std::string> owned = begun_;
  state.each<v1::Secret>([&](const auto& secret) {
    owned.insert(secret->blob_id());
    return true;
  });
  state.each<v1::Config>([&](const auto& config) {
    owned.insert(config->blob_id());
    return true;
  });
  std::set<std::string> found;
  state.each<v1::Blob>([&](const auto& blob) {
    if (!owned.contains(blob->id())) found.insert(blob->id());
    return found.size() < kBlobsMax;
  });
  return found;
}

void BlobKeeper::collect() {
  again_ = false;
  if (!store_.leading() || unowned(store_.snapshot()).empty()) {
    busy_ = false;
    return;
  }
  auto more = std::make_shared<bool>(false);
  store_.update(
      [this, alive = std::weak_ptr(alive_), more](store::Transaction& tx) -> Status {
        if (alive.expired()) return ok_status();
        const std::set<std::string> gone = unowned(tx.view());
        *more = gone.size() == kBlobsMax;
        for (const std::string& id : gone) MUSTER_TRY(tx.remove<v1::Blob>(id));
        if (!gone.empty()) log_->info("{} payloads that nobody refers to are removed", gone.size());
        return ok_status();
      },
      [this, alive = std::weak_ptr(alive_), more](const store::Commit& commit) {
        if (!alive.expired()) collected(commit.status, *more);
      });
}

void BlobKeeper::collected(const Status& status, bool more) {
  if (status.ok()) {
    backoff_.reset();
    busy_ = false;
    if (more || again_) look();
    return;
  }
  if (!store_.leading()) {
    busy_ = false;  // whoever leads next looks by itself
    return;
  }
  if (backoff_.fresh()) {
    log_->warn("unused payloads were not removed, trying again: {}", status.message());
  }
  retry_ = strand_.after(backoff_.next(), [this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) collect();
  });
}

}  // namespace muster::manager::control
