#include "deploy/cli/task_table.h"

#include <algorithm>

#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/names.h"

namespace muster::deploy::cli {
namespace {

constexpr size_t kErrorShown = 40;

}  // namespace

std::string revision_id(const v1::Task& task) {
  return fmt::format("{}.{}", task.service_id(), task.revision());
}

Result<std::map<std::string, std::string>> node_names(Run& run) {
  MUSTER_ASSIGN(const auto response, run.client().call(v1::ListNodesRequest()));
  std::map<std::string, std::string> names;
  for (const auto& node : response.nodes())
    names[node.id()] =
        node.description().hostname().empty() ? node.id() : node.description().hostname();
  return names;
}

std::string ports_text(const google::protobuf::RepeatedPtrField<v1::PortConfig>& ports,
                       bool ingress_only) {
  std::vector<std::string> texts;
  for (const auto& port : ports) {
    if (port.published_port() == 0) continue;
    if (ingress_only && port.mode() == v1::PortConfig::HOST) continue;
    const std::string at =
        port.bind().find(':') == std::string::npos ? port.bind() : "[" + port.bind() + "]";
    texts.push_back(fmt::format("{}:{}->{}/{}", at.empty() ? "*" : at, port.published_port(),
                                port.target_port(), protocol_name(port.protocol())));
  }
  std::sort(texts.begin(), texts.end(), natural_less);
  return join(texts, ", ");
}

std::string image_text(const std::string& image, bool no_trunc) {
  const size_t at = image.find('@');
  if (no_trunc || at == std::string::npos) return image;
  return image.substr(0, at);
}

Status TaskTable::fetch(Run& run, const v1::ListFilter& filter) {
  v1::ListTasksRequest request;
  *request.mutable_filter() = filter;
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  tasks.insert(tasks.end(), response.tasks().begin(), response.tasks().end());
  for (const auto& revision : response.revisions()) revisions[revision.id()] = revision;
  return ok_status();
}

Status TaskTable::fetch_nodes(Run& run) {
  if (no_resolve) return ok_status();
  MUSTER_ASSIGN(node_names, cli::node_names(run));
  return ok_status();
}

Status TaskTable::apply(const Filters& filters) {
  MUSTER_TRY(filters.check({"id", "name", "node", "desired-state", "service"}));
  for (const std::string& state : filters.of("desired-state"))
    if (state != "running" && state != "shutdown" && state != "accepted" && state != "ready" &&
        state != "complete" && state != "remove")
      return usage_error(fmt::format("invalid filter 'desired-state={}'", state));
  const auto keep = [&](const v1::Task& task) {
    const auto name = node_names.find(task.node_id());
    const bool node_matches = filters.prefixes("node", task.node_id()) ||
                              (name != node_names.end() && filters.equals("node", name->second));
    const std::string full = task.name() + "." + task.id();
    const std::string service = task.name().substr(0, task.name().rfind('.'));
    return filters.prefixes("id", task.id()) &&
           (filters.prefixes("name", full) || filters.equals("name", task.name())) &&
           filters.equals("desired-state", state_name(task.desired_state())) && node_matches &&
           (filters.equals("service", service) || filters.equals("service", task.service_id()));
  };
  tasks.erase(
      std::remove_if(tasks.begin(), tasks.end(), [&](const v1::Task& task) { return !keep(task); }),
      tasks.end());
  return ok_status();
}

Listing TaskTable::listing(const ListOptions& options, int64_t now_ns) const {
  Listing listing({{"ID", "ID"},
                   {"Name", "NAME"},
                   {"Image", "IMAGE"},
                   {"Node", "NODE"},
                   {"DesiredState", "DESIRED STATE"},
                   {"CurrentState", "CURRENT STATE"},
                   {"Error", "ERROR"},
                   {"Ports", "PORTS"}});
  std::vector<const v1::Task*> sorted;
  for (const auto& task : tasks) sorted.push_back(&task);
  std::stable_sort(sorted.begin(), sorted.end(), [](const v1::Task* a, const v1::Task* b) {
    if (a->name() != b->name()) return natural_less(a->name(), b->name());
    return a->meta().created_at_ns() > b->meta().created_at_ns();
  });
  std::string previous;
  for (const v1::Task* task : sorted) {
    const bool older = task->name() == previous;
    previous = task->name();
    const auto revision = revisions.find(revision_id(*task));
    const std::string image =
        revision == revisions.end() ? "" : revision->second.spec().container().image();
    const auto node = node_names.find(task->node_id());
    std::string error =
        task->status().error().empty() ? running_note(*task) : task->status().error();
    if (!error.empty())
      error = options.no_trunc ? fmt::format("\"{}\"", error)
                               : fmt::format("\"{}\"", shorten(error, kErrorShown));
    const std::string since =
        time_ago(now_ns, task->status().timestamp_ns() != 0 ? task->status().timestamp_ns()
                                                            : task->meta().created_at_ns());
    listing.add(
        {options.id(task->id()), (older && !options.quiet ? " \\_ " : "") + task->name(),
         image_text(image, options.no_trunc),
         node == node_names.end() ? task->node_id() : node->second,
         capitalized(state_name(task->desired_state())),
         fmt::format("{} {}", capitalized(state_name(task->status().state())), lower(since)), error,
         ports_text(task->status().host_ports(), false)});
  }
  return listing;
}

Result<int> task_ls(Run& run) {
  ListOptions options;
  TaskTable table;
  options.declare(run.flags, true);
  run.flags.toggle("no-resolve", &table.no_resolve, "show ids instead of names");
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(table.fetch(run, {}));
  MUSTER_TRY(table.fetch_nodes(run));
  MUSTER_TRY(table.apply(options.filters));
  MUSTER_TRY(options.print(run, table.listing(options, run.world.now_ns())));
  return 0;
}

Result<int> task_inspect(Run& run) {
  std::string format;
  run.flags.value("format,f", &format, "TEMPLATE", "print through a template");
  MUSTER_TRY(run.parse(1, -1));
  boost::json::array objects;
  const int code = for_each_name(run, run.args, [&](const std::string& name) -> Status {
    v1::GetTaskRequest request;
    request.set_task(name);
    MUSTER_ASSIGN(const auto response, run.client().call(request));
    objects.push_back(task_json(response.task(), &response.revision()));
    return ok_status();
  });
  MUSTER_ASSIGN(const std::string text, render_inspect(objects, format));
  run.out(text);
  return code;
}

}  // namespace muster::deploy::cli
