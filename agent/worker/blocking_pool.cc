#include "agent/worker/blocking_pool.h"

#include <pthread.h>

#include <system_error>
#include <utility>

namespace muster::agent {

ThreadPool::ThreadPool(std::string name, unsigned threads_max)
    : name_(name.substr(0, 15)), threads_max_(threads_max) {}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void ThreadPool::post(UniqueFunction<void()> work) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(work));
    if (queue_.size() > idle_ && threads_.size() < threads_max_) add_thread();
  }
  wake_.notify_one();
}

void ThreadPool::add_thread() {
  try {
    threads_.emplace_back([this] { run(); });
  } catch (const std::system_error&) {
    if (threads_.empty()) throw;
    return;  // the host has no more to give: those that are there do it, later
  }
  ::pthread_setname_np(threads_.back().native_handle(), name_.c_str());
}

void ThreadPool::run() {
  while (true) {
    UniqueFunction<void()> work;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      ++idle_;
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      --idle_;
      if (stopping_) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

}  // namespace muster::agent
