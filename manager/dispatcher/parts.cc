#include "manager/dispatcher/parts.h"

#include <utility>

namespace muster::manager::dispatcher {
namespace {

class Cutter {
 public:
  Cutter(const v1::FeedUpdate& step, size_t bytes_max) : step_(step), bytes_max_(bytes_max) {
    begin();
  }

  // Makes room for an item of `bytes` and returns the part to add it to.
  v1::FeedUpdate& part_for(size_t bytes) {
    if (used_ > 0 && used_ + bytes > bytes_max_) {
      flush(false);
      begin();
    }
    used_ += bytes;
    return part_;
  }

  std::vector<Bytes> finish() {
    flush(true);
    return std::move(out_);
  }

 private:
  void begin() {
    part_.Clear();
    *part_.mutable_feed() = step_.feed();
    part_.set_base_version(step_.base_version());
    part_.set_version(step_.version());
    part_.set_complete(step_.complete());
    used_ = 0;
  }
  void flush(bool last) {
    part_.set_last(last);
    v1::ManagerMessage message;
    *message.mutable_feed() = std::move(part_);
    out_.push_back(serialise(message));
  }

  const v1::FeedUpdate& step_;
  const size_t bytes_max_;
  v1::FeedUpdate part_;
  size_t used_ = 0;
  std::vector<Bytes> out_;
};

// A payload is cut into pieces, each in a message of its own when there is more than one.
void add_payload(Cutter& cutter, v1::SecretAssignment secret, size_t bytes_max) {
  if (secret.ByteSizeLong() <= bytes_max) {
    *cutter.part_for(secret.ByteSizeLong()).add_secrets() = std::move(secret);
    return;
  }
  const std::string data = std::move(*secret.mutable_data());
  secret.clear_data();
  const size_t head = secret.ByteSizeLong() + 16;  // tags, lengths
  const size_t room = bytes_max > 2 * head ? bytes_max - head : bytes_max / 2;
  for (size_t at = 0; at < data.size(); at += room) {
    v1::SecretAssignment piece = secret;
    piece.set_data(data.substr(at, room));
    piece.set_more(at + room < data.size());
    *cutter.part_for(piece.ByteSizeLong()).add_secrets() = std::move(piece);
  }
}

}  // namespace

Bytes serialise(const v1::ManagerMessage& message) {
  return std::make_shared<const std::string>(message.SerializeAsString());
}

std::vector<Bytes> cut_into_parts(v1::FeedUpdate step, size_t bytes_max) {
  if (step.ByteSizeLong() <= bytes_max) {
    step.set_last(true);
    v1::ManagerMessage message;
    *message.mutable_feed() = std::move(step);
    return {serialise(message)};
  }
  Cutter cutter(step, bytes_max);
  // Revisions first: a task's revision is known before the task.
  for (auto& revision : *step.mutable_revisions()) {
    *cutter.part_for(revision.ByteSizeLong()).add_revisions() = std::move(revision);
  }
  for (auto& task : *step.mutable_tasks()) {
    *cutter.part_for(task.ByteSizeLong()).add_tasks() = std::move(task);
  }
  for (auto& id : *step.mutable_removed_task_ids()) {
    *cutter.part_for(id.size() + 4).add_removed_task_ids() = std::move(id);
  }
  for (auto& secret : *step.mutable_secrets()) {
    add_payload(cutter, std::move(secret), bytes_max);
  }
  for (auto& id : *step.mutable_removed_secret_ids()) {
    *cutter.part_for(id.size() + 4).add_removed_secret_ids() = std::move(id);
  }
  if (step.has_cluster()) {
    *cutter.part_for(step.cluster().ByteSizeLong()).mutable_cluster() = step.cluster();
  }
  // A network's bytes are cut by position; the receiver joins them before parsing.
  for (size_t at = 0; at < step.network().size(); at += bytes_max / 2) {
    const std::string piece = step.network().substr(at, bytes_max / 2);
    cutter.part_for(piece.size()).mutable_network()->append(piece);
  }
  return cutter.finish();
}

}  // namespace muster::manager::dispatcher
