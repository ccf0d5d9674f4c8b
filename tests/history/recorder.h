#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "base/status.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "tests/history/history.h"

namespace muster::history {

// The file that operations are written to, as they begin and end. Thread-safe. A write that fails
// ends recording: see status().
class Journal {
 public:
  explicit Journal(UniqueFd file) : file_(std::move(file)) {}

  // Of the clock of begin and end.
  static TimePoint now();
  // Fills in id and begin.
  void begin(Operation* op);
  // Fills in end.
  void end(Operation* op);
  Status status() const;

 private:
  void write(const std::string& line);

  mutable std::mutex mutex_;
  UniqueFd file_;
  uint64_t next_ = 1;
  Status status_;
};

// The registers of a recording: configs with one label. Some are in use at a time; each is left
// alone after a number of operations, so that none becomes too much to check. Thread-safe.
class Registers {
 public:
  explicit Registers(std::string prefix);

  // One of those in use.
  std::string pick(Rng& rng) const;
  // Counts an operation on one of them.
  void used(const std::string& key);
  // All there ever were.
  std::vector<std::string> all() const;

 private:
  std::string fresh();

  mutable std::mutex mutex_;
  const std::string prefix_;
  uint64_t made_ = 0;
  std::vector<std::pair<std::string, uint64_t>> used_;  // and how often
};

// Clients that read and write the registers of a cluster through its managers, and write down what
// they did and were told. Each client does one thing after another and goes to another manager when
// one fails; writes with a request id, which are half of them, are repeated there.
class Recorder {
 public:
  struct Options {
    std::vector<std::pair<std::string, std::string>> managers;  // name, address for gRPC
    std::string prefix;  // of the registers' names, which must be new to the cluster
    uint64_t clients = 10;
    uint64_t seed = 1;
    Duration period = 15ms;  // between two operations of a client
  };
  // Begins.
  Recorder(Options options, UniqueFd file);
  ~Recorder();

  // Ends the clients, and reads every register there ever was once more: what was acknowledged long
  // ago is there still. DEADLINE_EXCEEDED when that takes too long.
  Status finish(Duration patience);

 private:
  class Client;
  void stop();

  Options options_;
  Journal journal_;
  Registers registers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace muster::history
