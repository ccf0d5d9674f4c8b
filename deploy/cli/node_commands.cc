#include <algorithm>
#include <map>
#include <set>

#include "base/time.h"

#include "deploy/cli/commands.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/docker_json_parts.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/names.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/spec_flags.h"
#include "deploy/cli/swarm_text.h"
#include "deploy/cli/task_table.h"

namespace muster::deploy::cli {
namespace {

Result<v1::Node> get_node(Run& run, const std::string& name) {
  v1::GetNodeRequest request;
  request.set_node(name);
  MUSTER_ASSIGN(auto response, run.client().call(request));
  return std::move(*response.mutable_node());
}

std::string manager_text(const v1::Node& node) {
  if (!node.has_manager_status()) return "";
  if (node.manager_status().leader()) return "Leader";
  if (node.manager_status().learner()) return "Joining";
  return node.manager_status().reachable() ? "Reachable" : "Unreachable";
}

std::string tls_text(const v1::Node& node, const std::set<std::string>& to_renew) {
  if (to_renew.contains(node.id()) || to_renew.contains(node.description().hostname()))
    return "Needs Rotation";
  return node.description().has_tls() ? "Ready" : "Unknown";
}

void print_labels(std::string* out, const char* title,
                  const google::protobuf::RepeatedPtrField<v1::KeyValue>& labels) {
  if (labels.empty()) return;
  *out += fmt::format("{}:\n", title);
  for (const auto& label : labels) {
    *out += label.value().empty() ? fmt::format(" - {}\n", label.key())
                                  : fmt::format(" - {}={}\n", label.key(), label.value());
  }
}

// As Go prints a time: "2026-01-31 08:05:00.5 +0000 utc".
std::string go_time(int64_t unix_ns) {
  std::string text = format_rfc3339({unix_ns});
  text.pop_back();  // Z
  text[text.find('T')] = ' ';
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " +0000 utc";
}

void print_about(std::string* out, const v1::NodeDescription& about) {
  *out += fmt::format("Platform:\n Operating System:\t{}\n Architecture:\t\t{}\n",
                      about.platform().os(), about.platform().architecture());
  *out += fmt::format("Resources:\n CPUs:\t\t\t{}\n Memory:\t\t{}\n",
                      about.resources().nano_cpus() / 1'000'000'000,
                      binary_size(static_cast<uint64_t>(about.resources().memory_bytes())));
  for (const auto& resource : about.resources().generic())
    *out += fmt::format(" {}:\t\t\t{}\n", resource.kind(),
                        resource.names().empty()
                            ? std::to_string(resource.count())
                            : join({resource.names().begin(), resource.names().end()}, ", "));
  std::map<std::string, std::vector<std::string>> plugins;
  for (const auto& plugin : about.engine().plugins())
    plugins[plugin.type()].push_back(plugin.name());
  if (!plugins.empty()) *out += "Plugins:\n";
  for (const auto& [type, names] : plugins)
    *out += fmt::format(" {}:\t\t{}\n", type, join(names, ", "));
  *out += fmt::format("Engine Version:\t\t{}\n", about.engine().version());
  if (!about.data_path().address().empty()) {
    *out += fmt::format("Data Path:\n Address:\t\t{}\n", about.data_path().address());
    if (about.data_path().mtu() != 0)
      *out += fmt::format(" MTU:\t\t\t{}\n", about.data_path().mtu());
  }
  print_labels(out, "Engine Labels", about.engine().labels());
  for (const auto& limitation : about.limitations())
    *out += fmt::format("Limitation:\t\t{}\n", limitation);
  const v1::NetworkRepairs& repairs = about.network_repairs();
  if (repairs.differences() == 0) return;
  *out += fmt::format("Network repairs:\t{} since musterd was started, last {}\n",
                      repairs.differences(), go_time(repairs.at_ns()));
  for (const auto& what : repairs.last()) *out += fmt::format(" Repaired:\t\t{}\n", what);
}

std::string node_pretty(const v1::Node& node) {
  std::string out = fmt::format("ID:\t\t\t{}\n", node.id());
  print_labels(&out, "Labels", node.spec().annotations().labels());
  out += fmt::format("Hostname:              \t{}\nJoined at:             \t{}\n",
                     node.description().hostname(), go_time(node.meta().created_at_ns()));
  out += fmt::format("Status:\n State:\t\t\t{}\n",
                     capitalized(node_state_name(node.status().state())));
  if (!node.status().message().empty())
    out += fmt::format(" Message:\t\t{}\n", node.status().message());
  out += fmt::format(" Availability:\t\t{}\n",
                     capitalized(availability_name(node.spec().availability())));
  if (!node.status().address().empty())
    out += fmt::format(" Address:\t\t{}\n", node.status().address());
  if (node.has_manager_status())
    out += fmt::format("Manager Status:\n Address:\t\t{}\n Raft Status:\t\t{}\n Leader:\t\t{}\n",
                       node.manager_status().address(),
                       manager_text(node) == "Unreachable" ? "Unreachable" : "Reachable",
                       node.manager_status().leader() ? "Yes" : "No");
  print_about(&out, node.description());
  if (!node.ingress().addresses().empty())
    out += fmt::format(
        "Ingress:\n Index:\t\t\t{}\n Addresses:\t\t{}\n", node.ingress().index(),
        join({node.ingress().addresses().begin(), node.ingress().addresses().end()}, ", "));
  for (const auto& warning : node.warnings()) out += fmt::format("Warning:\t\t{}\n", warning);
  if (node.description().has_tls()) {
    const auto& tls = node.description().tls();
    out += fmt::format(
        "TLS Info:\n TrustRoot:\n{}\n Issuer Subject:\t{}\n Issuer Public Key:\t{}\n"
        " Expires:\t\t{}\n",
        tls.trust_root_pem(), internal::base64(tls.issuer_subject_der()),
        internal::base64(tls.issuer_public_key_der()), go_time(tls.not_after_ns()));
  }
  return out;
}

struct NodeChange {
  v1::Node before;
  std::optional<v1::Node> after;  // nothing when there was nothing to change
};

// Reads the node, changes its spec and writes it; again when somebody was faster, as the manager
// itself often is: what the node says of itself is in the same object. `change` says false when
// there is nothing to change.
constexpr int kChangesMax = 10;
Result<NodeChange> change_node(Run& run, const std::string& name,
                               const std::function<Result<bool>(v1::NodeSpec*)>& change) {
  for (int attempt = 1;; ++attempt) {
    NodeChange out;
    MUSTER_ASSIGN(out.before, get_node(run, name));
    v1::UpdateNodeRequest request;
    request.set_node_id(out.before.id());
    request.set_version(out.before.meta().version());
    *request.mutable_spec() = out.before.spec();
    MUSTER_ASSIGN(const bool changed, change(request.mutable_spec()));
    if (!changed) return out;
    auto updated = run.client().call(request);
    if (updated) {
      out.after = std::move(*updated->mutable_node());
      return out;
    }
    if (updated.error().reason() != "out-of-sequence" || attempt == kChangesMax)
      return fail(updated.error());
  }
}

// Why a demoted node is a manager still; empty when nothing holds that up. Managers say it behind
// what else is known of the node, which is no news.
std::string held_up(const v1::Node& before, const v1::Node& after) {
  if (!after.has_manager_status()) return {};
  std::string_view why = after.status().message();
  if (const std::string& known = before.status().message(); why.starts_with(known)) {
    why.remove_prefix(known.size());
    if (why.starts_with("; ")) why.remove_prefix(2);
  }
  return std::string(why);
}

// Only nodes that are not yet what they are asked to be are changed.
Result<int> change_roles(Run& run, v1::NodeSpec::Role to, const char* already, const char* done) {
  MUSTER_TRY(run.parse(1, -1));
  return for_each_name(run, run.args, [&](const std::string& name) -> Status {
    const auto change = [&](v1::NodeSpec* spec) -> Result<bool> {
      if (spec->desired_role() == to) return false;
      spec->set_desired_role(to);
      return true;
    };
    MUSTER_ASSIGN(const NodeChange changed, change_node(run, name, change));
    run.line(fmt::format(fmt::runtime(changed.after ? done : already), name));
    if (to == v1::NodeSpec::MANAGER || !changed.after) return ok_status();
    // `node inspect` goes on saying it.
    const std::string why = held_up(changed.before, *changed.after);
    if (!why.empty()) run.warn(why);
    return ok_status();
  });
}

}  // namespace

Result<int> node_ls(Run& run) {
  ListOptions options;
  options.declare(run.flags, false);
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(options.filters.check({"id", "name", "label", "node.label", "role", "membership"}));
  MUSTER_ASSIGN(const auto response, run.client().call(v1::ListNodesRequest()));
  std::vector<v1::Node> nodes(response.nodes().begin(), response.nodes().end());
  std::sort(nodes.begin(), nodes.end(), [](const v1::Node& a, const v1::Node& b) {
    return natural_less(a.description().hostname(), b.description().hostname());
  });
  Listing listing({{"ID", "ID"},
                   {"Self", "SELF", false},
                   {"Hostname", "HOSTNAME"},
                   {"Status", "STATUS"},
                   {"Availability", "AVAILABILITY"},
                   {"ManagerStatus", "MANAGER STATUS"},
                   {"TLSStatus", "TLS STATUS", false},
                   {"EngineVersion", "ENGINE VERSION"}});
  const bool table = options.format.empty() || options.format == "table";
  std::set<std::string> to_renew;
  if (options.format == "json" || options.format.find("TLSStatus") != std::string::npos) {
    MUSTER_ASSIGN(const auto cluster, run.client().call(v1::GetClusterRequest()));
    to_renew.insert(cluster.nodes_to_renew().begin(), cluster.nodes_to_renew().end());
  }
  for (const auto& node : nodes) {
    const auto& filters = options.filters;
    if (!filters.prefixes("id", node.id()) ||
        !filters.prefixes("name", node.description().hostname()) ||
        !filters.labels("label", node.description().engine().labels()) ||
        !filters.labels("node.label", node.spec().annotations().labels()) ||
        !filters.equals("role", role_name(node.role())) ||
        !filters.equals("membership", "accepted"))
      continue;
    const bool self = node.id() == response.self_id();
    // The default table shows the own node with a star beside the id, as Docker's does.
    const std::string id = table && !options.quiet ? node.id() + (self ? " *" : "  ") : node.id();
    listing.add({id, self ? "true" : "false", node.description().hostname(),
                 capitalized(node_state_name(node.status().state())),
                 capitalized(availability_name(node.spec().availability())), manager_text(node),
                 tls_text(node, to_renew), node.description().engine().version()});
  }
  MUSTER_TRY(options.print(run, listing));
  return 0;
}

Result<int> node_inspect(Run& run) {
  std::string format;
  bool pretty = false;
  run.flags.value("format,f", &format, "TEMPLATE", "print through a template");
  run.flags.toggle("pretty", &pretty, "print for people");
  MUSTER_TRY(run.parse(1, -1));
  if (pretty && !format.empty())
    return fail(usage_error("--format is incompatible with human friendly format"));
  boost::json::array objects;
  const int code = for_each_name(run, run.args, [&](const std::string& name) -> Status {
    MUSTER_ASSIGN(const v1::Node node, get_node(run, name));
    if (pretty)
      run.out(node_pretty(node));
    else
      objects.push_back(node_json(node));
    return ok_status();
  });
  if (pretty) return code;
  MUSTER_ASSIGN(const std::string text, render_inspect(objects, format));
  run.out(text);
  return code;
}

Result<int> node_ps(Run& run) {
  ListOptions options;
  TaskTable table;
  options.declare(run.flags, true);
  run.flags.toggle("no-resolve", &table.no_resolve, "show ids instead of names");
  MUSTER_TRY(run.parse(0, -1));
  std::vector<std::string> names = run.args;
  if (names.empty()) names.push_back("self");
  v1::ListFilter filter;
  const int code = for_each_name(run, names, [&](const std::string& name) -> Status {
    MUSTER_ASSIGN(const v1::Node node, get_node(run, name));
    filter.add_node_ids(node.id());
    return ok_status();
  });
  if (filter.node_ids().empty()) return code;
  MUSTER_TRY(table.fetch(run, filter));
  MUSTER_TRY(table.fetch_nodes(run));
  MUSTER_TRY(table.apply(options.filters));
  MUSTER_TRY(options.print(run, table.listing(options, run.world.now_ns())));
  return code;
}

Result<int> node_update(Run& run) {
  std::string role, availability;
  std::vector<std::string> label_add, label_rm;
  run.flags.value("role", &role, "worker|manager", "role of the node");
  run.flags.value("availability", &availability, "active|pause|drain", "availability of the node");
  run.flags.list("label-add", &label_add, "K[=V]", "add or change a label");
  run.flags.list("label-rm", &label_rm, "K", "remove a label");
  MUSTER_TRY(run.parse(1, 1));
  if (!role.empty() && role != "worker" && role != "manager")
    return fail(usage_error(fmt::format("invalid role \"{}\": worker or manager", role)));
  std::optional<v1::NodeSpec::Availability> wanted;
  if (!availability.empty()) {
    MUSTER_ASSIGN(wanted, parse_availability(availability));
  }
  const auto change = [&](v1::NodeSpec* spec) -> Result<bool> {
    if (!role.empty())
      spec->set_desired_role(role == "manager" ? v1::NodeSpec::MANAGER : v1::NodeSpec::WORKER);
    if (wanted) spec->set_availability(*wanted);
    auto* labels = spec->mutable_annotations()->mutable_labels();
    for (const std::string& key : label_rm) {
      const int before = labels->size();
      remove_pair(labels, key);
      if (labels->size() == before)
        return fail(not_found("key {} doesn't exist in node's labels", key));
    }
    for (const std::string& text : label_add) set_pair(labels, parse_key_value(text));
    return true;
  };
  const auto changed = change_node(run, run.args[0], change);
  if (!changed) return fail(changed.error());
  run.line(run.args[0]);
  return 0;
}

Result<int> node_promote(Run& run) {
  return change_roles(run, v1::NodeSpec::MANAGER, "Node {} is already a manager.",
                      "Node {} promoted to a manager in the swarm.");
}

Result<int> node_rm(Run& run) {
  bool force = false;
  run.flags.toggle("force,f", &force, "remove a node that is not down, too");
  MUSTER_TRY(run.parse(1, -1));
  return for_each_name(run, run.args, [&](const std::string& name) -> Status {
    MUSTER_ASSIGN(const v1::Node node, get_node(run, name));
    v1::RemoveNodeRequest request;
    request.set_node_id(node.id());
    request.set_force(force);
    const auto removed = run.client().call(request);
    if (!removed) return removed.error();
    run.line(name);
    return ok_status();
  });
}

Result<int> node_demote(Run& run) {
  return change_roles(run, v1::NodeSpec::WORKER, "Node {} is already a worker.",
                      "Manager {} demoted in the swarm.");
}

}  // namespace muster::deploy::cli
