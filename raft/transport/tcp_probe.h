#pragma once

#include <sys/socket.h>

#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/thread_executor.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "base/unique_function.h"
#include "raft/transport/peer_watch.h"

namespace muster::raft {

// Asks addresses whether somebody listens there: a TCP connection and nothing more. Many at once,
// on a thread of its own. Thread-safe.
//
// A connection that is accepted is watched for a moment: when a process is killed, its listening
// socket may live for as long as the kernel takes to close the others, and resets what it had not
// accepted yet. One that is cut is tried again at once: only if that is refused, or cut by a reset
// time after time, nobody is there.
class TcpProbe {
 public:
  struct Limits {
    Duration connect_max = 2s;
    Duration watched = 200ms;
  };
  using Done = UniqueFunction<void(ProbeResult)>;

  explicit TcpProbe(Limits limits);
  ~TcpProbe();  // stops

  // `address` is ADDRESS:PORT or [ADDRESS]:PORT; names are not resolved (kUnknown). `done` runs on
  // the probe's thread, or never after stop().
  void start(std::string address, Done done);
  void stop();

 private:
  struct Attempt {
    sockaddr_storage to{};
    socklen_t to_size = 0;
    Done done;
    UniqueFd fd;
    bool connected = false;
    int tries = 0;
    TimePoint until;       // of connecting, or of being watched
    TimePoint last_until;  // of all of it
  };

  void run();
  void serve();
  // True: answered and done with.
  bool begin(Attempt& attempt);
  bool proceed(Attempt& attempt, short events);
  bool failed(Attempt& attempt, int error);
  bool finish(Attempt& attempt, ProbeResult result);

  const Limits limits_;
  SystemClock clock_;
  UniqueFd wake_;
  std::mutex mutex_;
  bool stopping_ = false;
  std::vector<Attempt> arriving_;
  std::list<Attempt> attempts_;  // the probe's thread
  std::thread thread_;
};

}  // namespace muster::raft
