// muster-bench SUITE [--peer] [--runs N] [--json]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#ifdef MUSTER_BENCH_DEPLOY
#include "tests/bench/deploy_suite.h"
#endif
#ifdef MUSTER_BENCH_FAILOVER
#include "tests/bench/converge_suite.h"
#include "tests/bench/failover_suite.h"
#endif
#ifdef MUSTER_BENCH_RAFT
#include "tests/bench/raft_member.h"
#include "tests/bench/raft_suite.h"
#endif
#include "tests/bench/clients_suite.h"
#include "tests/bench/endpoints_suite.h"
#include "tests/bench/mesh_suite.h"
#include "tests/bench/report.h"
#include "tests/bench/schedule_suite.h"
#include "tests/bench/snapshot_suite.h"
#include "tests/bench/store_suite.h"

namespace muster::bench {
namespace {

Status run_schedule_suite(const SuiteOptions& options, Report& report) {
  for (const ScheduleCase& full : schedule_cases(!options.smoke)) {
    ScheduleCase c = full;
    if (!options.only.empty() && options.only != c.name) continue;
    if (options.smoke) {
      c.nodes /= 10;
      c.services = c.services > 10 ? c.services / 10 : c.services;
      c.tasks /= 10;
    }
    for (int run = 0; run < options.runs; ++run) {
      MUSTER_ASSIGN(const ScheduleResult result,
                    run_schedule_case(c, static_cast<uint64_t>(run) + 1));
      report.add(c.name, "s", result.total_s);
      report.add("decide." + c.name, "s", result.decide_s);
      report.add("rss_peak." + c.name, "MiB", result.rss_peak_mib);
    }
  }
  return ok_status();
}

std::vector<Suite> suites() {
  return {
#ifdef MUSTER_BENCH_DEPLOY
      {"deploy", "one node: create, scale, update, memory, what survives a kill", run_deploy_suite},
#endif
#ifdef MUSTER_BENCH_FAILOVER
      {"converge", "ten nodes: from a task's RUNNING until every node reaches it",
       run_converge_suite},
      {"failover", "three managers: what a lost leader costs; lost workers", run_failover_suite},
#endif
#ifdef MUSTER_BENCH_RAFT
      {"raft", "writes through the leader of three members, beside etcd", run_raft_suite},
#endif
      {"clients", "virtual addresses in the namespaces of containers: memory, time",
       run_clients_suite},
      {"endpoints", "what a node pays that is told of 1,000 endpoints: memory, processor time",
       run_endpoints_suite},
      {"mesh", "bytes and connections through virtual addresses, tunnels and published ports",
       run_mesh_suite},
      {"snapshot", "what a snapshot of 100,000 tasks costs those who write meanwhile",
       run_snapshot_suite},
      {"store", "transactions, snapshots, watch and replay of the store", run_store_suite},
      {"schedule", "placing tasks, decisions and transactions, no disk", run_schedule_suite}};
}

int run(int argc, char** argv) {
  CLI::App app("Measures muster.");
  std::string name;
  SuiteOptions options;
  bool json = false;
  app.add_option("SUITE", name, "one of the suites below")->required();
  app.add_flag("--peer", options.peer, "measure the peer too, where it can be installed");
  app.add_option("--runs", options.runs, "runs of each figure")->check(CLI::Range(1, 10'000));
  app.add_flag("--json", json, "one JSON object instead of a table");
  app.add_option("--only", options.only, "one case of the suites schedule and raft");
  app.add_option("--balancer", options.balancer,
                 "what leads virtual addresses in the suites mesh and endpoints")
      ->check(CLI::IsMember({"nftables", "ipvs"}));
  app.add_flag("--smoke", options.smoke, "small sizes: checks that it works, measures nothing");
  std::string footer = "Suites:";
  for (const Suite& suite : suites())
    footer += fmt::format("\n  {:<10} {}", suite.name, suite.what);
  app.footer(footer);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  for (const Suite& suite : suites()) {
    if (suite.name != name) continue;
    Report report;
    if (const Status status = suite.run(options, report); !status.ok()) {
      fmt::print(stderr, "muster-bench: {}: {}\n", name, status.message());
      return 1;
    }
    fmt::print("{}", json ? report.json(name) : report.table(name));
    return 0;
  }
  fmt::print(stderr, "muster-bench: there is no suite {}\n{}\n", name, footer);
  return 2;
}

}  // namespace
}  // namespace muster::bench

int main(int argc, char** argv) {
#ifdef MUSTER_BENCH_RAFT
  // A part of the suite raft, as a process of its own.
  if (argc > 1 && std::string_view(argv[1]) == "raft-member")
    return muster::bench::raft_member_main(argc - 1, argv + 1);
#endif
  // Clients that wait for nobody leave gRPC without a thread that would see a connection come
  // about, but for one that looks every 5 s.
  setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "20", 0);
  return muster::bench::run(argc, argv);
}
