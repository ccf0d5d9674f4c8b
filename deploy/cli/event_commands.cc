#include <signal.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <utility>

#include "base/template.h"
#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
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
  if (!task.status().error().empty())
    shown->attributes.emplace_back("error", task.status().error());
  if (task.status().container().has_exit_code())
    shown->attributes.emplace_back("exitCode",
                                   std::to_string(task.status().container().exit_code()));
}

void node_attributes(const v1::ObjectEvent& event, Shown* shown) {
  const v1::Node& node = event.node();
  shown->name = node.description().hostname();
  shown->attributes.emplace_back("state", node_state_name(node.status().state()));
  shown->attributes.emplace_back("availability", availability_name(node.spec().availability()));
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
    case v1::ObjectEvent::kNetwork: plain("network", event.network(), &shown); break;
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

boost::json::object event_json(const Shown& shown, int64_t time_ns) {
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
  return out;
}

std::string event_text(const Shown& shown, int64_t time_ns) {
  std::vector<std::string> attributes;
  for (const auto& [key, value] : shown.attributes) attributes.push_back(key + "=" + value);
  return fmt::format("{} {} {} {} ({})", format_rfc3339(WallTime{time_ns}), shown.type,
                     shown.action, shown.id, join(attributes, ", "));
}

Status print_event(Run& run, const Shown& shown, int64_t time_ns, const std::string& format) {
  if (format.empty()) {
    run.line(event_text(shown, time_ns));
    return ok_status();
  }
  const auto json = event_json(shown, time_ns);
  if (format == "json") {
    run.line(template_json(json));
    return ok_status();
  }
  MUSTER_ASSIGN(const std::string text, expand_template(format, json));
  run.line(text);
  return ok_status();
}

bool passes(const Filters& filters, const Shown& shown) {
  return filters.equals("type", shown.type) && filters.equals("event", shown.action) &&
         filters.equals("scope", "swarm") &&
         (filters.of(shown.type).empty() || filters.equals(shown.type, shown.name) ||
          filters.prefixes(shown.type, shown.id));
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
  v1::WatchRequest request;
  request.set_include_old(true);
  for (const auto& type : filters.of("type")) request.add_kinds(type);
  if (!since.empty()) request.set_since_ns(std::max<int64_t>(from, 1));
  request.set_until_present(to <= now);
  auto stream = run.client().watch(request);
  uint64_t seen = 0;  // the version of the last message
  for (;;) {
    v1::WatchResponse message;
    while (stream->pop(&message)) {
      if (message.time_ns() > to) return 0;
      if (message.incomplete()) run.warn("the earliest events are no longer kept");
      seen = std::max(seen, message.version());
      if (message.time_ns() < from) continue;
      for (const auto& event : message.events()) {
        const Shown shown = show(event);
        if (passes(filters, shown)) MUSTER_TRY(print_event(run, shown, message.time_ns(), format));
      }
    }
    if (stream->ended()) {
      MUSTER_TRY(stream->status());
      return 0;
    }
    const int64_t left = to - run.world.now_ns();
    if (request.until_present() || to == INT64_MAX) {
      wait_readable({stream->fd()}, std::nullopt);
    } else if (left > 0) {
      wait_readable({stream->fd()}, left / 1'000'000 + 1);
    } else if (seen != 0) {
      // The time has come; what happened before it may still be on its way.
      request.clear_since_ns();
      request.set_resume_from(seen);
      request.set_until_present(true);
      stream = run.client().watch(request);
    } else {
      return 0;
    }
  }
}

}  // namespace muster::deploy::cli
