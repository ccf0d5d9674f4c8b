#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "base/time.h"
#include "overlay/dns/answer_cache.h"
#include "overlay/dns/message.h"

namespace muster::overlay::dns {

// Another resolver and the way to it. Those of the node that listen on loopback can be reached from
// the node's own namespace alone; all others are asked from the container's, so that what leaves
// has the container's address and stays where its networks let it go.
struct Upstream {
  Ip address;
  bool from_node = false;

  friend bool operator==(const Upstream&, const Upstream&) = default;
};

// The sockets that a Forwarder asks for. An exchange is one question to one server: it ends with
// one call of received() or failed(), or with close().
class UpstreamPort {
 public:
  virtual ~UpstreamPort() = default;
  // `container` names the namespace for servers that are not asked from the node's.
  virtual void send(uint64_t exchange, const std::string& container, const Upstream& server,
                    bool tcp, const std::string& packet) = 0;
  virtual void close(uint64_t exchange) = 0;
};

// Takes questions about other people's names to other resolvers, one after another, and those that
// were silent once more, as a datagram may be lost. Half of `kPatience` is for the first round,
// with an equal share for each server, `kFirstWait` at most; what is left of it then is shared by
// the servers of the second. An answer that is too long is asked for again over TCP, up to
// `kTcpTimeout` within the same time. A server that failed or was silent lately is asked last. When
// none has an answer, that is the answer (SERVFAIL).
//
// Bounds: `kWaitingMax` questions at once, `kWaitingPerContainerMax` of them of one container;
// those beyond are answered SERVFAIL at once. The same question of one container is asked once.
//
// A function of calls and times; sockets are behind the port. Callbacks may call ask().
class Forwarder {
 public:
  // Less than the 5 s after which glibc, musl and Go give an attempt up.
  static constexpr Duration kPatience = 4s;
  static constexpr Duration kFirstWait = 1s;
  static constexpr Duration kTcpTimeout = 2s;
  static constexpr Duration kShunned = 10s;
  static constexpr size_t kWaitingMax = 1024;
  static constexpr size_t kWaitingPerContainerMax = 128;
  static constexpr size_t kCacheBytes = 2 << 20;

  // Neither is owned.
  Forwarder(UpstreamPort& port, Rng& rng) : port_(port), rng_(rng) {}

  struct Request {
    std::string container;
    std::vector<Upstream> servers;
    Query query;
    size_t bytes_max = kUdpPlainMax;
  };
  using Done = std::function<void(std::string answer)>;
  // `done` runs once, perhaps before this returns; never after forget() of the container.
  void ask(TimePoint now, Request request, Done done);
  void received(TimePoint now, uint64_t exchange, std::string_view packet);
  void failed(TimePoint now, uint64_t exchange);
  // Drops the questions of a container that is gone.
  void forget(const std::string& container);
  // When tick() is due.
  std::optional<TimePoint> next_deadline() const;
  void tick(TimePoint now);
  size_t waiting() const { return waiting_count_; }

 private:
  struct Waiter {
    Query query;
    size_t bytes_max;
    Done done;
  };
  struct Question {
    std::string key;  // in questions_
    std::string cache_key;
    std::string container;
    std::vector<Upstream> servers;  // of this round, in the order of asking
    size_t next_server = 0;
    std::vector<Upstream> silent;  // of the first round's
    bool again = false;            // this is the second round
    TimePoint end;                 // when it is given up
    Duration wait{0};              // for an answer over UDP
    Query query;
    uint16_t id = 0;
    bool edns = true;
    bool tcp = false;
    uint64_t exchange = 0;
    TimePoint deadline;
    std::string last_refusal;  // what a server said that has no answer
    std::vector<Waiter> waiters;
  };

  void ask_next(TimePoint now, Question& question);
  void send(TimePoint now, Question& question);
  void end_exchange(Question& question);
  void shun(TimePoint now, const Question& question);
  void next_after(TimePoint now, Question& question);
  void timed_out(TimePoint now, Question& question);
  // Ends the question; an empty packet is a failure.
  void finish(Question& question, const std::string& packet);
  Question* by_exchange(uint64_t exchange);

  UpstreamPort& port_;
  Rng& rng_;
  AnswerCache cache_{kCacheBytes};
  std::map<std::string, Question> questions_;  // by container and what is asked
  std::map<uint64_t, std::string> exchanges_;  // to the key of the question
  std::set<std::pair<TimePoint, uint64_t>> deadlines_;
  std::map<std::string, size_t> per_container_;
  std::map<std::string, TimePoint> shunned_until_;  // by server and way
  size_t waiting_count_ = 0;
  uint64_t next_exchange_ = 1;
};

}  // namespace muster::overlay::dns
