#include "tests/sim/raft/raft_run.h"

#include <algorithm>
#include <set>

#include "tests/sim/raft/raft_world.h"

namespace muster::sim {
namespace {

// Which kinds of trouble a run has: few at a time find more than all at once.
struct Faults {
  bool crashes = false;
  bool pauses = false;
  bool partitions = false;
  bool one_way = false;
  bool members = false;
  bool transfers = false;
  bool suspicions = false;
  bool coups = false;  // leaders do not last
};

// More than any proposal of a run but those that are to be refused.
constexpr size_t kProposalMax = 1'000;

class RaftRun {
 public:
  explicit RaftRun(uint64_t seed) : rng_(seed ^ 0x9e3779b97f4a7c15), world_(seed, draw_options()) {
    faults_ = {.crashes = coin(),
               .pauses = coin(),
               .partitions = coin(),
               .one_way = coin(),
               .members = coin(),
               .transfers = coin(),
               .suspicions = coin(),
               .coups = coin()};
  }

  Result<RaftOutcome> run() {
    // Groups of four are the ones that changes of membership can split.
    world_.found(faults_.members && coin() ? 4 : 1 + rng_.below(5));
    MUSTER_TRY(chaos());
    MUSTER_TRY(heal());
    RaftOutcome outcome;
    outcome.committed = world_.canonical().size();
    outcome.acknowledged = world_.acknowledged();
    outcome.reads = world_.reads_answered();
    outcome.terms = world_.core(*world_.leader()).term();
    outcome.trace = world_.trace();
    return outcome;
  }

 private:
  bool coin() { return rng_.below(2) == 0; }
  Duration millis(uint64_t low, uint64_t high) {
    return Duration(std::chrono::milliseconds(low + rng_.below(high - low + 1)));
  }

  RaftWorldOptions draw_options() {
    RaftWorldOptions options;
    options.tuning.heartbeat = millis(20, 100);
    options.tuning.election_min =
        options.tuning.heartbeat * static_cast<int64_t>(4 + rng_.below(8));
    // Small limits, so that their edges are met.
    options.tuning.window = {1 + rng_.below(6), size_t{20} << rng_.below(8)};
    options.tuning.append_bytes_max = coin() ? 1 : 1 + rng_.below(200);
    options.tuning.uncommitted_bytes_max = 50 + rng_.below(400);
    options.tuning.commit_news = coin() ? Duration(0) : millis(1, 300);
    options.tuning.apply_bytes_max = 1 + rng_.below(100);
    options.tuning.proposal_bytes_max = kProposalMax;
    options.snapshot_every = 5 + rng_.below(40);
    options.trailing = rng_.below(20);
    // At times about as slow as the time-outs are short: many elections.
    options.weather.latency_max = millis(1, coin() ? 30 : 150);
    options.weather.disk_max = millis(1, 20);
    if (coin()) options.weather.lost_permille = rng_.below(150);
    if (coin()) options.weather.doubled_permille = rng_.below(100);
    return options;
  }

  Status broken() const {
    return world_.broken().empty() ? ok_status() : internal_error("{}", world_.broken());
  }

  MemberId anyone() {
    const auto ids = world_.ids();
    return ids[rng_.below(ids.size())];
  }
  std::optional<MemberId> any_running() {
    const auto up = world_.running();
    return up.empty() ? std::nullopt : std::optional(up[rng_.below(up.size())]);
  }

  Status chaos() {
    const uint64_t operations = 100 + rng_.below(400);
    calm_ = 2 + rng_.below(9);
    for (uint64_t i = 0; i < operations; ++i) {
      world_.run_for(millis(1, 60));
      MUSTER_TRY(broken());
      if (faults_.coups) coup();
      if (faults_.members && rng_.below(40) == 0) duel();
      if (const auto id = any_running()) user(*id);
      if (rng_.below(calm_) == 0) operate();
      MUSTER_TRY(broken());
    }
    return ok_status();
  }

  // Whoever believes to lead is asked, a deposed leader too.
  void user(MemberId id) {
    if (rng_.below(3) == 0) {
      world_.read(id);
      if (const auto stale = unaware()) world_.read(*stale);
      return;
    }
    for (uint64_t n = rng_.below(4); n > 0; --n) {
      std::string payload = fmt::format("{}:", ++payloads_);
      payload.resize(payload.size() + rng_.below(40), 'x');
      // Too large, hence refused, so that it changes nothing else.
      if (payloads_ % 16 == 0) (void)world_.propose(id, std::string(kProposalMax + 1, 'y'));
      (void)world_.propose(id, payload);
    }
  }

  // Who still leads an older term than the newest: from it one might read what is not so any more.
  std::optional<MemberId> unaware() {
    const auto newest = world_.leader();
    for (const MemberId id : world_.running()) {
      const bool leads = world_.core(id).role() == raft::Role::kLeader;
      if (leads && newest && id != *newest) return id;
    }
    return std::nullopt;
  }

  // Trouble with the leader is the most instructive.
  MemberId victim() {
    const auto leading = world_.leader();
    return leading && coin() ? *leading : anyone();
  }

  void operate() {
    const MemberId id = victim();
    switch (rng_.below(9)) {
      case 0:
        if (faults_.crashes) world_.crash(id);
        return;
      case 1:
      case 2: return world_.restart(id);
      case 3:
        if (faults_.pauses) world_.pause(id);
        return;
      case 4: return world_.resume(id);
      case 5: return partition(id);
      case 6: return change_members();
      case 7: {
        const auto leading = world_.leader();
        if (faults_.transfers && leading) world_.transfer(*leading, id);
        return;
      }
      default: {
        const auto running = any_running();
        if (faults_.suspicions && running) world_.suspect(*running);
        return;
      }
    }
  }

  // Soon after a member has begun to lead it loses its place: it crashes, or is cut off and goes on
  // believing. Others that were away come back, so that somebody can be next.
  void coup() {
    const auto leading = world_.leader();
    if (!leading || world_.core(*leading).term() <= coup_term_) return;
    coup_term_ = world_.core(*leading).term();
    world_.mend_all();
    for (const MemberId id : world_.ids()) {
      if (id == *leading) continue;
      world_.resume(id);
      world_.restart(id);
    }
    user(*leading);
    if (faults_.members && coin()) change_members();
    world_.run_for(millis(0, coin() ? 10 : 100));
    if (!world_.broken().empty() || world_.member(*leading).core == nullptr) return;
    user(*leading);
    switch (rng_.below(4)) {
      case 0: return world_.crash(*leading);
      case 1: return world_.pause(*leading);
      case 2: return;
      default:
        world_.isolate(*leading);
        const MemberId other = anyone();
        world_.mend(*leading, other);
        if (coin()) world_.mend(other, *leading);
        user(*leading);
    }
  }

  // Two halves of the group that each believe to be all of it: what goes wrong when a leader
  // changes the group before it knows what is committed, or twice at once.
  void duel() {
    const auto leading = world_.leader();
    if (!leading) return;
    const std::vector<MemberId> voters = world_.core(*leading).members().voters();
    if (voters.size() == 4) duel_of_two(*leading);
    if (voters.size() == 5) duel_with_oneself(*leading, voters);
  }

  // Cut off with one companion, a leader removes others one after another.
  void duel_with_oneself(MemberId leader, const std::vector<MemberId>& voters) {
    MemberId companion = leader;
    while (companion == leader) companion = voters[rng_.below(voters.size())];
    separate({leader, companion});
    for (const MemberId id : voters) {
      if (id == leader || id == companion) continue;
      Members next = world_.core(leader).members();
      next.remove(id);
      (void)world_.change_members(leader, std::move(next));
      if (coin()) world_.run_for(millis(0, 5));
      if (world_.member(leader).core == nullptr || !world_.broken().empty()) return;
    }
    user(leader);
    world_.run_for(millis(500, 3000));
    world_.mend_all();
  }

  // A leader that only a learner can hear makes it a voter; the next one removes the first before
  // it has committed anything; then the first comes back with those who do not know of that.
  void duel_of_two(MemberId first) {
    Members next = world_.core(first).members();
    const auto learner = std::find_if(next.list.begin(), next.list.end(),
                                      [](const raft::Member& m) { return !m.voter; });
    if (learner == next.list.end()) return change_members();
    learner->voter = true;
    const MemberId recruit = learner->id;
    const std::vector<MemberId> voters = next.voters();
    separate({first, recruit});
    if (!world_.change_members(first, std::move(next))) return world_.mend_all();
    std::optional<MemberId> second;
    (void)world_.run_until(
        [&] {
          second = world_.leader();
          return second && *second != first && *second != recruit;
        },
        5s);
    if (!world_.broken().empty() || !second || *second == first) return world_.mend_all();
    MemberId third = first;
    while (third == first || third == *second || third == recruit) {
      third = voters[rng_.below(voters.size())];
    }
    separate({*second, third});
    Members without = world_.core(*second).members();
    without.remove(first);
    (void)world_.change_members(*second, std::move(without));
    user(*second);
    world_.run_for(millis(0, 2000));
    if (!world_.broken().empty()) return;
    if (const auto now = world_.leader(); now && world_.member(*now).core != nullptr) user(*now);
    world_.run_for(millis(500, 4000));
    if (const auto now = world_.leader()) user(*now);
    world_.mend_all();
  }

  // Two sides that do not hear each other.
  void separate(const std::set<MemberId>& side) {
    world_.mend_all();
    for (const MemberId a : world_.ids()) {
      world_.resume(a);
      world_.restart(a);
      for (const MemberId b : world_.ids()) {
        if (side.contains(a) != side.contains(b)) world_.cut(a, b);
      }
    }
  }

  void partition(MemberId id) {
    if (coin()) return world_.mend_all();
    if (faults_.one_way) {
      world_.cut(id, anyone());
      world_.cut(anyone(), anyone());
    } else if (faults_.partitions) {
      world_.isolate(id);
      // With a companion it is a minority that can still replicate.
      const MemberId other = anyone();
      world_.mend(id, other);
      world_.mend(other, id);
    }
  }

  // Grows the group to five, and shrinks it: learners first, then one voter at a time.
  void change_members() {
    const auto leading = world_.leader();
    if (!faults_.members || !leading) return;
    Members next = world_.core(*leading).members();
    const auto ids = world_.ids();
    const bool learners = next.voters().size() < next.list.size();
    switch (learners ? 1 + rng_.below(3) : rng_.below(4)) {
      case 0: {
        if (ids.size() >= 7) return;
        next.put(world_.describe(world_.add_stranger(), false));
        break;
      }
      case 1:
      case 2:
        for (raft::Member& member : next.list) {
          if (member.voter) continue;
          member.voter = true;
          break;
        }
        break;
      default:
        if (next.voters().size() < 3) return;
        next.remove(next.list[rng_.below(next.list.size())].id);
    }
    (void)world_.change_members(*leading, std::move(next));
  }

  // With everything mended, a leader is there within twenty time-outs, takes a proposal, and all
  // members of the group have the same in the end.
  Status heal() {
    world_.mend_all();
    world_.weather().lost_permille = 0;
    world_.weather().doubled_permille = 0;
    for (const MemberId id : world_.ids()) {
      world_.resume(id);
      world_.restart(id);
    }
    const bool probed = world_.run_until([&] { return probe(); }, 60s);
    MUSTER_TRY(broken());
    if (!probed) return internal_error("no proposal was committed within 60 s of peace (L1)");
    const bool settled = world_.run_until([&] { return world_.check_settled().ok(); }, 60s);
    MUSTER_TRY(broken());
    if (!settled) return world_.check_settled().with_context("after 60 s of peace (L1)");
    return ok_status();
  }

  bool probe() {
    if (world_.acknowledged() > probe_floor_) return true;
    const auto leading = world_.leader();
    if (!leading || world_.core(*leading).term() == probed_term_) return false;
    probe_floor_ = world_.acknowledged();
    if (world_.propose(*leading, fmt::format("probe {}", ++payloads_))) {
      probed_term_ = world_.core(*leading).term();
    }
    return false;
  }

  SeededRng rng_;
  RaftWorld world_;
  Faults faults_;
  uint64_t calm_ = 10;  // between two troubles
  uint64_t payloads_ = 0;
  raft::Term coup_term_ = 0;
  size_t probe_floor_ = SIZE_MAX;
  raft::Term probed_term_ = 0;
};

}  // namespace

Result<RaftOutcome> run_raft(uint64_t seed) {
  return RaftRun(seed).run();
}

}  // namespace muster::sim
