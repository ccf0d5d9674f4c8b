#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/time.h"
#include "manager/examiner/pair_findings.h"
#include "manager/store/store.h"
#include "muster/v1/control.pb.h"
#include "muster/v1/dispatcher.pb.h"

namespace muster::manager::examiner {

// What is examined, read from the store.
struct Examinee {
  std::vector<v1::Network> networks;  // overlay networks, by name
  std::vector<v1::Node> nodes;        // by host name; those that are down, too
  uint32_t data_path_port = 4789;
  bool all = false;  // networks were not named: nodes look at all that they are in
};
// NOT_FOUND for a network that is not there, INVALID_ARGUMENT for one that does not cross between
// nodes.
Result<Examinee> read_examinee(const store::Snapshot& view,
                               const v1::ExamineNetworksRequest& request);

// One examination: which nodes are asked, what has come, when it ends and what follows from all of
// it. Pure: events and the time in, answers out.
//
// It ends when every node that was asked has said its last or has lost its session, or with the
// time that was given. What nodes find at home is passed on as it comes, what they find about the
// ways between them is put together at the end.
class Examination {
 public:
  static constexpr Duration kTimeout = 10s;
  static constexpr Duration kTimeoutMin = 1s;
  static constexpr Duration kTimeoutMax = 2min;
  // Clocks that differ more make certificates, logs and health checks hard to read.
  static constexpr Duration kClockMax = 1s;
  static constexpr size_t kFindingsMax = 2'000;  // of one node; more are dropped
  static constexpr size_t kTextMax = 2'000;      // bytes
  static constexpr size_t kNameMax = 64;         // of a check, or an id

  // `sessions`: nodes that can be asked.
  Examination(std::string id, Examinee examinee, const std::set<std::string>& sessions,
              Duration timeout, TimePoint now, WallTime wall_now);
  // The time of the whole; INVALID_ARGUMENT if it is none.
  static Result<Duration> timeout_of(const v1::ExamineNetworksRequest& request);

  const std::string& id() const { return id_; }
  // What each node is asked.
  std::vector<std::pair<std::string, v1::NetworkExamination>> asks() const;
  // The first message: who is asked, and what the store alone tells.
  v1::ExamineNetworksResponse first() const;

  // ---- events

  // Returns what can be told at once.
  std::vector<v1::NetworkFinding> found(const std::string& node_id,
                                        const v1::NetworkFindings& message, TimePoint now);
  // The node's session has ended.
  void gone(const std::string& node_id);

  bool over(TimePoint now) const { return waiting_.empty() || now >= ends_at_; }
  TimePoint ends_at() const { return ends_at_; }
  // The last message.
  v1::ExamineNetworksResponse conclude() const;

 private:
  void look_at_store();
  // `by_address`: ids of nodes that are not down.
  void look_at_families(const std::map<std::string, std::vector<std::string>>& by_address);
  void complain(const std::string& node_id, const char* check, v1::NetworkFinding::Verdict verdict,
                std::string text, const std::string& network_id = {});
  std::optional<v1::NetworkFinding> judge_clock(const std::string& node_id, const std::string& text,
                                                TimePoint now) const;
  std::vector<const v1::Node*> asked_nodes() const;
  std::string name(const std::string& node_id) const;

  const std::string id_;
  const Examinee examinee_;
  const Duration timeout_;
  const TimePoint began_;
  const WallTime wall_began_;
  const TimePoint ends_at_;
  std::map<std::string, std::string> names_;  // of nodes, by id
  std::vector<size_t> asked_;                 // of the examinee's nodes
  std::vector<v1::NetworkFinding> store_findings_;
  std::set<std::string> unasked_;  // not down, but without a session
  std::set<std::string> waiting_;
  std::set<std::string> began_nodes_;
  std::set<std::string> ended_nodes_;
  std::map<std::string, size_t> counts_;
  std::optional<PairFindings> pairs_;
};

}  // namespace muster::manager::examiner
