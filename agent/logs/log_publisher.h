#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/status.h"
#include "muster/v1/dispatcher.pb.h"
#include "muster/v1/logs.pb.h"

namespace muster::agent {

// The way to the manager for one subscription's lines; a port.
class LogPublishStream {
 public:
  virtual ~LogPublishStream() = default;
  // Waits until the message may go out: the manager's pace is the reader's. False when the stream
  // is over.
  virtual bool write(const v1::LogPublish& message) = 0;
  // After the last message; waits for the manager's word.
  virtual Status finish() = 0;
  // From any thread: write() and finish() return soon.
  virtual void cancel() = 0;
};

class LogStreamFactory {
 public:
  virtual ~LogStreamFactory() = default;
  virtual std::unique_ptr<LogPublishStream> open() = 0;
};

// A task of this node as far as its log is concerned.
struct LoggedTask {
  std::string task_id;
  std::string service_id;
  std::string bundle_dir;
  bool started = false;    // there is a container, or was
  bool ended = false;      // and it writes no more
  std::string unreadable;  // why its log cannot be shown; empty when it can
  std::vector<v1::KeyValue> attributes;
};

// Answers the managers' log subscriptions: for each one a thread that reads the files and a stream
// of its own. Lives on the agent's strand.
//
// Bounds: kSubscriptionsMax threads; each holds one message (kMessageBytes) and what its reader
// does.
class LogPublisher {
 public:
  static constexpr size_t kSubscriptionsMax = 128;
  static constexpr size_t kMessageBytes = 64 << 10;
  static constexpr Duration kAlivePeriod = 2s;

  // `tasks`: all tasks of this node; called on the strand.
  LogPublisher(Executor& strand, std::function<std::vector<LoggedTask>()> tasks,
               LogStreamFactory& streams, Log log);
  // Ends every subscription and waits for the threads.
  ~LogPublisher();

  void subscribe(const v1::LogSubscription& subscription);
  void cancel(const std::string& id);
  // A task came, began, ended or went. Cheap while nobody follows.
  void tasks_changed();
  size_t subscriptions() const { return active_.size(); }

 private:
  class Subscription;

  void refresh();
  void finished(const std::string& id, const Subscription* which);

  Executor& strand_;
  std::function<std::vector<LoggedTask>()> tasks_;
  LogStreamFactory& streams_;
  Log log_;
  std::map<std::string, std::unique_ptr<Subscription>> active_;
  Executor::TimerId refresh_timer_ = 0;
  std::shared_ptr<LogPublisher*> self_;  // emptied by the destructor
};

}  // namespace muster::agent
