#include <signal.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/wrapped_table.h"

namespace muster::deploy::cli {
namespace {

// In the order in which checks are shown: without the first the later ones cannot be good.
constexpr std::string_view kChecks[] = {"node", "vxlan", "mtu",  "neighbours", "dns",
                                        "vip",  "mesh",  "host", "encryption", "clock"};

const char* verdict_name(v1::NetworkFinding::Verdict verdict) {
  switch (verdict) {
    case v1::NetworkFinding::GOOD: return "good";
    case v1::NetworkFinding::WARNING: return "warning";
    default: return "bad";
  }
}

// What has come of an examination.
class Report {
 public:
  void add(v1::ExamineNetworksResponse message) {
    for (const v1::Node& node : message.nodes()) {
      const std::string& host = node.description().hostname();
      hosts_[node.id()] = host.empty() ? node.id() : host;
      ++nodes_;
    }
    for (const v1::Network& network : message.networks()) {
      networks_[network.id()] = network.spec().annotations().name();
    }
    for (auto& finding : *message.mutable_findings()) findings_.push_back(std::move(finding));
    for (const std::string& id : message.silent_node_ids()) silent_.push_back(id);
  }
  // Hosts of nodes that were not asked.
  void name(const std::string& node_id, const std::string& host) {
    hosts_.try_emplace(node_id, host);
  }
  // They are findings, too.
  void close() {
    for (const std::string& id : silent_) {
      v1::NetworkFinding finding;
      finding.set_node_id(id);
      finding.set_check("node");
      finding.set_verdict(v1::NetworkFinding::BAD);
      finding.set_text(
          "it did not answer, so nothing is known of its networks: its musterd is stopped, hangs, "
          "is older than this one, or lost its session (\"muster node ls\" on a manager, \"muster "
          "info\" there)");
      findings_.push_back(std::move(finding));
    }
    std::stable_sort(findings_.begin(), findings_.end(), [this](const auto& a, const auto& b) {
      const auto key = [this](const v1::NetworkFinding& f) {
        const auto* at = std::find(std::begin(kChecks), std::end(kChecks), f.check());
        return std::tuple(-static_cast<int>(f.verdict()), at - std::begin(kChecks),
                          network(f.network_id()), node(f.node_id()));
      };
      return key(a) < key(b);
    });
  }

  size_t nodes() const { return nodes_; }
  size_t networks() const { return networks_.size(); }
  const std::vector<std::string>& silent() const { return silent_; }
  const std::vector<v1::NetworkFinding>& findings() const { return findings_; }
  size_t count(v1::NetworkFinding::Verdict verdict) const {
    return static_cast<size_t>(
        std::count_if(findings_.begin(), findings_.end(),
                      [verdict](const auto& f) { return f.verdict() == verdict; }));
  }
  std::string node(const std::string& id) const {
    const auto at = hosts_.find(id);
    return at == hosts_.end() ? short_id(id) : at->second;
  }
  std::string network(const std::string& id) const {
    const auto at = networks_.find(id);
    return at == networks_.end() ? short_id(id) : at->second;
  }

  Listing listing(bool good) const {
    Listing out({{"Verdict", "VERDICT"},
                 {"Check", "CHECK"},
                 {"Network", "NETWORK"},
                 {"Node", "NODE"},
                 {"NodeID", "NODE ID", false},
                 {"Peer", "PEER", false},
                 {"PeerID", "PEER ID", false},
                 {"Text", "FINDING"}});
    for (const v1::NetworkFinding& f : findings_) {
      if (!good && f.verdict() == v1::NetworkFinding::GOOD) continue;
      out.add({verdict_name(f.verdict()), f.check(),
               f.network_id().empty() ? "" : network(f.network_id()),
               f.node_id().empty() ? "" : node(f.node_id()), f.node_id(),
               f.peer_id().empty() ? "" : node(f.peer_id()), f.peer_id(), f.text()});
    }
    return out;
  }

  // "3 nodes, 2 networks: 1 bad, 0 warnings; good: vxlan, mtu, dns": checks of which nothing is
  // wrong.
  std::string summary() const {
    std::set<std::string_view> good, wrong;
    for (const v1::NetworkFinding& f : findings_) {
      (f.verdict() == v1::NetworkFinding::GOOD ? good : wrong).insert(f.check());
    }
    std::vector<std::string> names;
    for (const std::string_view check : kChecks) {
      if (good.contains(check) && !wrong.contains(check)) names.emplace_back(check);
    }
    const size_t warnings = count(v1::NetworkFinding::WARNING);
    return fmt::format("{} node{}, {} network{}: {} bad, {} warning{}{}{}", nodes_,
                       nodes_ == 1 ? "" : "s", networks_.size(), networks_.size() == 1 ? "" : "s",
                       count(v1::NetworkFinding::BAD), warnings, warnings == 1 ? "" : "s",
                       names.empty() ? "" : "; good: ", join(names, ", "));
  }

 private:
  size_t nodes_ = 0;
  std::map<std::string, std::string> hosts_, networks_;  // names by id
  std::vector<v1::NetworkFinding> findings_;
  std::vector<std::string> silent_;
};

// Without their names they are told by their ids.
void name_others(Run& run, Report& report) {
  std::set<std::string> strange(report.silent().begin(), report.silent().end());
  for (const auto& finding : report.findings()) strange.insert(finding.node_id());
  if (strange.empty()) return;
  const auto nodes = run.client().call(v1::ListNodesRequest());
  if (!nodes) return;
  for (const v1::Node& node : nodes->nodes()) {
    if (!node.description().hostname().empty()) {
      report.name(node.id(), node.description().hostname());
    }
  }
}

Status print(Run& run, const Report& report, const std::string& format, bool all) {
  if (!format.empty() && format != "table") {
    MUSTER_ASSIGN(const std::string text, report.listing(true).render(format));
    run.out(text);
    return ok_status();
  }
  const bool any = std::any_of(report.findings().begin(), report.findings().end(), [&](auto& f) {
    return all || f.verdict() != v1::NetworkFinding::GOOD;
  });
  if (any) {
    MUSTER_TRY(print_wrapped(run, report.listing(all), "FINDING"));
    run.line("");
  }
  run.line(report.summary());
  return ok_status();
}

}  // namespace

Result<int> network_doctor(Run& run) {
  std::string format, timeout;
  bool json = false, quiet = false, all = false;
  run.flags.value("format,f", &format, "table|json|TEMPLATE",
                  "a table (default), one JSON object a finding, or print each through a template");
  run.flags.toggle("json", &json, "the same as --format json");
  run.flags.toggle("quiet,q", &quiet, "print nothing, the exit code tells");
  run.flags.toggle("all,a", &all, "also list what is good");
  run.flags.value("timeout", &timeout, "DURATION",
                  "how long nodes have for it (default 10s, at most 2m)");
  MUSTER_TRY(run.parse(0, -1));
  if (json && !format.empty() && format != "json") {
    return fail(usage_error("--json and --format contradict each other"));
  }
  if (json) format = "json";
  v1::ExamineNetworksRequest request;
  for (const std::string& name : run.args) request.add_networks(name);
  if (!timeout.empty()) {
    const auto wanted = parse_duration(timeout);
    if (!wanted) return fail(usage_error(fmt::format("--timeout: {}", wanted.error().message())));
    if (*wanted <= Duration(0)) return fail(usage_error("--timeout must be positive"));
    request.set_timeout_ns(wanted->count());
  }
  Signals signals({SIGINT, SIGTERM});
  Report report;
  bool begun = false, last = false;
  const auto stream = run.client().examine_networks(request);
  for (;;) {
    v1::ExamineNetworksResponse message;
    while (stream->pop(&message)) {
      last = last || message.last();
      report.add(std::move(message));
      if (!std::exchange(begun, true) && run.world.out_is_terminal && !quiet) {
        run.world.err(fmt::format("examining {} nodes, {} networks ...\n", report.nodes(),
                                  report.networks()));
      }
    }
    if (stream->ended()) break;
    wait_readable({stream->fd(), signals.fd()}, std::nullopt);
    if (signals.pop() != 0) return 130;
  }
  if (const Status status = stream->status(); !status.ok()) return fail(status);
  if (!last) return fail(unavailable("the examination broke off; ask again"));
  name_others(run, report);
  report.close();
  if (!quiet) MUSTER_TRY(print(run, report, format, all));
  return report.count(v1::NetworkFinding::BAD) > 0 ? 1 : 0;
}

}  // namespace muster::deploy::cli
