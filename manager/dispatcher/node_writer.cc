#include "manager/dispatcher/node_writer.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace muster::manager::dispatcher {

NodeWriter::NodeWriter(Executor& strand, store::Store& store, Log log)
    : strand_(strand), store_(store), log_(std::move(log)) {}

NodeWriter::~NodeWriter() {
  strand_.cancel(retry_);
}

void NodeWriter::set(const std::string& node_id, Change change) {
  waiting_.insert_or_assign(node_id, std::move(change));
  flush();
}

void NodeWriter::clear() {
  ++term_;
  waiting_.clear();
  strand_.cancel(retry_);
  writing_ = false;
  backoff_.reset();
}

void NodeWriter::flush() {
  if (writing_ || waiting_.empty()) return;
  writing_ = true;
  auto taken = std::make_shared<Changes>();
  const std::weak_ptr<int> alive = alive_;
  store_.update(
      [this, alive, taken, term = term_](store::Transaction& tx) -> Status {
        if (alive.expired() || term != term_) return ok_status();
        return write(tx, *taken);
      },
      [this, alive, taken, term = term_](const store::Commit& commit) {
        if (!alive.expired() && term == term_) written(*taken, commit.status);
      });
}

// The store may run the transaction twice, so what was taken stays so.
Status NodeWriter::write(store::Transaction& tx, Changes& taken) {
  while (!waiting_.empty() && taken.size() < nodes_max_) {
    auto first = waiting_.extract(waiting_.begin());
    taken.insert_or_assign(std::move(first.key()), std::move(first.mapped()));
  }
  std::vector<v1::Node> changed;
  {
    const store::Snapshot view = tx.view();
    for (const auto& [node_id, change] : taken) {
      const auto stored = view.get<v1::Node>(node_id);
      if (!stored) continue;
      v1::Node next = *stored;
      change(next);
      if (google::protobuf::util::MessageDifferencer::Equals(next, *stored)) continue;
      changed.push_back(std::move(next));
    }
  }
  for (v1::Node& node : changed) MUSTER_TRY(tx.update(std::move(node)));
  return ok_status();
}

void NodeWriter::written(Changes& taken, const Status& status) {
  if (status.ok()) {
    writing_ = false;
    backoff_.reset();
    nodes_max_ = std::min(kNodesMax, nodes_max_ * 2);
    flush();
    return;
  }
  waiting_.merge(taken);  // what waits is newer
  if (status.code() == StatusCode::kResourceExhausted) {
    nodes_max_ = std::max<size_t>(1, nodes_max_ / 2);
  }
  if (backoff_.fresh()) {
    log_->warn("the state of nodes was not written, trying again: {}", status.message());
  }
  const std::weak_ptr<int> alive = alive_;
  retry_ = strand_.after(backoff_.next(), [this, alive] {
    if (alive.expired()) return;
    writing_ = false;
    flush();
  });
}

}  // namespace muster::manager::dispatcher
