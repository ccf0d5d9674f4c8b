#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "agent/images/image_store.h"
#include "agent/images/puller.h"
#include "base/status.h"

namespace muster::agent {

// One pull at a time per key: whoever asks for one that is on its way waits for it and sees its
// progress. A pull runs on a thread of its own, so that one caller's cancellation only ends it
// when nobody else waits. Thread-safe.
class PullFlights {
 public:
  using Work = std::function<Result<ImageHandle>(const Puller::Watch&)>;

  PullFlights() = default;
  // Cancels what is on its way and waits for it.
  ~PullFlights();

  // Runs `work` or joins the one running under `key`; returns its result, or CANCELLED as soon as
  // this request is.
  Result<ImageHandle> run(const std::string& key, const PullRequest& request, Work work);

 private:
  struct Flight {
    std::mutex mutex;
    std::condition_variable changed;
    std::atomic<bool> cancel{false};
    int waiting = 0;
    PullProgress progress;
    uint64_t progress_version = 0;
    std::unique_ptr<Result<ImageHandle>> result;
    std::thread thread;
    bool landed = false;  // guarded by mutex_ of the whole: the thread is about to end
  };

  std::shared_ptr<Flight> join(const std::string& key, Work work);
  Result<ImageHandle> wait(Flight& flight, const PullRequest& request);
  void reap();

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Flight>> flights_;  // to be joined by who asks
  // Every one whose thread is not joined yet; also a cancelled one that another has replaced in
  // flights_ while it was still ending.
  std::list<std::shared_ptr<Flight>> threads_;
};

}  // namespace muster::agent
