#include <algorithm>

#include "deploy/cli/commands.h"
#include "deploy/cli/confirm.h"
#include "deploy/cli/docker_json.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/quantities.h"
#include "deploy/cli/spec_flags.h"

namespace muster::deploy::cli {
namespace {

std::string labels_text(const v1::LocalVolume& volume) {
  std::vector<std::string> texts;
  for (const auto& label : volume.labels()) texts.push_back(label.key() + "=" + label.value());
  return join(texts, ",");
}

}  // namespace

Result<int> volume_ls(Run& run) {
  ListOptions options;
  options.declare(run.flags, false);
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_TRY(options.filters.check({"name", "driver", "label", "dangling"}));
  MUSTER_ASSIGN(const auto response, run.client().call(v1::ListVolumesRequest()));
  std::vector<v1::LocalVolume> volumes(response.volumes().begin(), response.volumes().end());
  std::sort(volumes.begin(), volumes.end(),
            [](const auto& a, const auto& b) { return natural_less(a.name(), b.name()); });
  Listing listing({{"Driver", "DRIVER"},
                   {"Name", "VOLUME NAME"},
                   {"Mountpoint", "MOUNTPOINT", false},
                   {"Labels", "LABELS", false},
                   {"Scope", "SCOPE", false}});
  for (const auto& volume : volumes) {
    if (!options.filters.prefixes("name", volume.name()) ||
        !options.filters.equals("driver", volume.driver()) ||
        !options.filters.labels("label", volume.labels()) ||
        !options.filters.equals("dangling", volume.users() == 0 ? "true" : "false"))
      continue;
    listing.add(
        {volume.driver(), volume.name(), volume.mountpoint(), labels_text(volume), "local"});
  }
  MUSTER_TRY(options.print(run, listing, "Name"));
  return 0;
}

Result<int> volume_create(Run& run) {
  v1::CreateVolumeRequest request;
  std::string driver = "local";
  std::vector<std::string> labels, options;
  run.flags.value("driver,d", &driver, "NAME", "volume driver (local)");
  run.flags.list("label", &labels, "K=V", "label");
  run.flags.list("opt,o", &options, "K=V", "driver option");
  MUSTER_TRY(run.parse(0, 1));
  if (!run.args.empty()) request.set_name(run.args[0]);
  request.set_driver(driver);
  for (const auto& label : labels) set_pair(request.mutable_labels(), parse_key_value(label));
  for (const auto& option : options)
    set_pair(request.mutable_driver_options(), parse_key_value(option));
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  run.line(response.volume().name());
  return 0;
}

Result<int> volume_inspect(Run& run) {
  std::string format;
  run.flags.value("format,f", &format, "TEMPLATE", "print through a template");
  MUSTER_TRY(run.parse(1, -1));
  MUSTER_ASSIGN(const auto response, run.client().call(v1::ListVolumesRequest()));
  boost::json::array objects;
  const int code = for_each_name(run, run.args, [&](const std::string& name) -> Status {
    for (const auto& volume : response.volumes()) {
      if (volume.name() != name) continue;
      objects.push_back(volume_json(volume));
      return ok_status();
    }
    return not_found("no such volume: {}", name);
  });
  MUSTER_ASSIGN(const std::string text, render_inspect(objects, format));
  run.out(text);
  return code;
}

Result<int> volume_rm(Run& run) {
  bool force = false;
  run.flags.toggle("force,f", &force, "no error when the volume does not exist");
  MUSTER_TRY(run.parse(1, -1));
  return for_each_name(run, run.args, [&](const std::string& name) -> Status {
    v1::RemoveVolumeRequest request;
    request.set_name(name);
    request.set_force(force);
    const auto response = run.client().call(request);
    if (!response) return response.error();
    run.line(name);
    return ok_status();
  });
}

Result<int> volume_prune(Run& run) {
  bool all = false;
  bool force = false;
  run.flags.toggle("all,a", &all, "named volumes too");
  run.flags.toggle("force,f", &force, "do not ask");
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_ASSIGN(const bool go_on,
                confirm(run, force,
                        fmt::format("This will remove {} volumes that no container uses.",
                                    all ? "all" : "anonymous")));
  if (!go_on) return 1;
  v1::PruneVolumesRequest request;
  request.set_all(all);
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  if (!response.deleted().empty()) run.line("Deleted Volumes:");
  for (const auto& deleted : response.deleted()) run.line(deleted);
  run.line(fmt::format("Total reclaimed space: {}", human_size(response.freed_bytes())));
  return 0;
}

}  // namespace muster::deploy::cli
