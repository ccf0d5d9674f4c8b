#include <algorithm>

#include "base/time.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/task_table.h"

namespace muster::deploy::cli {
namespace {

constexpr size_t kCommandShown = 20;

std::string command_text(const std::string& command, bool no_trunc) {
  return fmt::format("\"{}\"", no_trunc ? command : shorten(command, kCommandShown));
}

// "web" of the task "web.1".
std::string service_of(const v1::Container& container) {
  return container.task_name().substr(0, container.task_name().rfind('.'));
}

std::string status_text(const v1::Container& container, int64_t now_ns) {
  const auto since = [now_ns](int64_t then) {
    return human_duration(Duration(std::max<int64_t>(now_ns - then, 0)));
  };
  if (container.state() == "running") {
    const std::string up = "Up " + since(container.started_at_ns());
    const std::string& health = container.health();
    if (health.empty()) return up;
    return fmt::format("{} ({}{})", up, health == "starting" ? "health: " : "", health);
  }
  if (container.state() == "exited")
    return fmt::format("Exited ({}) {} ago", container.exit_code(),
                       since(container.finished_at_ns()));
  std::string text = container.state();
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

// A row of `muster stats`, as docker shows it.
std::vector<std::string> stats_row(const v1::ContainerStats& stats) {
  const double memory_percent = stats.memory_limit_bytes() == 0
                                    ? 0.0
                                    : 100.0 * static_cast<double>(stats.memory_bytes()) /
                                          static_cast<double>(stats.memory_limit_bytes());
  return {short_id(stats.id()),
          stats.name(),
          fmt::format("{:.2f}%", stats.cpu_millipercent() / 1000.0),
          fmt::format("{} / {}", binary_size(stats.memory_bytes()),
                      binary_size(stats.memory_limit_bytes())),
          fmt::format("{:.2f}%", memory_percent),
          fmt::format("{} / {}", human_size(stats.network_rx_bytes()),
                      human_size(stats.network_tx_bytes())),
          fmt::format("{} / {}", human_size(stats.block_read_bytes()),
                      human_size(stats.block_write_bytes())),
          std::to_string(stats.pids())};
}

Listing stats_listing(const v1::StatsResponse& response) {
  Listing listing({{"ID", "CONTAINER ID"},
                   {"Name", "NAME"},
                   {"CPUPerc", "CPU %"},
                   {"MemUsage", "MEM USAGE / LIMIT"},
                   {"MemPerc", "MEM %"},
                   {"NetIO", "NET I/O"},
                   {"BlockIO", "BLOCK I/O"},
                   {"PIDs", "PIDS"}});
  std::vector<v1::ContainerStats> sorted(response.containers().begin(),
                                         response.containers().end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return natural_less(a.name(), b.name()); });
  for (const auto& stats : sorted) listing.add(stats_row(stats));
  return listing;
}

}  // namespace

Result<int> container_ps(Run& run) {
  ListOptions options;
  bool all = false;
  options.declare(run.flags, true);
  run.flags.toggle("all,a", &all, "ended containers too");
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(options.filters.check({"id", "name", "label", "status", "service", "health"}));
  v1::ListContainersRequest request;
  for (const std::string& health : options.filters.of("health"))
    if (health != "starting" && health != "healthy" && health != "unhealthy" && health != "none")
      return fail(usage_error(fmt::format("invalid filter 'health={}'", health)));
  request.set_all(all || options.filters.has("status"));
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  std::vector<v1::Container> containers(response.containers().begin(), response.containers().end());
  std::stable_sort(containers.begin(), containers.end(), [](const auto& a, const auto& b) {
    return a.created_at_ns() > b.created_at_ns();
  });
  Listing listing({{"ID", "CONTAINER ID"},
                   {"Image", "IMAGE"},
                   {"Command", "COMMAND"},
                   {"RunningFor", "CREATED"},
                   {"Status", "STATUS"},
                   {"Ports", "PORTS"},
                   {"Names", "NAMES"},
                   {"State", "STATE", false},
                   {"CreatedAt", "CREATED AT", false},
                   {"TaskID", "TASK ID", false},
                   {"Pid", "PID", false},
                   {"Health", "HEALTH", false}});
  const int64_t now = run.world.now_ns();
  for (const auto& container : containers) {
    const auto& filters = options.filters;
    if (!filters.prefixes("id", container.id()) || !filters.prefixes("name", container.name()) ||
        !filters.equals("status", container.state()) ||
        !filters.equals("health", container.health().empty() ? "none" : container.health()) ||
        !(filters.equals("service", container.service_id()) ||
          filters.equals("service", service_of(container))) ||
        !filters.labels("label", container.labels()))
      continue;
    listing.add({options.id(container.id()), image_text(container.image(), options.no_trunc),
                 command_text(container.command(), options.no_trunc),
                 time_ago(now, container.created_at_ns()), status_text(container, now),
                 ports_text(container.ports(), false), container.name(), container.state(),
                 format_rfc3339(WallTime{container.created_at_ns()}), container.task_id(),
                 container.pid() == 0 ? std::string() : std::to_string(container.pid()),
                 container.health()});
  }
  MUSTER_TRY(options.print(run, listing));
  return 0;
}

Result<int> container_stats(Run& run) {
  std::string format;
  bool no_stream = false;
  bool all = false;
  run.flags.value("format", &format, "FORMAT", "table, json, 'table TEMPLATE' or a template");
  run.flags.toggle("no-stream", &no_stream, "only the first result");
  run.flags.toggle("all,a", &all, "accepted for compatibility");
  MUSTER_TRY(run.parse(0, -1));
  v1::StatsRequest request;
  for (const auto& name : run.args) request.add_containers(name);
  request.set_stream(!no_stream);
  const bool live = run.world.out_is_terminal && !no_stream;
  const auto stream = run.client().stats(request);
  for (;;) {
    v1::StatsResponse response;
    while (stream->pop(&response)) {
      MUSTER_ASSIGN(std::string text, stats_listing(response).render(format));
      if (live) {
        // Home, each line cleared to its end, and what is left below it.
        std::string painted = "\x1b[H";
        for (const std::string& line : split(text, '\n')) painted += line + "\x1b[K\r\n";
        text = painted + "\x1b[J";
      }
      run.out(text);
      if (no_stream) return 0;
    }
    if (stream->ended()) break;
    wait_readable({stream->fd()}, std::nullopt);
  }
  MUSTER_TRY(stream->status());
  return 0;
}

}  // namespace muster::deploy::cli
