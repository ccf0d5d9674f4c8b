#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/doctor/beacons.h"
#include "base/status.h"
#include "base/time.h"

namespace muster::agent {

// What examinations do to the host; a port. Calls block, for no longer than their limits say, and
// are thread-safe. Nothing that they make outlives them, or the process.
class HostTests {
 public:
  virtual ~HostTests() = default;

  // How frames are sent: as those of overlay networks, or as those of encrypted ones, which travel
  // by IP protocol 50 or in UDP.
  enum class Way { kVxlan, kEsp, kEspInUdp };
  struct TunnelTest {
    Way way = Way::kVxlan;
    std::string examination_id;
    std::string self;  // node id
    std::string local_addr;
    uint16_t port = 0;
    uint32_t mtu = 0;                          // of the largest frame's content
    std::map<std::string, std::string> peers;  // data-path addresses by node id
    Duration patience{};                       // after which what has not come will not come
    Duration whole{};                          // how long others may go on asking
  };
  // FAILED_PRECONDITION and others: no tunnel can be made here.
  using Heard = std::map<std::string, Beacons::Heard>;
  // Tells what was heard once it is known, then goes on answering those that are not done.
  virtual void test_tunnels(const TunnelTest& test,
                            std::function<void(const Result<Heard>&)> tell) = 0;

  // Where a connection is tried to.
  enum class Protocol { kTcp, kUdp, kSctp };
  struct Target {
    std::string address;
    uint16_t port = 0;
    Protocol protocol = Protocol::kTcp;
  };
  enum class Answer {
    kAccepted,
    kRefused,
    kSilent,       // nothing within the limit
    kUnreachable,  // no way, or forbidden here
    kUntried,      // this kernel does not have the protocol
  };
  // From a namespace (empty: the host's own).
  struct Connects {
    std::string netns;
    std::vector<Target> targets;
  };
  // Connections, closed at once; all at the same time. What came of each of `from`, in its order.
  // By UDP an empty datagram, to which silence is as good an answer as any: it is waited for no
  // longer than it takes a host to say that nobody listens.
  virtual std::vector<Result<std::vector<Answer>>> connect(const std::vector<Connects>& from,
                                                           Duration limit) = 0;
  Result<std::vector<Answer>> connect(const std::string& netns, const std::vector<Target>& targets,
                                      Duration limit) {
    return connect({{netns, targets}}, limit).front();
  }

  struct Question {
    std::string name;
    bool v6 = false;
  };
  struct Named {
    bool answered = false;
    bool cut = false;  // there were more than fit into the answer
    std::vector<std::string> addresses;
  };
  // Asks the resolver that containers have (127.0.0.11) from inside of the namespace.
  virtual Result<std::vector<Named>> ask_names(const std::string& netns,
                                               const std::vector<Question>& questions,
                                               Duration limit) = 0;

  // ICMP echo from inside of namespaces (empty: the host's own), all at the same time; whether each
  // address has answered.
  struct Echoes {
    std::string netns;
    std::vector<std::string> addresses;
  };
  virtual std::vector<Result<std::vector<bool>>> echo(const std::vector<Echoes>& from,
                                                      Duration limit) = 0;
  // What the host's IPsec has refused since it was started, by the kernel's names for reasons.
  using Refusals = std::map<std::string, uint64_t>;
  virtual Refusals refusals() = 0;

  // Chains of other programs that drop what the host forwards unless a rule accepts it, and whose
  // table has no rule that names one of muster's interfaces; in words.
  virtual std::vector<std::string> forward_drops() = 0;
  // A setting of the host's kernel; nullopt: it has none of that name.
  virtual std::optional<std::string> setting(const std::string& key) = 0;
  // Whether an interface of the host has the address.
  virtual bool has_address(const std::string& address) = 0;
  // Whatever is under way ends soon, and nothing more begins.
  virtual void stop() = 0;
};

}  // namespace muster::agent
