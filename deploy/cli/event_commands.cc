#include <signal.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <optional>
#include <utility>

#include "base/template.h"
#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/leader_watch.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/names.h"
#include "deploy/cli/quantities.h"

namespace muster::deploy::cli {
namespace {

// One event in the words of `docker events`.
struct Shown {
  std::string type, action, id, name;
  std::vector<std::pair<std::string, std::string>> attributes;
};

std::string action_name(v1::ObjectEvent::Action action) {
  switch (action) {
    case v1::ObjectEvent::CREATE: return "create";
    case v1::ObjectEvent::UPDATE: return "update";
    case v1::ObjectEvent::REMOVE: return "remove";
    default: return "unknown";
  }
}

void service_attributes(const v1::ObjectEvent& event, Shown* shown) {
  const v1::Service& service = event.service();
  shown->name = service.spec().annotations().name();
  if (!event.has_old_service()) return;
  const auto change = [shown](const char* key, const std::string& before,
                              const std::string& after) {
    if (before == after) return;
    shown->attributes.emplace_back(std::string(key) + ".old", before);
    shown->attributes.emplace_back(std::string(key) + ".new", after);
  };
  const v1::Service& old = event.old_service();
  change("image", old.spec().task().container().image(), service.spec().task().container().image());
  if (service.spec().has_replicated())
    change("replicas", std::to_string(old.spec().replicated().replicas()),
           std::to_string(service.spec().replicated().replicas()));
  if (old.update_status().state() != service.update_status().state())
    change("updatestate", update_state_name(old.update_status().state()),
           update_state_name(service.update_status().state()));
  if (old.update_status().message() != service.update_status().message() &&
      !service.update_status().message().empty())
    shown->attributes.emplace_back("message", service.update_status().message());
  if (!service.update_status().reason().empty() &&
      old.update_status().reason() != service.update_status().reason())
    shown->attributes.emplace_back("reason", service.update_status().reason());
  if (!service.allocation_error().empty())
    shown->attributes.emplace_back("error", service.allocation_error());
  if (!service.has_job_status()) return;
  const auto& job = service.job_status();
  change("jobiteration", std::to_string(old.job_status().iteration()),
         std::to_string(job.iteration()));
  change("jobstate", job_state_name(old.job_status().state()), job_state_name(job.state()));
  if (!job.message().empty() && job.message() != old.job_status().message())
    shown->attributes.emplace_back("jobmessage", job.message());
}

void task_attributes(const v1::ObjectEvent& event, Shown* shown) {
  const v1::Task& task = event.task();
  shown->name = task.name();
  shown->attributes.emplace_back("state", state_name(task.status().state()));
  shown->attributes.emplace_back("desired", state_name(task.desired_state()));
  if (!task.node_id().empty()) shown->attributes.emplace_back("node", task.node_id());
  shown->attributes.emplace_back("service", task.service_id());
  if (!task.status().message().empty())
    shown->attributes.emplace_back("message", task.status().message());
  if (!task.status().error().empty())
    shown->attributes.emplace_back("error", task.status().error());
  if (task.status().container().oom_killed()) shown->attributes.emplace_back("oomKilled", "true");
  if (task.status().container().has_exit_code())
    shown->attributes.emplace_back("exitCode",
                                   std::to_string(task.status().container().exit_code()));
}

void node_attributes(const v1::ObjectEvent& event, Shown* shown) {
  const v1::Node& node = event.node();
  shown->name = node.description().hostname();
  shown->attributes.emplace_back("state", node_state_name(node.status().state()));
  shown->attributes.emplace_back("availability", availability_name(node.spec().availability()));
  if (!node.status().message().empty())
    shown->attributes.emplace_back("message", node.status().message());
  if (!event.has_old_node()) return;
  // What changed, in the words of Docker's node events.
  const v1::Node& old = event.old_node();
  const auto change = [shown](const char* key, const std::string& before,
                              const std::string& after) {
    if (before == after) return;
    shown->attributes.emplace_back(std::string(key) + ".old", before);
    shown->attributes.emplace_back(std::string(key) + ".new", after);
  };
  change("state", node_state_name(old.status().state()), node_state_name(node.status().state()));
  change("availability", availability_name(old.spec().availability()),
         availability_name(node.spec().availability()));
  change("role", role_name(old.role()), role_name(node.role()));
}

template <class T>
void plain(const char* type, const T& object, Shown* shown) {
  shown->type = type;
  shown->id = object.id();
  shown->name = object.spec().annotations().name();
}

Shown show(const v1::ObjectEvent& event) {
  Shown shown;
  shown.action = action_name(event.action());
  switch (event.object_case()) {
    case v1::ObjectEvent::kService:
      shown.type = "service";
      shown.id = event.service().id();
      service_attributes(event, &shown);
      break;
    case v1::ObjectEvent::kTask:
      shown.type = "task";
      shown.id = event.task().id();
      task_attributes(event, &shown);
      break;
    case v1::ObjectEvent::kNode:
      shown.type = "node";
      shown.id = event.node().id();
      node_attributes(event, &shown);
      break;
    case v1::ObjectEvent::kNetwork:
      plain("network", event.network(), &shown);
      if (!event.network().allocation_error().empty())
        shown.attributes.emplace_back("error", event.network().allocation_error());
      break;
    case v1::ObjectEvent::kSecret: plain("secret", event.secret(), &shown); break;
    case v1::ObjectEvent::kConfig: plain("config", event.config(), &shown); break;
    case v1::ObjectEvent::kVolume: plain("volume", event.volume(), &shown); break;
    case v1::ObjectEvent::kCluster: plain("cluster", event.cluster(), &shown); break;
    case v1::ObjectEvent::OBJECT_NOT_SET: shown.type = "unknown"; break;
  }
  if (!shown.name.empty()) shown.attributes.emplace_back("name", shown.name);
  std::sort(shown.attributes.begin(), shown.attributes.end());
  return shown;
}

// A task that was let go though some nodes had not said that they lead nothing to it any more.
std::optional<Shown> show_unacknowledged(const v1::ObjectEvent& event) {
  if (event.object_case() != v1::ObjectEvent::kTask || !event.has_old_task()) return std::nullopt;
  const v1::Task& task = event.task();
  const v1::Drain& drain = task.drain();
  if (drain.missing_nodes().empty() || !event.old_task().drain().missing_nodes().empty())
    return std::nullopt;
  Shown shown{"task", "unacknowledged", task.id(), task.name(), {}};
  std::string nodes = join({drain.missing_nodes().begin(), drain.missing_nodes().end()}, ",");
  if (drain.missing_more() != 0) nodes += fmt::format(" and {} more", drain.missing_more());
  shown.attributes.emplace_back("missing", std::move(nodes));
  shown.attributes.emplace_back("name", task.name());
  if (!task.node_id().empty()) shown.attributes.emplace_back("node", task.node_id());
  shown.attributes.emplace_back("service", task.service_id());
  return shown;
}

// A node that mended its kernel's network: something else than musterd changes it.
std::optional<Shown> show_repaired(const v1::ObjectEvent& event) {
  if (event.object_case() != v1::ObjectEvent::kNode || !event.has_old_node()) return std::nullopt;
  const v1::Node& node = event.node();
  const v1::NetworkRepairs& old = event.old_node().description().network_repairs();
  const v1::NetworkRepairs& now = node.description().network_repairs();
  if (now.at_ns() <= old.at_ns()) return std::nullopt;
  // They are counted anew when musterd is started.
  const uint64_t before = now.differences() >= old.differences() ? old.differences() : 0;
  const uint64_t mended = now.differences() - before;
  const auto newest =
      static_cast<std::ptrdiff_t>(std::min(mended, static_cast<uint64_t>(now.last_size())));
  Shown shown{"node", "repair", node.id(), node.description().hostname(), {}};
  shown.attributes.emplace_back("differences", std::to_string(mended));
  shown.attributes.emplace_back("name", node.description().hostname());
  shown.attributes.emplace_back("repaired",
                                join({now.last().end() - newest, now.last().end()}, "; "));
  return shown;
}

boost::json::object event_json(const Shown& shown, int64_t time_ns, uint64_t version) {
  boost::json::object attributes;
  for (const auto& [key, value] : shown.attributes) attributes[key] = value;
  boost::json::object actor;
  actor["ID"] = shown.id;
  actor["Attributes"] = std::move(attributes);
  boost::json::object out;
  out["Type"] = shown.type;
  out["Action"] = shown.action;
  out["Actor"] = std::move(actor);
  out["scope"] = "swarm";
  out["time"] = time_ns / 1'000'000'000;
  out["timeNano"] = time_ns;
  out["version"] = version;
  return out;
}

std::string event_text(const Shown& shown, int64_t time_ns) {
  std::vector<std::string> attributes;
  for (const auto& [key, value] : shown.attributes) attributes.push_back(key + "=" + value);
  return fmt::format("{} {} {} {} ({})", format_rfc3339(WallTime{time_ns}), shown.type,
                     shown.action, shown.id, join(attributes, ", "));
}

Status print_event(Run& run, const Shown& shown, int64_t time_ns, uint64_t version,
                   const std::string& format) {
  if (format.empty()) {
    run.line(event_text(shown, time_ns));
    return ok_status();
  }
  const auto json = event_json(shown, time_ns, version);
  if (format == "json") {
    run.line(template_json(json));
    return ok_status();
  }
  MUSTER_ASSIGN(const std::string text, expand_template(format, json));
  run.line(text);
  return ok_status();
}

// Whether an attribute says that the event concerns the object, or is of the object's own kind.
bool concerns(const Filters& filters, const Shown& shown, const std::string& kind) {
  if (!filters.has(kind)) return true;
  if (shown.type == kind)
    return filters.equals(kind, shown.name) || filters.prefixes(kind, shown.id);
  // Tasks belong to a service and a node; other kinds to neither.
  if (shown.type != "task" || (kind != "service" && kind != "node")) return false;
  for (const auto& [key, value] : shown.attributes)
    if (key == kind && filters.prefixes(kind, value)) return true;
  // "web.1" and "web.<node id>" are of the service web.
  return kind == "service" && filters.equals(kind, shown.name.substr(0, shown.name.rfind('.')));
}

bool passes(const Filters& filters, const Shown& shown) {
  for (const char* kind : {"service", "node", "network", "task", "secret", "config", "volume"})
    if (!concerns(filters, shown, kind)) return false;
  return filters.equals("type", shown.type) && filters.equals("event", shown.action) &&
         filters.equals("scope", "swarm");
}

// The events of one invocation, from its first watch to its end.
class EventFeed {
 public:
  EventFeed(Run& run, const Filters& filters, std::string format, int64_t from, int64_t to)
      : run_(run),
        filters_(filters),
        format_(std::move(format)),
        from_(from),
        to_(to),
        began_ns_(run.world.now_ns()) {}

  Result<int> follow(v1::WatchRequest request, Signals& signals);

 private:
  // True when the end of the time asked for was seen.
  Result<bool> print(const v1::WatchResponse& message);
  // Whether a watch that broke off can go on; takes care of what may have been missed.
  bool resume(const Status& why, v1::WatchRequest* request, Signals& signals);
  void tell(LeaderWatch::Change change);
  // Until something comes, or `until` (Unix time), or the leader is to be asked for.
  void wait(int stream_fd, Signals& signals, int64_t until);

  Run& run_;
  LeaderWatch leader_{run_};
  const Filters& filters_;
  const std::string format_;
  const int64_t from_, to_;
  uint64_t seen_ = 0;  // the version of the last message
  const int64_t began_ns_;
  int64_t lost_at_ns_ = 0;  // when the connection went; 0 while it is there
  bool told_incomplete_ = false;
};

// How long a manager that went away is waited for.
constexpr int64_t kResumeLimitNs = 30'000'000'000;

Result<bool> EventFeed::print(const v1::WatchResponse& message) {
  lost_at_ns_ = 0;
  if (message.time_ns() > to_) return true;
  if (message.incomplete() && !std::exchange(told_incomplete_, true))
    run_.warn("the earliest events are no longer kept");
  seen_ = std::max(seen_, message.version());
  if (message.time_ns() < from_) return false;
  for (const auto& event : message.events()) {
    const Shown shown = show(event);
    if (passes(filters_, shown))
      MUSTER_TRY(print_event(run_, shown, message.time_ns(), message.version(), format_));
    for (const auto& more : {show_unacknowledged(event), show_repaired(event)}) {
      if (more && passes(filters_, *more))
        MUSTER_TRY(print_event(run_, *more, message.time_ns(), message.version(), format_));
    }
  }
  return false;
}

bool EventFeed::resume(const Status& why, v1::WatchRequest* request, Signals& signals) {
  if (why.reason() == "history-gone" && seen_ != 0) {
    run_.warn("events are missing here: " + why.message());
    seen_ = 0;
    request->clear_resume_from();
    request->clear_since_ns();
    return true;
  }
  // Only what had begun is taken up again: whoever cannot reach a manager is told so at once.
  // A server that stops cancels what is under way.
  const bool stopped = why.reason() == "connection-lost" || why.code() == StatusCode::kCancelled;
  const bool begun = seen_ != 0 || lost_at_ns_ != 0 || stopped;
  const bool gone =
      stopped || why.code() == StatusCode::kUnavailable || why.reason() == "slow-watcher";
  if (!gone || !begun) return false;
  const int64_t now = run_.world.now_ns();
  if (lost_at_ns_ == 0) lost_at_ns_ = now;
  if (now - lost_at_ns_ > kResumeLimitNs) return false;
  if (seen_ != 0) {
    request->clear_since_ns();
    request->set_resume_from(seen_);
  } else if (request->since_ns() == 0) {
    request->set_since_ns(began_ns_);
  }
  wait_readable({signals.fd()}, 200);
  return true;
}

void EventFeed::tell(LeaderWatch::Change change) {
  if (change == LeaderWatch::Change::kFound) run_.warn("muster: the swarm has a leader again");
  if (change != LeaderWatch::Change::kLost) return;
  run_.warn(
      fmt::format("muster: the swarm does not have a leader: this manager's copy of the "
                  "events may be old{} (`muster node ls` says how many managers are missing)",
                  to_ <= began_ns_ ? "" : "; new ones come when there is one again"));
}

void EventFeed::wait(int stream_fd, Signals& signals, int64_t until) {
  until = std::min(until, leader_.wake());
  const int64_t left = std::max<int64_t>(0, until - run_.world.now_ns());
  wait_readable({stream_fd, signals.fd(), leader_.fd()},
                until == INT64_MAX ? std::nullopt : std::optional(left / 1'000'000 + 1));
}

Result<int> EventFeed::follow(v1::WatchRequest request, Signals& signals) {
  auto stream = run_.client().watch(request);
  tell(leader_.first(signals));
  for (;;) {
    tell(leader_.look());
    v1::WatchResponse message;
    while (stream->pop(&message)) {
      MUSTER_ASSIGN(const bool over, print(message));
      if (over) return 0;
    }
    if (signals.pop() != 0) return 130;
    if (run_.world.out_status) MUSTER_TRY(run_.world.out_status());
    if (stream->ended()) {
      const Status status = stream->status();
      if (status.ok()) return 0;
      if (!resume(status, &request, signals)) return fail(status);
      stream = run_.client().watch(request);
      continue;
    }
    if (request.until_present() || run_.world.now_ns() < to_) {
      wait(stream->fd(), signals, request.until_present() ? INT64_MAX : to_);
    } else if (seen_ != 0) {
      // The time has come; what happened before it may still be on its way.
      request.clear_since_ns();
      request.set_resume_from(seen_);
      request.set_until_present(true);
      stream = run_.client().watch(request);
    } else {
      return 0;
    }
  }
}

}  // namespace

Result<int> events(Run& run) {
  std::string since, until, format;
  Filters filters;
  run.flags.value("since", &since, "TIME", "events since a time or for a duration (10m)");
  run.flags.value("until", &until, "TIME", "stop at this time");
  run.flags.value("format", &format, "FORMAT", "json or a template");
  run.flags.custom("filter,f", "KEY=VALUE",
                   "type=, event=, service=, node=, network=, task=, secret=, config=",
                   [&](const std::string& text) { return filters.add(text); });
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(filters.check({"type", "event", "scope", "service", "node", "network", "task",
                            "secret", "config", "volume"}));
  const int64_t now = run.world.now_ns();
  int64_t from = 0;
  int64_t to = INT64_MAX;
  if (!since.empty()) {
    MUSTER_ASSIGN(from, parse_moment(since, now));
  }
  if (!until.empty()) {
    MUSTER_ASSIGN(to, parse_moment(until, now));
  }
  Signals signals({SIGINT, SIGTERM});
  v1::WatchRequest request;
  request.set_include_old(true);
  for (const auto& type : filters.of("type")) request.add_kinds(type);
  if (!since.empty()) request.set_since_ns(std::max<int64_t>(from, 1));
  request.set_until_present(to <= now);
  return EventFeed(run, filters, format, from, to).follow(std::move(request), signals);
}

}  // namespace muster::deploy::cli
