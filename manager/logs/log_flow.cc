#include "manager/logs/log_flow.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::manager::logs {

LogFlow::LogFlow(std::string id, v1::ServiceLogsRequest request, LogTargets targets, TimePoint now,
                 WallTime wall_now)
    : id_(std::move(id)),
      request_(std::move(request)),
      targets_(std::move(targets)),
      began_(now),
      wall_began_(wall_now) {}

WallTime LogFlow::wall(TimePoint now) const {
  return WallTime{wall_began_.unix_ns + (now - began_).count()};
}

void LogFlow::ask(const std::string& node_id, Node& node, TimePoint now) {
  node.ask_at = now + kAskPeriod;
  Ask out;
  out.node_id = node_id;
  v1::LogSubscription& wanted = out.subscription;
  wanted.set_id(id_);
  for (const std::string& id : targets_.service_ids) wanted.add_service_ids(id);
  for (const std::string& id : node.tasks) wanted.add_task_ids(id);
  wanted.set_follow(request_.follow() && !finishing_);
  wanted.set_until_ns(request_.until_ns());
  wanted.set_since_ns(request_.since_ns());
  wanted.set_stdout(request_.stdout());
  wanted.set_stderr(request_.stderr());
  if (!node.seen.empty()) {
    // Again from where every task's lines are known to have come; the few that are sent twice are
    // dropped when they arrive.
    int64_t since = INT64_MAX;
    for (const auto& [task_id, seen] : node.seen) since = std::min(since, seen.time_ns);
    wanted.set_since_ns(std::max(since, request_.since_ns()));
  } else if (node.was_current) {
    wanted.set_since_ns(std::max(wall(node.heard).unix_ns, request_.since_ns()));
  } else if (request_.has_tail()) {
    wanted.set_tail(request_.tail());
  }
  asks_.push_back(std::move(out));
}

void LogFlow::lose(const std::string& node_id, Node& node, const std::string& reason) {
  node.state = State::kLost;
  merge_.close(node_id);
  v1::MissingLogs& missing = *side_.add_missing();
  missing.set_node_id(node_id);
  missing.set_hostname(node.hostname);
  for (const std::string& id : node.tasks) missing.add_task_ids(id);
  missing.set_reason(reason);
  cancels_.push_back(node_id);
}

void LogFlow::look(const FlowView& view, TimePoint now) {
  tasks_to_come_ = false;
  std::map<std::string, std::set<std::string>> wanted;
  for (const FlowView::Task& task : view.tasks) {
    if (!task.began && !task.over) tasks_to_come_ = true;
    if (task.node_id.empty() || (!task.began && (task.over || !request_.follow()))) continue;
    std::set<std::string>& tasks = wanted[task.node_id];
    if (task.began) tasks.insert(task.id);
    // A single task is asked for by its id, whether it has begun or not.
    const auto& single = targets_.task_ids;
    if (std::find(single.begin(), single.end(), task.id) != single.end()) tasks.insert(task.id);
  }
  for (auto& [node_id, tasks] : wanted) {
    const auto known = view.nodes.find(node_id);
    const bool down = known == view.nodes.end() || known->second.down;
    auto [place, fresh] = nodes_.try_emplace(node_id);
    Node& node = place->second;
    if (known != view.nodes.end()) node.hostname = known->second.hostname;
    node.tasks = tasks;
    const bool came_back = node.down && !down;
    node.down = down;
    if (fresh) {
      node.heard = now;
      merge_.open(node_id);
      // Lines that are coming already do not wait for what a new node has to tell.
      if (looked_) merge_.set_current(node_id);
    }
    const bool gone =
        down && (fresh || node.state == State::kAsked || node.state == State::kStreaming);
    if (gone) {
      std::string why = known == view.nodes.end() ? "it was removed" : known->second.why;
      lose(node_id, node,
           why.empty() ? "the node is down" : fmt::format("the node is down: {}", why));
    } else if (fresh || (came_back && node.state == State::kLost && !ending())) {
      node.state = State::kAsked;
      node.heard = now;
      ask(node_id, node, now);
    }
  }
  for (const FlowView::Task& task : view.tasks) {
    const auto node = nodes_.find(task.node_id);
    if (node != nodes_.end()) node->second.placed.insert(task.id);
  }
  forget_tasks(view);
  looked_ = true;
  if (view.gone && request_.follow() && !finishing_) finish_following(now);
}

// Tasks come and go while a service is followed; of those that are gone nothing is kept.
void LogFlow::forget_tasks(const FlowView& view) {
  std::set<std::string> present;
  for (const FlowView::Task& task : view.tasks) present.insert(task.id);
  for (auto& [node_id, node] : nodes_) {
    // The node may still have to send what they left.
    for (auto id = node.placed.begin(); id != node.placed.end();) {
      if (present.count(*id) != 0) {
        ++id;
        continue;
      }
      node.collected.push_back(*id);
      if (node.collected.size() > kCollectedMax) node.collected.pop_front();
      id = node.placed.erase(id);
    }
    std::erase_if(node.tasks, [&](const auto& id) { return present.count(id) == 0; });
    std::erase_if(node.described, [&](const auto& id) { return present.count(id) == 0; });
    std::erase_if(node.seen, [&](const auto& item) { return present.count(item.first) == 0; });
  }
}

// What is followed exists no more: the nodes send what is left and end.
void LogFlow::finish_following(TimePoint now) {
  finishing_ = true;
  for (auto& [node_id, node] : nodes_) {
    if (node.state != State::kAsked && node.state != State::kStreaming) continue;
    node.heard = now;
    ask(node_id, node, now);
  }
}

bool LogFlow::opened(const std::string& node_id, TimePoint now) {
  const auto found = nodes_.find(node_id);
  if (found == nodes_.end()) return false;
  Node& node = found->second;
  if (node.state == State::kEnded || (node.state == State::kLost && ending())) return false;
  node.state = State::kStreaming;
  node.heard = now;
  node.paused = false;
  merge_.open(node_id);
  // The past has been merged already; a second time only what was missed comes.
  if (node.was_current) merge_.set_current(node_id);
  for (auto& [task_id, seen] : node.seen) seen.again = 0;
  return true;
}

bool LogFlow::may_speak_of(const Node& node, const std::string& task_id) {
  return node.placed.count(task_id) != 0 ||
         std::find(node.collected.begin(), node.collected.end(), task_id) != node.collected.end();
}

bool LogFlow::accept(Node& node, const v1::LogLine& line) {
  if (!may_speak_of(node, line.task_id())) return false;
  Seen& seen = node.seen[line.task_id()];
  if (line.time_ns() < seen.time_ns) {
    // Older than what came before: sent again, or the clock of the host went back. Only on a stream
    // that resumed is it the former.
    return seen.again == UINT64_MAX;
  }
  if (line.time_ns() == seen.time_ns && seen.again != UINT64_MAX && seen.again < seen.lines) {
    ++seen.again;
    return false;
  }
  if (line.time_ns() > seen.time_ns) {
    seen.time_ns = line.time_ns();
    seen.lines = 0;
  }
  ++seen.lines;
  seen.again = UINT64_MAX;  // everything from here on is new
  return true;
}

void LogFlow::received(const std::string& node_id, v1::LogPublish message, TimePoint now) {
  const auto found = nodes_.find(node_id);
  if (found == nodes_.end() || found->second.state != State::kStreaming) return;
  Node& node = found->second;
  node.heard = now;
  for (auto& task : *message.mutable_tasks()) {
    if (!may_speak_of(node, task.task_id())) continue;
    if (!node.described.insert(task.task_id()).second) continue;
    task.set_node_id(node_id);
    *side_.add_tasks() = std::move(task);
  }
  for (auto& missing : *message.mutable_missing()) {
    missing.set_node_id(node_id);
    missing.set_hostname(node.hostname);
    *side_.add_missing() = std::move(missing);
  }
  for (auto& line : *message.mutable_lines()) {
    if (!accept(node, line)) continue;
    line.set_node_id(node_id);
    merge_.add(node_id, std::move(line), now);
  }
  node.paused = !merge_.has_room(node_id);
  if (message.current() && !node.was_current) {
    node.was_current = true;
    merge_.set_current(node_id);
  }
  if (message.end()) {
    node.state = State::kEnded;
    merge_.close(node_id);
  }
}

void LogFlow::closed(const std::string& node_id, TimePoint now) {
  const auto found = nodes_.find(node_id);
  if (found == nodes_.end() || found->second.state != State::kStreaming) return;
  Node& node = found->second;
  node.state = State::kAsked;
  node.heard = now;
  node.ask_at = now + kAskPeriod;
  // The others' new lines do not wait for it.
  if (node.was_current) merge_.close(node_id);
}

void LogFlow::tick(TimePoint now) {
  if (request_.follow() && !finishing_ && request_.until_ns() > 0 &&
      wall(now).unix_ns >= request_.until_ns()) {
    finish_following(now);
  }
  for (auto& [node_id, node] : nodes_) {
    const bool waited_for =
        node.state == State::kAsked || (node.state == State::kStreaming && !node.paused);
    if (waited_for && now >= node.heard + kSilenceMax) {
      lose(node_id, node,
           node.state == State::kAsked
               ? fmt::format("the node did not answer within {}", format_duration(kSilenceMax))
               : fmt::format("the node has been silent for {}", format_duration(kSilenceMax)));
      node.ask_at = now + kSilenceMax;
    } else if (node.state == State::kAsked && now >= node.ask_at) {
      ask(node_id, node, now);
    } else if (node.state == State::kLost && !node.down && !ending() && now >= node.ask_at) {
      ask(node_id, node, now);
      node.ask_at = now + kSilenceMax;
    }
  }
}

std::vector<LogFlow::Ask> LogFlow::take_asks() {
  return std::exchange(asks_, {});
}

std::vector<std::string> LogFlow::take_cancels() {
  return std::exchange(cancels_, {});
}

v1::ServiceLogsResponse LogFlow::take(TimePoint now, size_t bytes_max) {
  v1::ServiceLogsResponse out = std::exchange(side_, {});
  for (v1::LogLine& line : merge_.take(now, bytes_max)) *out.add_lines() = std::move(line);
  for (auto& [node_id, node] : nodes_) {
    const bool room = merge_.has_room(node_id);
    // While it was not read it could not be heard.
    if (node.paused && room) node.heard = now;
    node.paused = !room;
  }
  return out;
}

bool LogFlow::finished() const {
  if (!looked_ || !merge_.empty() || side_.missing_size() > 0 || side_.tasks_size() > 0) {
    return false;
  }
  const bool single = targets_.service_ids.empty();
  if (!ending() && (!single || tasks_to_come_)) return false;
  return std::all_of(nodes_.begin(), nodes_.end(), [this](const auto& item) {
    const State state = item.second.state;
    // Who follows a task waits for its node to come back.
    return state == State::kEnded || (state == State::kLost && ending());
  });
}

bool LogFlow::wants_more(const std::string& node_id) const {
  const auto found = nodes_.find(node_id);
  return found != nodes_.end() && found->second.state == State::kStreaming &&
         merge_.has_room(node_id);
}

std::vector<std::string> LogFlow::asked_nodes() const {
  std::vector<std::string> out;
  for (const auto& [node_id, node] : nodes_) {
    if (node.state != State::kEnded) out.push_back(node_id);
  }
  return out;
}

std::optional<TimePoint> LogFlow::wake_at(bool can_take) const {
  std::optional<TimePoint> at = can_take ? merge_.wake_at() : std::nullopt;
  const auto sooner = [&at](TimePoint other) {
    if (!at || other < *at) at = other;
  };
  if (request_.follow() && !finishing_ && request_.until_ns() > 0) {
    sooner(began_ + Duration(request_.until_ns() - wall_began_.unix_ns));
  }
  for (const auto& [node_id, node] : nodes_) {
    switch (node.state) {
      case State::kAsked:
        sooner(node.ask_at);
        sooner(node.heard + kSilenceMax);
        break;
      case State::kStreaming:
        if (!node.paused) sooner(node.heard + kSilenceMax);
        break;
      case State::kLost:
        if (!node.down && !ending()) sooner(node.ask_at);
        break;
      case State::kEnded: break;
    }
  }
  return at;
}

}  // namespace muster::manager::logs
