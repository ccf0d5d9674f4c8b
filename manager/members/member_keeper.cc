#include "manager/members/member_keeper.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/check.h"
#include "manager/members/group_facts.h"

namespace muster::manager::members {
namespace {

// Nodes that are or are to be managers, or that a member names; the others are of no concern.
std::vector<store::Ptr<v1::Node>> concerned(const store::Snapshot& view) {
  std::vector<store::Ptr<v1::Node>> out;
  view.each<v1::Node>([&](const store::Ptr<v1::Node>& node) {
    if (node->role() == v1::NodeSpec::MANAGER || node->has_manager_status() ||
        node->spec().desired_role() == v1::NodeSpec::MANAGER) {
      out.push_back(node);
    }
    return true;
  });
  return out;
}

bool concerns(const store::Change<v1::Node>& change) {
  if (!change.before || !change.after) return true;
  return change.before->role() != change.after->role() ||
         change.before->spec().desired_role() != change.after->spec().desired_role() ||
         change.before->manager_status().raft_id() != change.after->manager_status().raft_id() ||
         change.before->manager_status().address() != change.after->manager_status().address();
}

Status apply(store::Transaction& tx, const std::vector<NodeChange>& changes) {
  std::vector<v1::Node> changed;
  {
    const store::Snapshot view = tx.view();
    for (const NodeChange& change : changes) {
      const auto stored = view.get<v1::Node>(change.node_id);
      // Meant otherwise meanwhile: the next look sees it.
      if (!stored || stored->spec().desired_role() != change.desired_role) continue;
      v1::Node& node = changed.emplace_back(*stored);
      node.set_role(change.role);
      if (change.status) {
        *node.mutable_manager_status() = *change.status;
      } else {
        node.clear_manager_status();
      }
    }
  }
  for (v1::Node& node : changed) MUSTER_TRY(tx.update(std::move(node)));
  return ok_status();
}

}  // namespace

MemberKeeper::MemberKeeper(Executor& strand, store::Store& store, raft::Group& group, Log log)
    : strand_(strand), store_(store), group_(group), log_(std::move(log)) {}

MemberKeeper::~MemberKeeper() {
  stop();
}

void MemberKeeper::start() {
  MUSTER_CHECK(strand_.is_current());
  if (running_) return;
  running_ = true;
  ++term_;
  acting_ = writing_ = false;
  said_.clear();
  backoff_.reset();
  act_after_ = {};
  subscription_ = store_.watch([this](const store::CommitEvent& event) { on_commit(event); });
  arm(Duration(0));
}

void MemberKeeper::stop() {
  if (!running_) return;
  running_ = false;
  ++term_;
  subscription_ = {};
  strand_.cancel(std::exchange(timer_, 0));
}

void MemberKeeper::group_changed() {
  MUSTER_CHECK(strand_.is_current());
  if (running_) arm(Duration(0));
}

void MemberKeeper::on_commit(const store::CommitEvent& event) {
  for (const store::AnyChange& any : *event.changes) {
    const auto* node = std::get_if<store::Change<v1::Node>>(&any);
    if (node != nullptr && concerns(*node)) return arm(Duration(0));
  }
}

void MemberKeeper::arm(Duration delay) {
  strand_.cancel(timer_);
  timer_ = strand_.after(delay, [this] {
    timer_ = 0;
    look();
  });
}

void MemberKeeper::look() {
  if (!running_) return;
  const raft::GroupView view = group_.view();
  const store::Snapshot state = store_.snapshot();
  // Before the first write of a new swarm there are members, and no nodes yet.
  if (state.cluster() == nullptr) return arm(kLookSoon);
  MembersPlan plan = plan_members(view, concerned(state));
  if (plan.held_up != said_ && !plan.held_up.empty()) log_->warn("{}", plan.held_up);
  said_ = plan.held_up;
  const bool learners = std::any_of(view.members.begin(), view.members.end(),
                                    [](const auto& m) { return !m.member.voter; });
  const bool soon = learners || plan.action.kind != GroupAction::Kind::kNone;
  if (!acting_ && plan.action.kind != GroupAction::Kind::kNone &&
      strand_.clock().now() >= act_after_) {
    act(plan.action);
  }
  if (!writing_ && !plan.nodes.empty()) write(std::move(plan.nodes));
  if (timer_ == 0) arm(soon ? kLookSoon : kLook);
}

void MemberKeeper::act(const GroupAction& action) {
  acting_ = true;
  const char* what = "";
  auto done = [this, weak = std::weak_ptr<int>(alive_), term = term_,
               action](const Status& status) {
    if (weak.expired() || term != term_) return;
    acting_ = false;
    if (status.ok()) {
      backoff_.reset();
      return arm(Duration(0));
    }
    log_->debug("member {}: {}", raft_id_text(action.member), status.message());
    // Another change is under way, or it became too early: the next look decides anew.
    if (status.reason() == "change-pending" || status.reason() == "not-caught-up") return;
    act_after_ = strand_.clock().now() + backoff_.next();
  };
  switch (action.kind) {
    case GroupAction::Kind::kNone: return;
    case GroupAction::Kind::kPromote:
      what = "has caught up and votes from now on";
      group_.promote(action.member, std::move(done));
      break;
    case GroupAction::Kind::kRemove:
      what = "leaves the group of managers";
      group_.remove(action.member, std::move(done));
      break;
    case GroupAction::Kind::kTransfer:
      what = "is to lead: this node becomes a worker";
      group_.transfer_leadership(action.member, std::move(done));
      break;
  }
  log_->info("member {} {}", raft_id_text(action.member), what);
}

void MemberKeeper::write(std::vector<NodeChange> changes) {
  writing_ = true;
  const std::weak_ptr<int> weak = alive_;
  store_.update(
      [this, weak, term = term_, changes = std::move(changes)](store::Transaction& tx) -> Status {
        if (weak.expired() || term != term_) {
          return Status(StatusCode::kCancelled, "somebody else leads");
        }
        return apply(tx, changes);
      },
      [this, weak, term = term_](const store::Commit& commit) {
        if (weak.expired() || term != term_) return;
        writing_ = false;
        if (!commit.status.ok()) {
          log_->warn("the managers' state was not written: {}", commit.status.message());
        }
      });
}

}  // namespace muster::manager::members
