#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "raft/core/core.h"
#include "raft/node/disk.h"
#include "raft/node/group.h"
#include "raft/node/replicated_log.h"
#include "raft/node/state_machine.h"
#include "raft/transport/transport.h"

namespace muster::raft {

// How a log begins.
enum class StartMode {
  kRestore,  // as the disk says; with an empty disk this is kJoin
  kFound,    // an empty disk: a new group of this member alone
  kJoin,     // an empty disk: waits until a leader adds this member
};

// One member of a replicated log: the protocol (raft/core) over a disk and a network, for a state
// machine.
//
//   Node node(options, {raft_strand, user_strand, disk, rng, log, machine}, restored);
//   auto transport = make_grpc_transport(..., node.transport_events());
//   node.start(*transport);
//   ...
//   node.stop([] { ... destroy node, then transport and disk ... });
//
// Strands. The user's calls come on the user's strand, and everything the user is told arrives
// there in one order: answers, entries, leadership. Time passes on the raft strand, so that a busy
// user never delays a heartbeat. Between them stands one lock instead of a queue: an event (a
// proposal, a message, a finished write) runs the core on the thread that brings it. So a commit of
// a group of one crosses threads twice (user, disk, user), and an acknowledgement needs no thread
// but the network's and the disk's. Nothing under the lock blocks.
//
// Bounds. Proposals in flight: Options::proposals_max and Tuning::uncommitted_bytes_max; what waits
// for the user: one batch of entries and the answers to his own questions. Every answer comes
// within Options::deadline.
//
// Fences. lead(term) comes when everything of before is applied. From the moment leadership is lost
// or given up no proposal of that term is accepted; those in flight are answered kUnknown, and come
// through apply() if they were committed after all. A member gives leadership up by itself when a
// proposal passed its deadline, its disk does not answer, or its user's strand does not: to the
// voter that is furthest if it can, else by stepping down.
class Node final : public ReplicatedLog, public Group {
 public:
  struct Options {
    Tuning tuning;
    Member self;  // `voter` is of no meaning
    StartMode mode = StartMode::kRestore;
    // kJoin: the group as the leader described it, so that this member can answer.
    Members members;
    // A snapshot is taken after so many entries, or so many bytes of them.
    uint64_t snapshot_entries = 10'000;
    uint64_t snapshot_bytes = 64 << 20;
    Index trailing_entries = 2'000;  // kept before it, for members that are a little behind
    size_t proposals_max = 10'000;
    Duration deadline = 10s;
    Duration disk_silence_max = 3s;  // a leader with others gives up after it
    Duration user_silence_max = 5s;
    Duration transfer_max = 1s;  // on stop()
    // The disk failed, or an entry could not be applied: nothing can be written safely any more and
    // the process has to end. Called once, on any thread. Null = log the reason and _exit(70).
    std::function<void(const Status&)> on_fatal;
  };
  struct Ports {
    Executor& raft_strand;  // "raft": its clock is the protocol's
    Executor& user_strand;  // "main-loop"
    Disk& disk;
    Rng& rng;
    Log log;
    StateMachine& machine;
  };

  // All ports must outlive it. Nothing happens before start().
  Node(Options options, Ports ports, Restored restored);
  // As a crash would, if stop() has not ended: stops disk and transport, answers nothing.
  ~Node() override;

  // Where the transport tells what it hears; valid until the transport was stopped.
  TransportEvents& transport_events();
  // On the user's strand, once. Blocks for reading the snapshot; what is wrong with it is the
  // answer, and then nothing was started. Everything else comes by callbacks: the entries after the
  // snapshot when they are known to be committed. A group of one leads after two writes.
  Status start(Transport& transport);
  // Orderly: hands leadership over, says goodbye, lets the disk finish. `done` is posted to the
  // user's strand; nothing else is told after it. Once.
  void stop(UniqueFunction<void()> done);

  // ReplicatedLog
  void propose(uint64_t term, std::string payload,
               UniqueFunction<void(ProposeResult)> done) override;
  uint64_t leading_term() const override;

  // Group
  GroupView view() const override;
  void add_learner(Member member, Done done) override;
  void promote(MemberId id, Done done) override;
  void remove(MemberId id, Done done) override;
  void transfer_leadership(MemberId target, Done done) override;
  void read_barrier(UniqueFunction<void(Result<Index>)> done) override;

  // What the group itself may decide about its log; what is not set is as in Options. Anything out
  // of range is put at its edge, since it cannot be refused any more. On the user's strand, in any
  // phase of its life: what a snapshot says comes with StateMachine::restore_end(), which start()
  // calls.
  struct Settings {
    std::optional<Duration> heartbeat;
    std::optional<Duration> election_min;
    std::optional<uint64_t> snapshot_entries;
    std::optional<Index> trailing_entries;
  };
  void configure(const Settings& settings);

  // Takes a snapshot now, whatever the count: for backups and new data keys. On the user's strand;
  // answers there. FAILED_PRECONDITION while another is written; OK without one when nothing
  // happened since the last.
  void take_snapshot(UniqueFunction<void(Status)> done);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

// What to write to the disk of a member, before its node is made, so that it goes on alone with all
// it has after the others are lost for good. Every entry of its log counts as committed; the group
// is itself. `restored` is as it is after the write.
Write force_new_group(Restored& restored, Member self);

// Nobody to talk to: the transport of a group of one.
std::unique_ptr<Transport> make_null_transport();

}  // namespace muster::raft
