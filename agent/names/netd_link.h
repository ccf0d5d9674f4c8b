#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "agent/names/name_book.h"
#include "agent/names/name_server.h"
#include "base/backoff.h"
#include "base/log.h"
#include "base/thread_executor.h"
#include "base/unique_fd.h"
#include "overlay/dns/netd/frames.h"

namespace muster::agent {

struct NetdLinkOptions {
  std::string run_dir;  // of this instance
  // Starts a netd and returns once its socket can be connected to; `take_over`: from the one that
  // runs.
  std::function<Status(bool take_over)> launch;
  // Of the program. A netd of another one is replaced, once: if the next one is of another, too,
  // the file is newer than who started it.
  std::string build;
  // How long after a replacement that failed it is tried again; twice as long each time, up to
  // kReplaceMax.
  Duration replace_again = 5s;
  Duration ttl{0};
  bool virtual_ips = false;  // whether the kernel balances them; NameBook
  // A netd that takes longer over its hello or an update hangs, and is killed and started anew.
  Duration hung_after = 20s;
};

// Keeps a netd running and told: starts one where there is none, gives it everything, then what
// changes; notices its end at once and starts it anew. One update is under way at a time, and what
// is said meanwhile goes into the next.
//
// A thread of its own; methods from any thread. Destruction leaves netd running.
class NetdLink final : public NameServer {
 public:
  static constexpr Duration kAttachTimeout = 10s;
  static constexpr Duration kForceTimeout = 1s;
  static constexpr Duration kReplaceMax = 5min;

  NetdLink(NetdLinkOptions options, Log log);
  ~NetdLink() override;

  void begin(const std::string& node_id) override;
  void serve() override;
  Status attach(const v1::NetdContainer& container) override;
  void adopt(const v1::NetdContainer& container) override;
  void detach(const std::string& container_id) override;
  void set_task(const v1::LocalTask& task) override;
  void forget_task(const std::string& task_id) override;
  void apply(const overlay::NetworkStep& step) override;
  void forget_network(const std::string& network_id) override;
  void set_relays(const std::vector<v1::NetdRelay>& relays, bool again) override;
  std::map<std::string, std::string> failed_relays() override;
  // Has netd hold sockets by which the kernel takes ESP out of UDP, at this port alone; 0: none.
  // Waits until it does, kForceTimeout at most, and says why it cannot, which it goes on trying.
  // Before serve() OK: one of before goes on with what it has.
  Status hold_encapsulation(uint16_t port);
  void after_applied(Executor& strand, UniqueFunction<void()> next) override;
  // Whom to tell of what netd has mended in containers, a sentence each; on the thread, with a lock
  // held. An empty function: nobody, from its return on.
  void on_mended(std::function<void(const std::vector<std::string>&)> tell);

  // Ends netd, if there is one, and waits until it is gone (5 s at most); forgets everything.
  Status end();

 private:
  struct Waiter {
    uint64_t change = 0;
    TimePoint until;
    Executor* strand = nullptr;
    UniqueFunction<void()> next;
  };

  // All of these on the thread.
  void run();
  Status connect();
  Status launch(bool take_over);
  bool send_update();
  bool receive();
  void disconnect();
  void end_hung();
  bool heard(const v1::NetdReply& reply);
  void replace(const std::string& program);
  void reconnect();
  void acknowledged(const v1::NetdAck& ack);
  void mended(const v1::NetdUpdate& news);
  void release_waiters();
  int wait_ms();
  void wait();

  // Runs `change` on the book and has it told.
  template <class F>
  uint64_t change(F f);
  void wake();

  NetdLinkOptions options_;
  Log log_;
  SystemClock clock_;
  UniqueFd wake_;

  std::mutex mutex_;
  std::condition_variable applied_changed_;
  NameBook book_;
  bool wanted_ = false;      // from begin() to end()
  bool serving_ = false;     // from serve() on
  bool begun_anew_ = false;  // netd is to be told everything, whatever it knows
  bool stopping_ = false;
  bool launching_ = false;                            // a netd is being started; end() waits for it
  uint64_t changes_ = 0;                              // said so far
  uint64_t applied_ = 0;                              // in force
  std::map<std::string, std::string> failures_;       // by container
  std::map<std::string, std::string> failed_relays_;  // by key
  std::optional<uint16_t> encapsulation_;             // the port; nullopt: nobody has said
  uint64_t encapsulation_change_ = 0;                 // the change that said so last
  std::list<Waiter> waiters_;
  std::function<void(const std::vector<std::string>&)> tell_mended_;

  // Of the thread.
  UniqueFd socket_;
  overlay::dns::FrameReader in_;
  bool told_ = false;       // whether the complete update was sent on this connection
  uint64_t under_way_ = 0;  // the change that the unacknowledged update reaches
  bool update_sent_ = false;
  bool all_relays_sent_ = false;
  std::vector<std::string> relays_sent_;  // keys that the unacknowledged update names
  TimePoint sent_at_;
  std::optional<TimePoint> refused_since_;  // nothing can be connected to, and nothing started
  bool replaced_ = false;                   // another program's netd
  std::optional<TimePoint> replace_at_;     // that could not be, and is to be tried again
  Backoff replace_backoff_;
  Backoff backoff_{50ms, 2s};
  TimePoint retry_at_;
  std::thread thread_;
};

}  // namespace muster::agent
