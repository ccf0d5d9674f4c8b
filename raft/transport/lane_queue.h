#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "raft/core/message.h"

namespace muster::raft {

// What waits to go to one member on one lane. Bounded; when it is full the newest is lost, since
// the protocol repeats what matters and older messages make the newer ones understood. Not
// thread-safe.
class LaneQueue {
 public:
  struct Limits {
    size_t messages = 4096;
    size_t bytes = 32 << 20;
    // A frame is closed once it has so much: it stays below gRPC's limit of 4 MiB with the largest
    // single message, a proposal's.
    size_t frame_bytes = 1 << 20;
  };

  explicit LaneQueue(Limits limits) : limits_(limits) {}

  // False: there was no room and the message is lost. A message too large for an empty queue is
  // taken all the same: it would never get through otherwise.
  bool push(Message message) {
    const size_t size = cost(message);
    if (!queue_.empty() && (queue_.size() >= limits_.messages || bytes_ + size > limits_.bytes)) {
      return false;
    }
    bytes_ += size;
    queue_.push_back(std::move(message));
    return true;
  }

  // What goes into the next frame: everything that waits, up to the frame's size.
  std::vector<Message> take_frame() {
    std::vector<Message> frame;
    size_t size = 0;
    while (!queue_.empty()) {
      const size_t next = cost(queue_.front());
      if (!frame.empty() && size + next > limits_.frame_bytes) break;
      size += next;
      bytes_ -= next;
      frame.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    return frame;
  }

  // How many were lost by it.
  size_t clear() {
    const size_t lost = queue_.size();
    queue_.clear();
    bytes_ = 0;
    return lost;
  }

  bool empty() const { return queue_.empty(); }
  size_t bytes() const { return bytes_; }

 private:
  static size_t cost(const Message& message) {
    size_t size = sizeof message;
    for (const Entry& entry : message.entries) size += sizeof entry + entry.bytes().size();
    return size;
  }

  Limits limits_;
  std::deque<Message> queue_;
  size_t bytes_ = 0;
};

}  // namespace muster::raft
