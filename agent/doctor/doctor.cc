#include "agent/doctor/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/doctor/echo_checks.h"
#include "agent/doctor/kernel_checks.h"
#include "base/check.h"

namespace muster::agent {
namespace {

constexpr Duration kTimeout = 10s;
constexpr Duration kTimeoutMin = 1s;
constexpr Duration kTimeoutMax = 2min;
// Something of a host answers there, if only by a refusal; managers listen on it.
constexpr uint16_t kTcpPort = 2377;

// Networks in which names are asked for after the first one in which nobody answers.
constexpr size_t kSilentMax = 2;

Duration part_limit(Duration timeout, Duration most) {
  return std::min(timeout / 4, most);
}

// Of looks that are made twice, and may have a further try each: all of it fits into a short time,
// too.
Duration look_limit(Duration timeout) {
  return std::min<Duration>(timeout / 8, 1s);
}

bool all_good(const Findings& findings) {
  return std::all_of(findings.begin(), findings.end(), [](const v1::NetworkFinding& finding) {
    return finding.verdict() == v1::NetworkFinding::GOOD;
  });
}

Findings look_at_kernel(overlay::NodeNetwork& network,
                        const std::function<void(const std::vector<std::string>&)>& tell,
                        const v1::NetworkExamination& asked, const NodeFacts& facts) {
  const std::vector<std::string> mended = network.repair();
  if (!mended.empty()) tell(mended);
  Findings out = judge_repairs(asked, facts, mended);
  const Findings left = judge_limitations(asked, facts, network.limitations());
  const bool bad = std::any_of(left.begin(), left.end(), [](const auto& finding) {
    return finding.verdict() == v1::NetworkFinding::BAD;
  });
  if (bad) {
    std::erase_if(
        out, [](const auto& finding) { return finding.verdict() == v1::NetworkFinding::GOOD; });
  }
  out.insert(out.end(), left.begin(), left.end());
  return out;
}

// Those that ping alone may not have reached: a container may be set not to answer it, but its host
// refuses connections all the same.
void ask_by_tcp(HostTests& tests, const std::vector<EchoTest>& echoes,
                std::vector<Result<std::vector<bool>>>& answered, Duration limit) {
  std::vector<HostTests::Connects> from;
  std::vector<std::pair<size_t, size_t>> whose;
  for (size_t i = 0; i < echoes.size(); ++i) {
    if (!answered[i]) continue;
    HostTests::Connects some{echoes[i].netns, {}};
    for (size_t j = 0; j < echoes[i].asked.size(); ++j) {
      if ((*answered[i])[j]) continue;
      some.targets.push_back({echoes[i].asked[j].address, kAnyPort});
      whose.emplace_back(i, j);
    }
    if (!some.targets.empty()) from.push_back(std::move(some));
  }
  if (from.empty()) return;
  size_t next = 0;
  const auto answers = tests.connect(from, limit);
  for (size_t i = 0; i < from.size(); ++i) {
    for (size_t j = 0; j < from[i].targets.size(); ++j, ++next) {
      if (!answers[i]) continue;
      const HostTests::Answer answer = (*answers[i])[j];
      if (answer != HostTests::Answer::kAccepted && answer != HostTests::Answer::kRefused) continue;
      (*answered[whose[next].first])[whose[next].second] = true;
    }
  }
}

}  // namespace

Doctor::~Doctor() {
  *self_ = nullptr;
  for (auto& [id, known] : cases_) {
    deps_.strand.cancel(known.timer);
    for (const Executor::TimerId look : known.looks) deps_.strand.cancel(look);
  }
}

template <class Work, class Done>
void Doctor::on_pool(Work work, Done done) {
  deps_.pool.post([self = self_, strand = &deps_.strand, work = std::move(work),
                   done = std::move(done)]() mutable {
    strand->post([self, done = std::move(done), result = work()]() mutable {
      if (*self != nullptr) done(result);
    });
  });
}

void Doctor::examine(const v1::NetworkExamination& examination) {
  MUSTER_CHECK(deps_.strand.is_current());
  const std::string& id = examination.id();
  if (cases_.contains(id)) return;
  v1::NetworkFindings hello;
  hello.set_examination_id(id);
  *hello.add_findings() = make_finding("clock", v1::NetworkFinding::GOOD,
                                       fmt::format("{}", deps_.strand.clock().wall_now().unix_ns));
  deps_.tell(hello);
  if (cases_.size() >= kExaminationsMax) {
    return tell(id,
                {make_finding("node", v1::NetworkFinding::WARNING,
                              "it is busy with other examinations and did not take part in this")},
                true);
  }
  Case& made = cases_[id];
  made.examination = examination;
  made.timeout =
      examination.timeout_ns() == 0
          ? kTimeout
          : std::clamp<Duration>(Duration(examination.timeout_ns()), kTimeoutMin, kTimeoutMax);
  deps_.log->debug("examination {} begins", id);
  made.timer = deps_.strand.after(made.timeout - std::min(kMargin, made.timeout / 4),
                                  [this, id] { time_over(id); });
  // All are there before the first can end.
  made.pending = {{"tunnels", "the ways to other nodes"},
                  {"encryption", "encrypted networks' way"}};
  begin_parts(id, made.timeout);
  test_encryption(id);
  test_tunnels(id);
}

Doctor::SharedFacts Doctor::facts() {
  const TimePoint at = deps_.strand.clock().now();
  if (facts_ == nullptr || at - facts_at_ >= kFactsAge) {
    facts_ = std::make_shared<const NodeFacts>(deps_.facts());
    facts_at_ = at;
  }
  return facts_;
}

void Doctor::begin_parts(const std::string& id, Duration timeout) {
  HostTests* const tests = &deps_.tests;
  const Duration limit = part_limit(timeout, 2s);
  // What is said whoever is reached.
  const auto plain = [](auto look) -> Part {
    return [look](const auto& asked, const NodeFacts& facts) -> Judge {
      return [found = look(asked, facts)](const Unreached&) { return found; };
    };
  };
  // What is mended counts like what is mended every 10 s, which finds nothing to tell of then. The
  // doctor may be gone when the pool's thread is through with it.
  const auto tell = [self = self_, strand = &deps_.strand](const std::vector<std::string>& found) {
    strand->post([self, found] {
      if (*self == nullptr) return;
      for (const std::string& what : found) (*self)->deps_.log->warn("repaired: {}", what);
      if ((*self)->deps_.repaired) (*self)->deps_.repaired(found);
    });
  };
  begin_part(id, "kernel", "what the kernel has",
             plain([network = &deps_.network, tell](const auto& asked, const auto& facts) {
               return look_at_kernel(*network, tell, asked, facts);
             }),
             {.second_look = false});
  begin_part(id, "names", "names", plain([tests, limit](const auto& asked, const auto& facts) {
               Findings out;
               // All are answered by one process: when it is silent the others tell no more.
               size_t silent = 0;
               for (const NameTest& test : plan_names(asked, facts)) {
                 if (silent > kSilentMax) break;
                 const auto named =
                     tests->ask_names(test.netns, test.questions, silent == 0 ? limit : limit / 8);
                 out.push_back(judge_names(test, named));
                 silent += named && !named->empty() &&
                           std::none_of(named->begin(), named->end(),
                                        [](const auto& one) { return one.answered; });
               }
               return out;
             }),
             {});
  begin_part(
      id, "mesh", "published ports", plain([tests, limit](const auto& asked, const auto& facts) {
        Findings out = judge_mesh_host(asked, facts, *tests);
        for (const ConnectTest& test : plan_published_ports(asked, facts)) {
          out.push_back(judge_connects(test, tests->connect(test.netns, test.targets, limit)));
        }
        return out;
      }),
      {});
  begin_part(id, "host", "what the host forwards",
             plain([tests, limit](const auto& asked, const auto& facts) {
               const ForwardTest test = plan_forward(asked, facts, kTcpPort);
               return judge_forward(test, tests->forward_drops(), tests->connect(test.from, limit));
             }),
             {});
  begin_waiting_parts(id, timeout);
}

// Of these it has to be known who is not reached at all.
void Doctor::begin_waiting_parts(const std::string& id, Duration timeout) {
  HostTests* const tests = &deps_.tests;
  begin_part(
      id, "vips", "virtual addresses",
      [tests, limit = part_limit(timeout, 2s)](const auto& asked, const NodeFacts& facts) -> Judge {
        const auto plan = plan_virtual_addresses(asked, facts);
        std::vector<HostTests::Connects> from;
        for (const ConnectTest& test : plan) from.push_back({test.netns, test.targets});
        return [plan, answers = tests->connect(from, limit)](const Unreached& unreached) {
          Findings out;
          for (size_t i = 0; i < plan.size(); ++i) {
            auto of_test = answers[i];
            if (of_test && !leave_out(plan[i], *of_test, unreached)) continue;
            out.push_back(judge_connects(plan[i], of_test));
          }
          return out;
        };
      },
      {.waits_for_ways = true});
  begin_part(
      id, "echoes", "networks from end to end",
      [tests, limit = look_limit(timeout)](const auto& asked, const NodeFacts& facts) -> Judge {
        const auto plan = plan_echoes(asked, facts);
        std::vector<HostTests::Echoes> from;
        for (const EchoTest& test : plan) {
          HostTests::Echoes& some = from.emplace_back(HostTests::Echoes{test.netns, {}});
          for (const auto& one : test.asked) some.addresses.push_back(one.address);
        }
        const HostTests::Refusals before = tests->refusals();
        auto answered = tests->echo(from, limit);
        ask_by_tcp(*tests, plan, answered, limit);
        return [plan, answered,
                refused = refused_since(before, tests->refusals())](const Unreached& unreached) {
          Findings out;
          for (size_t i = 0; i < plan.size(); ++i) {
            EchoTest test = plan[i];
            auto of_test = answered[i];
            if (of_test && !leave_out(test, *of_test, unreached)) continue;
            out.push_back(judge_echoes(test, of_test, refused));
          }
          return out;
        };
      },
      {.waits_for_ways = true});
}

// ---------------------------------------------------------------- the ways to other nodes

HostTests::TunnelTest Doctor::tunnel_test(const Case& known, const NodeFacts& facts) {
  const v1::NetworkExamination& asked = known.examination;
  HostTests::TunnelTest test;
  test.examination_id = asked.id();
  test.self = facts.node_id;
  test.local_addr = facts.data_path_addr;
  test.port = static_cast<uint16_t>(asked.data_path_port());
  test.mtu = largest_mtu(facts);
  for (const v1::ExaminedNode& node : asked.nodes()) {
    test.peers[node.node_id()] = node.data_path_addr();
  }
  test.patience = std::min(known.timeout * 6 / 10, kPatienceMax);
  test.whole = known.timeout;
  return test;
}

// Whether what encrypted networks need passes; whether they encrypt is the kernel's.
void Doctor::test_encryption(const std::string& id) {
  const Case& known = cases_.at(id);
  const SharedFacts node = facts();
  HostTests::TunnelTest test = tunnel_test(known, *node);
  if (!has_encrypted(known.examination, *node) || test.peers.empty() || test.local_addr.empty()) {
    return part_done(id, "encryption", {});
  }
  const uint16_t port = encryption_port(node->encryption);
  test.way = port == 0 ? HostTests::Way::kEsp : HostTests::Way::kEspInUdp;
  test.port = port;
  test.mtu = Beacons::kFullMin;
  deps_.pool.post([self = self_, strand = &deps_.strand, tests = &deps_.tests, test, id,
                   hostname = node->hostname, encryption = node->encryption] {
    tests->test_tunnels(test, [&](const Result<HostTests::Heard>& heard) {
      strand->post([self, id, hostname, encryption, heard] {
        if (*self == nullptr || !(*self)->cases_.contains(id)) return;
        const v1::NetworkExamination& asked = (*self)->cases_.at(id).examination;
        (*self)->part_done(
            id, "encryption",
            heard ? judge_encryption(asked, hostname, encryption, *heard)
                  : Findings{make_finding("encryption", v1::NetworkFinding::WARNING,
                                          "the way of encrypted networks could not be tried: " +
                                              heard.error().message())});
      });
    });
  });
}

void Doctor::test_tunnels(const std::string& id) {
  const SharedFacts node = facts();
  const HostTests::TunnelTest test = tunnel_test(cases_.at(id), *node);
  if (test.peers.empty()) {
    ways_known(id, {});
    return part_done(id, "tunnels", {});
  }
  deps_.pool.post([self = self_, strand = &deps_.strand, tests = &deps_.tests, test, id,
                   hostname = node->hostname] {
    const auto tell = [self, strand, id, hostname,
                       mtu = test.mtu](const Result<HostTests::Heard>& heard) {
      strand->post([self, id, hostname, mtu, heard] {
        if (*self != nullptr) (*self)->tunnels_tested(id, hostname, mtu, heard);
      });
    };
    if (test.local_addr.empty()) {
      return tell(fail(failed_precondition("this node has no data-path address yet")));
    }
    if (!tests->has_address(test.local_addr)) {
      return tell(fail(failed_precondition(
          "the data-path address {} is none of this host's any more: let the node join again, or "
          "give the address back to an interface",
          test.local_addr)));
    }
    tests->test_tunnels(test, tell);
  });
}

void Doctor::tunnels_tested(const std::string& id, const std::string& hostname, uint32_t mtu,
                            const Result<HostTests::Heard>& heard) {
  const auto known = cases_.find(id);
  if (known == cases_.end()) return;
  const v1::NetworkExamination& asked = known->second.examination;
  Unreached unreached;
  for (const v1::ExaminedNode& node : asked.nodes()) {
    const auto at = heard ? heard->find(node.node_id()) : HostTests::Heard::const_iterator();
    const bool passes = heard && at != heard->end() && at->second.small && at->second.hears;
    if (!passes) unreached.insert(node.node_id());
  }
  ways_known(id, std::move(unreached));
  if (!heard) {
    return part_done(id, "tunnels",
                     {make_finding("vxlan", v1::NetworkFinding::BAD, heard.error().message())});
  }
  const Findings found = judge_tunnels(asked, hostname, mtu, *heard);
  std::vector<HostTests::Target> targets;
  std::vector<std::string> peers;
  for (const v1::ExaminedNode* node : unheard(asked, *heard)) {
    targets.push_back({node->data_path_addr(), kTcpPort});
    peers.push_back(node->node_id());
  }
  if (targets.empty()) return part_done(id, "tunnels", found);
  // Whether it is the host or only its UDP port that is not reached.
  on_pool(
      [tests = &deps_.tests, targets, limit = part_limit(known->second.timeout, 1500ms)] {
        return tests->connect({}, targets, limit);
      },
      [this, id, found, peers](const Result<std::vector<HostTests::Answer>>& answers) {
        Findings all = found;
        for (size_t i = 0; answers && i < peers.size(); ++i) {
          const HostTests::Answer answer = (*answers)[i];
          if (answer == HostTests::Answer::kUntried) continue;
          const bool reached =
              answer == HostTests::Answer::kAccepted || answer == HostTests::Answer::kRefused;
          all.push_back(
              make_finding("tcp", reached ? v1::NetworkFinding::GOOD : v1::NetworkFinding::BAD,
                           reached ? "TCP is answered" : "TCP is not answered", {}, peers[i]));
        }
        part_done(id, "tunnels", all);
      });
}

// ---------------------------------------------------------------- the other parts

void Doctor::ways_known(const std::string& id, Unreached unreached) {
  Case& known = cases_.at(id);
  known.unreached = std::move(unreached);
  const auto held = std::exchange(known.held, {});
  for (const auto& [name, judge] : held) {
    // None of them is the last: that of the ways is pending.
    part_done(id, name, judge(*known.unreached));
  }
}

void Doctor::begin_part(const std::string& id, const std::string& name, std::string words,
                        Part part, PartOptions options) {
  cases_.at(id).pending[name] = std::move(words);
  run_part(id, name, std::move(part), options);
}

void Doctor::run_part(const std::string& id, const std::string& name, Part part,
                      PartOptions options) {
  on_pool([asked = cases_.at(id).examination, node = facts(), part] { return part(asked, *node); },
          [this, id, name, part, options](const Judge& judge) {
            const auto known = cases_.find(id);
            if (known == cases_.end()) return;
            Case& now = known->second;
            const Findings findings = judge(now.unreached.value_or(Unreached()));
            if (all_good(findings)) return part_done(id, name, findings);
            if (!options.second_look && options.waits_for_ways && !now.unreached) {
              now.held[name] = judge;
              return;
            }
            if (!options.second_look) return part_done(id, name, findings);
            const auto last = PartOptions{false, options.waits_for_ways};
            auto timer = std::make_shared<Executor::TimerId>();
            *timer = deps_.strand.after(kSecondLook, [this, id, name, part, last, timer] {
              const auto still = cases_.find(id);
              if (still == cases_.end()) return;
              still->second.looks.erase(*timer);
              run_part(id, name, part, last);
            });
            now.looks.insert(*timer);
          });
}

void Doctor::part_done(const std::string& id, const std::string& name, const Findings& findings) {
  const auto known = cases_.find(id);
  if (known == cases_.end() || known->second.pending.erase(name) == 0) return;
  tell(id, findings, known->second.pending.empty());
}

void Doctor::tell(const std::string& id, const Findings& findings, bool last) {
  if (last) {
    if (const auto known = cases_.extract(id)) {
      deps_.strand.cancel(known.mapped().timer);
      for (const Executor::TimerId look : known.mapped().looks) deps_.strand.cancel(look);
    }
    if (cases_.empty()) facts_.reset();
  }
  if (findings.empty() && !last) return;
  v1::NetworkFindings message;
  message.set_examination_id(id);
  for (const v1::NetworkFinding& finding : findings) *message.add_findings() = finding;
  message.set_last(last);
  deps_.tell(message);
}

void Doctor::time_over(const std::string& id) {
  const auto known = cases_.find(id);
  if (known == cases_.end()) return;
  known->second.timer = 0;
  Findings late;
  for (const auto& [name, words] : known->second.pending) {
    // Which of it is explained by the ways to other nodes is not known any more.
    if (const auto held = known->second.held.find(name); held != known->second.held.end()) {
      const Findings found = held->second({});
      late.insert(late.end(), found.begin(), found.end());
      continue;
    }
    late.push_back(make_finding(
        "node", v1::NetworkFinding::WARNING,
        fmt::format("the test of {} was not done in time: the node is busy, or a longer --timeout "
                    "is needed",
                    words)));
  }
  tell(id, late, true);
}

}  // namespace muster::agent
