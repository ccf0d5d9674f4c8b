#pragma once

#include <optional>
#include <string>

#include "base/rng.h"
#include "base/time.h"
#include "overlay/dns/message.h"
#include "overlay/dns/name_table.h"

namespace muster::overlay::dns {

// What is answered to a question from the names of our networks. A name with several addresses is
// answered with all of them, each time in another order. Pure but for the order, which is `rng`'s.
class Resolver {
 public:
  static constexpr Duration kDefaultTtl = 5s;

  Resolver(const NameTable& table, Rng& rng) : table_(table), rng_(rng) {}

  void set_ttl(Duration ttl) { ttl_ = ttl; }
  // nullopt = a name of somebody else: to be asked elsewhere.
  std::optional<std::string> answer(const NameTable::Networks& networks, const Query& query,
                                    size_t bytes_max) const;

 private:
  std::optional<Answer> find(const NameTable::Networks& networks, const Query& query) const;
  std::optional<Answer> find_reverse(const NameTable::Networks& networks, const Query& query) const;
  Answer addresses_answer(const Query& query, std::vector<Ip> addresses) const;
  Answer service_answer(const Query& query, std::vector<ServiceTarget> targets) const;

  const NameTable& table_;
  Rng& rng_;
  Duration ttl_ = kDefaultTtl;
};

// The same question answered with a failure and nothing else.
std::string failure_answer(const Query& query, Rcode rcode);

}  // namespace muster::overlay::dns
