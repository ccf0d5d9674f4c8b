#include <algorithm>
#include <boost/json/array.hpp>

#include "base/template.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/names.h"
#include "deploy/cli/wrapped_table.h"

namespace muster::deploy::cli {
namespace {

namespace json = boost::json;

std::string slot_name(const v1::Service& service, const v1::SlotExplanation& slot) {
  const std::string& name = service.spec().annotations().name();
  const bool global = service.spec().has_global() || service.spec().has_global_job();
  return fmt::format("{}.{}", name, global ? slot.node_id() : std::to_string(slot.slot()));
}

std::string state_of(const v1::SlotExplanation& slot) {
  if (slot.task_id().empty()) return "";
  return capitalized(state_name(slot.state()));
}

json::object explanation_json(const v1::ExplainServiceResponse& response) {
  json::array nodes;
  for (const auto& node : response.nodes()) {
    nodes.push_back(json::object{{"ID", node.node_id()},
                                 {"Hostname", node.hostname()},
                                 {"Fits", node.fits()},
                                 {"Tasks", node.tasks()},
                                 {"Filter", node.filter()},
                                 {"Reason", node.reason()}});
  }
  json::array slots;
  for (const auto& slot : response.slots()) {
    const bool task = !slot.task_id().empty();
    slots.push_back(json::object{{"Name", slot_name(response.service(), slot)},
                                 {"Slot", slot.slot()},
                                 {"TaskID", slot.task_id()},
                                 {"NodeID", slot.node_id()},
                                 {"Hostname", slot.hostname()},
                                 {"State", task ? state_name(slot.state()) : ""},
                                 {"DesiredState", task ? state_name(slot.desired_state()) : ""},
                                 {"Reason", slot.reason()}});
  }
  return {{"ID", response.service().id()},
          {"Name", response.service().spec().annotations().name()},
          {"Mode", mode_name(response.service().spec())},
          {"Nodes", std::move(nodes)},
          {"Tasks", std::move(slots)}};
}

Status print_tables(Run& run, const v1::ExplainServiceResponse& response, bool no_trunc) {
  Listing nodes({{"Hostname", "NODE"},
                 {"Tasks", "TASKS"},
                 {"Fits", "TAKES MORE"},
                 {"Filter", "FILTER"},
                 {"Reason", "REASON"}});
  for (const auto& node : response.nodes()) {
    nodes.add({node.hostname(), std::to_string(node.tasks()), node.fits() ? "yes" : "no",
               node.filter(), node.reason()});
  }
  MUSTER_TRY(print_wrapped(run, nodes, "REASON"));
  run.line("");
  Listing tasks({{"Name", "TASK"},
                 {"ID", "ID"},
                 {"Hostname", "NODE"},
                 {"State", "STATE"},
                 {"Reason", "REASON"}});
  for (const auto& slot : response.slots()) {
    tasks.add({slot_name(response.service(), slot),
               no_trunc ? slot.task_id() : short_id(slot.task_id()), slot.hostname(),
               state_of(slot), slot.reason()});
  }
  return print_wrapped(run, tasks, "REASON");
}

}  // namespace

Result<int> service_explain(Run& run) {
  std::string format;
  bool no_trunc = false;
  run.flags.value("format,f", &format, "table|json|TEMPLATE",
                  "tables (default), one JSON object, or print it through a template");
  run.flags.toggle("no-trunc", &no_trunc, "show whole ids");
  MUSTER_TRY(run.parse(1, 1));
  v1::ExplainServiceRequest request;
  request.set_service(run.args[0]);
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  if (format.empty() || format == "table") {
    MUSTER_TRY(print_tables(run, response, no_trunc));
    return 0;
  }
  json::object object = explanation_json(response);
  if (format == "json") {
    run.line(template_json(object));
    return 0;
  }
  MUSTER_ASSIGN(const std::string text, render_inspect({std::move(object)}, format));
  run.out(text);
  return 0;
}

}  // namespace muster::deploy::cli
