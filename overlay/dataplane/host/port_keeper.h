#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/backoff.h"
#include "base/log.h"
#include "base/thread_executor.h"
#include "base/unique_fd.h"
#include "overlay/dataplane/host/port_messages.h"

namespace muster::overlay {

// musterd's end of netd's store of sockets: those that hold published ports are kept there, too, so
// that nobody takes a port while musterd does not run, and the next one gets them back.
//
// A thread of its own notices that netd is gone, and gives the next one everything; it has work
// only when a connection ends. Methods from any thread; each waits for netd, kAnswerMax at most,
// and for none that did not answer a moment ago. Destruction leaves the sockets with netd.
class PortKeeper {
 public:
  using Socket = std::shared_ptr<const UniqueFd>;
  static constexpr Duration kAnswerMax = 2s;

  // `path`: of netd's socket (port_socket); empty: there is no netd, and nothing is kept.
  PortKeeper(std::string path, Log log);
  ~PortKeeper();
  PortKeeper(const PortKeeper&) = delete;
  PortKeeper& operator=(const PortKeeper&) = delete;

  // What a former musterd left with netd, by name: each once, to be kept on or to be dropped.
  std::map<std::string, Socket> adopt();
  // True if netd was not reached before and now is: what it holds of an earlier time has been told
  // to go, or is to be adopted. Waits `patience` for one that is being replaced; not again at once
  // when that was in vain.
  bool reach(Duration patience);
  void keep(const std::string& name, const Socket& socket);
  // When it returns netd, too, has closed it, if it can be reached.
  void drop(const std::string& name);

 private:
  void run();
  // These with the mutex held.
  bool connect();
  bool agree();
  bool take_list(std::vector<std::string>& strange);
  bool ask(std::string_view text, const Socket& socket);
  bool attempt();
  void disconnect();
  bool is_broken() const;
  void wake();

  const std::string path_;
  Log log_;
  SystemClock clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Socket> kept_;   // what netd is to have
  std::map<std::string, Socket> found_;  // of those: to be adopted
  UniqueFd connection_;                  // agreed with netd
  bool met_ = false;                     // netd has been reached once
  bool stopping_ = false;
  bool refusal_said_ = false;
  int reached_ = 0;  // how often
  Backoff backoff_{50ms, 5s};
  TimePoint retry_at_;
  TimePoint impatient_until_;
  UniqueFd wake_;
  std::thread thread_;
};

}  // namespace muster::overlay
