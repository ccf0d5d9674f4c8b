#include "agent/images/pull_flights.h"

#include <chrono>
#include <iterator>

namespace muster::agent {
namespace {

// How soon a waiting caller notices that it was cancelled.
constexpr std::chrono::milliseconds kCancelCheck{50};

}  // namespace

PullFlights::~PullFlights() {
  std::list<std::shared_ptr<Flight>> all;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& flight : threads_) flight->cancel = true;
    all.swap(threads_);
  }
  for (const auto& flight : all) flight->thread.join();
}

void PullFlights::reap() {
  std::list<std::shared_ptr<Flight>> done;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = threads_.begin(); it != threads_.end();) {
      const auto next = std::next(it);
      if ((*it)->landed) done.splice(done.end(), threads_, it);
      it = next;
    }
  }
  for (const auto& flight : done) flight->thread.join();
}

std::shared_ptr<PullFlights::Flight> PullFlights::join(const std::string& key, Work work) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto it = flights_.find(key);
  if (it != flights_.end()) {
    // Under the flight's own mutex: its last waiter may be giving it up at this moment.
    const std::lock_guard<std::mutex> flight_lock(it->second->mutex);
    if (!it->second->cancel) {
      ++it->second->waiting;
      return it->second;
    }
  }
  auto flight = std::make_shared<Flight>();
  flight->waiting = 1;
  flight->thread = std::thread([this, key, flight, work = std::move(work)] {
    Puller::Watch watch;
    watch.cancelled = &flight->cancel;
    watch.progress = [&flight](const PullProgress& progress) {
      const std::lock_guard<std::mutex> flight_lock(flight->mutex);
      flight->progress = progress;
      ++flight->progress_version;
      flight->changed.notify_all();
    };
    auto result = std::make_unique<Result<ImageHandle>>(work(watch));
    {
      const std::lock_guard<std::mutex> map_lock(mutex_);
      const auto mine = flights_.find(key);
      if (mine != flights_.end() && mine->second == flight) flights_.erase(mine);
      flight->landed = true;
    }
    const std::lock_guard<std::mutex> flight_lock(flight->mutex);
    flight->result = std::move(result);
    flight->changed.notify_all();
  });
  threads_.push_back(flight);
  // A cancelled one still ending is replaced: its thread finds another flight under its key.
  if (it != flights_.end())
    it->second = flight;
  else
    flights_.emplace(key, flight);
  return flight;
}

Result<ImageHandle> PullFlights::wait(Flight& flight, const PullRequest& request) {
  std::unique_lock<std::mutex> lock(flight.mutex);
  uint64_t seen = 0;
  while (true) {
    if (flight.progress_version != seen) {
      seen = flight.progress_version;
      const PullProgress progress = flight.progress;
      if (request.progress) {
        lock.unlock();
        request.progress(progress);
        lock.lock();
        continue;
      }
    }
    if (flight.result != nullptr) {
      --flight.waiting;
      return *flight.result;
    }
    if (request.cancelled != nullptr && *request.cancelled) {
      if (--flight.waiting == 0) flight.cancel = true;
      return fail(StatusCode::kCancelled,
                  fmt::format("the pull of {} was cancelled", request.reference));
    }
    flight.changed.wait_for(lock, kCancelCheck);
  }
}

Result<ImageHandle> PullFlights::run(const std::string& key, const PullRequest& request,
                                     Work work) {
  reap();
  const std::shared_ptr<Flight> flight = join(key, std::move(work));
  return wait(*flight, request);
}

}  // namespace muster::agent
