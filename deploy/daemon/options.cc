#include "deploy/daemon/options.h"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <map>

#include "deploy/daemon/config_file.h"

namespace muster::daemon {
namespace {

constexpr const char* kDefaultConfig = "/etc/muster/musterd.yaml";

constexpr Duration kDnsTtlMax = 1h;

constexpr const char* kFooter = R"(
musterd starts outside any swarm and waits for "muster swarm init" on its socket.
Every flag has a key of the same name in the configuration file, for example:

  data-dir: /srv/muster
  log-level: debug
  label: [zone=a, disk=ssd]
  insecure-registry: [10.0.0.5:5000]
)";

}  // namespace

Result<Options> parse_options(int argc, const char* const* argv) {
  Options options;
  std::string config;
  std::string log_format = "text";
  std::string data_dir, run_dir, dns_ttl;
  CLI::App app{"The muster daemon: runs on every host, as a worker and, if asked, as a manager.",
               "musterd"};
  app.footer(kFooter);
  app.add_option("--config", config, "Configuration file")->default_str(kDefaultConfig);
  app.add_option("--data-dir", data_dir, "State of this node: swarm, images, volumes, containers")
      ->default_str(options.data_dir.string());
  app.add_option("--run-dir", run_dir, "Sockets and namespaces of this node, gone after a reboot")
      ->default_str("the socket's folder");
  app.add_option("--socket", options.socket, "Unix socket of the control and local API")
      ->capture_default_str();
  app.add_option("--log-level", options.log_level, "debug, info, warn or error")
      ->capture_default_str();
  app.add_option("--log-format", log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option("--metrics-addr", options.metrics_addr,
                 "Serve metrics for Prometheus on this host:port");
  app.add_option("--runtime", options.runtime, "OCI runtime: crun or runc")
      ->check(CLI::IsMember({"crun", "runc"}))
      ->capture_default_str();
  app.add_option("--hostname", options.hostname, "Name of this node (default: the host's)");
  app.add_option("--label", options.labels, "Engine label key=value (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  // Docker's key has the plural.
  app.add_option("--node-generic-resource,--node-generic-resources", options.generic_resources,
                 "User-defined resource: SSD=4 or GPU=uuid1 (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--insecure-registry", options.insecure_registries,
                 "Registry host:port to reach over plain http (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--registry-mirror", options.registry_mirrors, "Mirror of docker.io (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--log-driver", options.log_driver,
                 "Log driver of containers whose service and cluster name none")
      ->capture_default_str();
  app.add_option("--log-opt", options.log_options, "Option of that log driver k=v (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--balancer", options.balancer,
                 "What leads virtual addresses to tasks: ipvs, nftables, or ipvs where the kernel "
                 "has it")
      ->check(CLI::IsMember({"auto", "nftables", "ipvs"}))
      ->capture_default_str();
  app.add_option("--dns-ttl", dns_ttl,
                 "How long containers may keep what the names of services and tasks mean")
      ->default_str("5s");
  app.add_flag("--init", options.default_init, "Run an init as PID 1 of containers by default");
  app.add_flag("--allow-privileged", options.allow_privileged,
               "Let services use privileged, devices and host namespaces on this node");
  app.add_flag("--end-containers", options.end_containers,
               "Do not serve: end all containers of this node, keep its state, and exit");
  app.add_flag("-v,--version", options.show_version, "Print the version and exit");

  std::vector<std::string> arguments;
  for (int i = argc - 1; i > 0; --i) arguments.emplace_back(argv[i]);
  try {
    // The file is read first, so that what is on the command line wins.
    std::string config_flag;
    for (int i = 1; i < argc; ++i) {
      const std::string_view arg = argv[i];
      if (arg == "--config" && i + 1 < argc) config_flag = argv[i + 1];
      if (arg.starts_with("--config=")) config_flag = arg.substr(9);
    }
    app.parse(arguments);
    const bool named = !config_flag.empty();
    MUSTER_ASSIGN(const ConfigFile file,
                  read_config_file(named ? config_flag : kDefaultConfig, named));
    for (const auto& [key, values] : file) {
      CLI::Option* option = app.get_option_no_throw("--" + key);
      if (option == nullptr || key == "config" || key == "version" || key == "help" ||
          key == "end-containers") {
        return fail(
            invalid_argument("{}: unknown key \"{}\"", named ? config_flag : kDefaultConfig, key));
      }
      if (option->count() > 0) continue;
      for (const std::string& value : values) option->add_result(value);
      option->run_callback();
    }
  } catch (const CLI::CallForHelp&) {
    return fail(StatusCode::kOutOfRange, app.help());
  } catch (const CLI::Error& error) {
    return fail(invalid_argument("{}\nRun \"musterd --help\" for the flags.", error.what()));
  }
  options.log_format = log_format == "json" ? LogFormat::kJson : LogFormat::kText;
  if (!data_dir.empty()) options.data_dir = data_dir;
  if (!dns_ttl.empty()) {
    const auto ttl = parse_duration(dns_ttl);
    if (!ttl || *ttl < Duration(0) || *ttl > kDnsTtlMax || *ttl % Duration(1s) != Duration(0)) {
      return fail(invalid_argument(
          "dns-ttl \"{}\" is not a number of whole seconds between 0s and 1h", dns_ttl));
    }
    options.dns_ttl = *ttl;
  }
  options.run_dir = run_dir.empty() ? std::filesystem::path(options.socket).parent_path()
                                    : std::filesystem::path(run_dir);
  for (const auto* path : {&options.data_dir, &options.run_dir}) {
    if (!path->is_absolute()) {
      return fail(invalid_argument("{} is not an absolute path", path->string()));
    }
  }
  return options;
}

}  // namespace muster::daemon
