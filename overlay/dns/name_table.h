#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "muster/v1/netd.pb.h"
#include "overlay/ipam/ip.h"

namespace muster::overlay::dns {

// A name's letters count the same in either case (RFC 4343).
std::string lower_case(std::string_view text);

// The answer to a question for a name's addresses.
struct NameAddresses {
  bool known = false;  // a name of ours, though nothing healthy may bear it at the moment
  std::vector<Ip> addresses;
};

// Where a service listens: one for its virtual address, else one a task.
struct ServiceTarget {
  std::string name;
  uint16_t port = 0;
  std::vector<Ip> addresses;
};

// The names of the networks of a node. Names are looked up in the networks of whoever asks, in
// their order; the first network that knows the name answers. In a network a name means the sum of
// all that bear it: services, aliases, tasks.
//
//   web, an alias of it            virtual address, or its healthy tasks' addresses
//   tasks.web, tasks.ALIAS         healthy tasks' addresses
//   web.1, web.1.ID, host name     that task's address while it is healthy
//   any of these and ".NETWORK"    the same in that network
//
// Pure; sorted answers, no order of hashes.
class NameTable {
 public:
  void set(const v1::NetdNetwork& network);
  void set(const v1::NetdService& service);
  void set(const v1::NetdEndpoint& endpoint);
  void remove_network(const std::string& id);  // with all that is in it
  void remove_service(const std::string& network_id, const std::string& id);
  void remove_endpoint(const std::string& network_id, const std::string& task_id);

  using Networks = std::vector<std::string>;
  // `name` in lower case, without a closing dot.
  NameAddresses find(const Networks& networks, std::string_view name) const;

  struct Reverse {
    bool ours = false;  // the address lies in one of the networks
    std::string name;   // "web.1.ID.NETWORK"; empty = nobody's
  };
  Reverse find_address(const Networks& networks, const Ip& address) const;

  // "_http._tcp.web": the port by its name or number, with or without underscores. nullopt when
  // there is no such service; no targets when it has no such port or nothing healthy.
  std::optional<std::vector<ServiceTarget>> find_service(const Networks& networks,
                                                         std::string_view name) const;

 private:
  struct Service {
    v1::NetdService record;
    std::vector<Ip> virtual_ips;
    std::vector<std::string> names;  // lower case
  };
  struct Endpoint {
    v1::NetdEndpoint record;
    std::vector<Ip> addresses;
    std::vector<std::string> shared_names;
    std::vector<std::string> own_names;
  };
  // Ids of what bears a name.
  struct Bearers {
    std::set<std::string> services;
    std::set<std::string> members;  // tasks, by a name they share
    std::set<std::string> tasks;    // by a name of their own
    bool empty() const { return services.empty() && members.empty() && tasks.empty(); }
  };
  struct Network {
    std::string name;
    std::vector<Prefix> subnets;
    std::map<std::string, Service> services;
    std::map<std::string, Endpoint> endpoints;
    std::map<std::string, Bearers, std::less<>> names;
    std::multimap<Ip, std::string> by_address;  // to what a question by address is answered
  };

  static void drop_name(Network& network, const std::string& name,
                        std::set<std::string> Bearers::*kind, const std::string& id);
  static void forget(Network& network, const Service& service);
  static void forget(Network& network, const Endpoint& endpoint);
  static void erase_address(Network& network, const Ip& ip, const std::string& name);
  static NameAddresses find_in(const Network& network, std::string_view name);
  static std::vector<ServiceTarget> targets_in(const Network& network, std::string_view port,
                                               std::string_view protocol, std::string_view service);
  // Calls `look(network, name)` for the name as it is in every network, then for what is left of it
  // without a network's name at its end, until one returns true.
  template <class Look>
  void each_reading(const Networks& networks, std::string_view name, Look look) const;

  std::map<std::string, Network> networks_;
};

}  // namespace muster::overlay::dns
