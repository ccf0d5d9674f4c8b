#include "deploy/eval/schedule_suite.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <map>
#include <memory>
#include <vector>

#include "deploy/eval/placement_json.h"
#include "scheduler/explain.h"
#include "scheduler/placement.h"

namespace muster::deploy::eval {
namespace {

namespace json = boost::json;

// Age 0 of a failure.
constexpr WallTime kNow{1'700'000'000'000'000'000};

Result<v1::Revision> revision_from_json(const json::value& value, const std::string& path) {
  ObjectReader in(value, path);
  v1::Revision revision;
  revision.set_service_id(in.text("id"));
  revision.set_number(static_cast<uint64_t>(in.number("revision", 1)));
  if (revision.service_id().empty()) in.complain("id", "given");
  auto& spec = *revision.mutable_spec();
  auto& placement = *spec.mutable_placement();
  for (auto& text : in.texts("constraints")) placement.add_constraints(std::move(text));
  for (auto& text : in.texts("spread")) {
    placement.add_preferences()->set_spread_descriptor(std::move(text));
  }
  placement.set_max_replicas(static_cast<uint64_t>(in.number("max_replicas_per_node")));
  // "linux/amd64"; either half may be empty.
  for (const auto& text : in.texts("platforms")) {
    auto& platform = *placement.add_platforms();
    const size_t slash = text.find('/');
    platform.set_os(text.substr(0, slash));
    if (slash != std::string::npos) platform.set_architecture(text.substr(slash + 1));
  }
  if (const auto* reservations = in.child("reservations")) {
    MUSTER_TRY(resources_from_json(*reservations, in.path("reservations"),
                                   *spec.mutable_resources()->mutable_reservations()));
  }
  // "80/tcp"
  for (const auto& text : in.texts("host_ports")) {
    const size_t slash = text.find('/');
    const std::string protocol = slash == std::string::npos ? "tcp" : text.substr(slash + 1);
    const int64_t number = std::strtoll(text.substr(0, slash).c_str(), nullptr, 10);
    v1::PortConfig& port = *revision.add_ports();
    port.set_mode(v1::PortConfig::HOST);
    port.set_published_port(static_cast<uint32_t>(number));
    if (protocol == "udp") {
      port.set_protocol(v1::PortConfig::UDP);
    } else if (protocol == "sctp") {
      port.set_protocol(v1::PortConfig::SCTP);
    } else if (protocol != "tcp") {
      in.complain("host_ports", "a list like \"80/tcp\"");
    }
    if (number < 1 || number > 65535) in.complain("host_ports", "a list like \"80/tcp\"");
  }
  for (auto& driver : in.texts("volume_drivers")) {
    spec.mutable_container()->add_mounts()->mutable_volume()->set_driver(std::move(driver));
  }
  spec.mutable_log_driver()->set_name(in.text("log_driver"));
  MUSTER_TRY(in.finish());
  return revision;
}

Result<v1::TaskState> state_from_text(const std::string& text, const std::string& path) {
  std::string name = "TASK_";
  for (char c : text) name.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  v1::TaskState state{};
  if (!v1::TaskState_Parse(name, &state)) {
    return fail(invalid_argument("{}: '{}' is not a task state", path, text));
  }
  return state;
}

// One entry may stand for several tasks ("count").
Status tasks_from_json(const json::value& value, const std::string& path,
                       std::vector<v1::Task>& out) {
  ObjectReader in(value, path);
  v1::Task task;
  task.set_service_id(in.text("service"));
  task.set_revision(static_cast<uint64_t>(in.number("revision", 1)));
  task.set_slot(static_cast<uint64_t>(in.number("slot", 1)));
  task.set_node_id(in.text("node"));
  MUSTER_ASSIGN(auto state, state_from_text(in.text("state", "pending"), in.path("state")));
  MUSTER_ASSIGN(auto desired,
                state_from_text(in.text("desired_state", "running"), in.path("desired_state")));
  task.mutable_status()->set_state(state);
  task.set_desired_state(desired);
  const int64_t age = in.number("age_s");
  task.mutable_status()->set_timestamp_ns((kNow - std::chrono::seconds(age)).unix_ns);
  task.mutable_meta()->set_created_at_ns(task.status().timestamp_ns());
  MUSTER_TRY(
      generics_from_json(in.list("generic"), in.path("generic"), *task.mutable_assigned_generic()));
  const std::string id = in.text("id");
  const int64_t count = in.number("count", 1);
  if (count < 1 || count > 1'000'000) in.complain("count", "between 1 and 1000000");
  if (!id.empty() && count > 1) in.complain("id", "absent when count is given");
  MUSTER_TRY(in.finish());
  for (int64_t i = 0; i < count; ++i) {
    v1::Task one = task;
    one.set_slot(task.slot() + static_cast<uint64_t>(i));
    one.set_id(id.empty() ? fmt::format("{}.{}", task.service_id(), one.slot()) : id);
    out.push_back(std::move(one));
  }
  return ok_status();
}

json::object placement_to_json(const scheduler::Decision& decision, const std::string& node) {
  json::object one;
  one["task"] = decision.task->id();
  one["node"] = node;
  if (!decision.generics.empty()) {
    json::array generics;
    for (const auto& g : decision.generics) {
      json::object generic;
      generic["kind"] = g.kind();
      if (g.names_size() > 0) {
        generic["names"] = json::array(g.names().begin(), g.names().end());
      } else {
        generic["count"] = g.count();
      }
      generics.push_back(std::move(generic));
    }
    one["generic"] = std::move(generics);
  }
  return one;
}

// Every node after the round, for one more task of each of the services' newest revisions.
json::array explanations(scheduler::ClusterState& state, const std::vector<std::string>& services,
                         const std::map<std::string, uint64_t>& revisions) {
  json::array all;
  for (const std::string& id : services) {
    json::array nodes;
    for (const auto& verdict : scheduler::explain_nodes(state, id, revisions.at(id))) {
      json::object node;
      node["id"] = state.nodes()[verdict.node].facts.id;
      node["fits"] = verdict.fits;
      node["tasks"] = verdict.tasks;
      if (!verdict.fits) {
        node["filter"] = verdict.filter;
        node["reason"] = verdict.why;
      }
      nodes.push_back(std::move(node));
    }
    json::object one;
    one["service"] = id;
    one["nodes"] = std::move(nodes);
    all.push_back(std::move(one));
  }
  return all;
}

}  // namespace

Result<json::value> eval_schedule(const json::value& input) {
  ObjectReader in(input, "input");
  const json::array& nodes = in.list("nodes");
  const json::array& services = in.list("services");
  const json::array& task_list = in.list("tasks");
  const std::vector<std::string> to_explain = in.texts("explain");
  MUSTER_TRY(in.finish());

  scheduler::ClusterState state;
  scheduler::PendingQueue queue(state);
  scheduler::Placer placer(state, queue);
  std::map<std::string, uint64_t> revisions;
  for (size_t i = 0; i < nodes.size(); ++i) {
    MUSTER_ASSIGN(auto node, node_from_json(nodes[i], fmt::format("nodes[{}]", i)));
    state.put_node(node);
  }
  for (size_t i = 0; i < services.size(); ++i) {
    MUSTER_ASSIGN(auto revision, revision_from_json(services[i], fmt::format("services[{}]", i)));
    state.put_revision(revision);
    uint64_t& newest = revisions[revision.service_id()];
    newest = std::max(newest, revision.number());
  }
  for (const std::string& id : to_explain) {
    if (!revisions.contains(id)) {
      return fail(invalid_argument("explain: there is no service '{}'", id));
    }
  }
  std::vector<v1::Task> tasks;
  for (size_t i = 0; i < task_list.size(); ++i) {
    MUSTER_TRY(tasks_from_json(task_list[i], fmt::format("tasks[{}]", i), tasks));
  }
  std::map<std::string, bool> seen;
  for (v1::Task& task : tasks) {
    if (!seen.emplace(task.id(), true).second) {
      return fail(invalid_argument("two tasks have the id '{}'", task.id()));
    }
    auto shared = std::make_shared<const v1::Task>(std::move(task));
    state.put_task(shared);
    queue.put(shared);
    state.note_failure(*shared);
  }
  placer.wake();
  scheduler::Plan plan = placer.round(kNow, seen.size());
  json::array placements;
  for (const auto& decision : plan.decisions) {
    placements.push_back(placement_to_json(decision, state.nodes()[decision.node].facts.id));
  }
  json::array unplaced;
  for (const auto& u : plan.unplaced) {
    json::object one;
    one["task"] = u.task->id();
    one["reason"] = plan.reasons[u.reason];
    unplaced.push_back(std::move(one));
  }
  json::object result;
  result["placements"] = std::move(placements);
  result["unplaced"] = std::move(unplaced);
  if (!to_explain.empty()) result["explained"] = explanations(state, to_explain, revisions);
  return json::value(std::move(result));
}

}  // namespace muster::deploy::eval
