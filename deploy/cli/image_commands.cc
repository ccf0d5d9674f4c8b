#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/time.h"
#include "base/unique_fd.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/confirm.h"
#include "deploy/cli/listing.h"
#include "deploy/cli/paths.h"
#include "deploy/cli/registry_auth.h"

namespace muster::deploy::cli {
namespace {

constexpr size_t kPieceBytes = 1 << 20;

struct NameAndTag {
  std::string repository = "<none>", tag = "<none>";
};

NameAndTag split_reference(const std::string& reference) {
  NameAndTag out;
  if (reference.empty()) return out;
  const std::string name = reference.substr(0, reference.find('@'));
  const size_t colon = name.rfind(':');
  const size_t slash = name.rfind('/');
  const bool tagged = colon != std::string::npos && (slash == std::string::npos || colon > slash);
  out.repository = name.substr(0, tagged ? colon : std::string::npos);
  if (tagged)
    out.tag = name.substr(colon + 1);
  else if (reference.find('@') == std::string::npos)
    out.tag = "latest";
  return out;
}

}  // namespace

Result<int> image_ls(Run& run) {
  ListOptions options;
  bool all = false;
  bool digests = false;
  options.declare(run.flags, true);
  run.flags.toggle("all,a", &all, "accepted for compatibility");
  run.flags.toggle("digests", &digests, "show digests");
  MUSTER_TRY(run.parse(0, 1));
  MUSTER_TRY(options.filters.check({"reference", "dangling"}));
  MUSTER_ASSIGN(const auto response, run.client().call(v1::ListImagesRequest()));
  Listing listing({{"Repository", "REPOSITORY"},
                   {"Tag", "TAG"},
                   {"Digest", "DIGEST", digests},
                   {"ID", "IMAGE ID"},
                   {"CreatedSince", "CREATED"},
                   {"CreatedAt", "CREATED AT", false},
                   {"Containers", "CONTAINERS", false},
                   {"Size", "SIZE"}});
  std::vector<std::vector<std::string>> rows;
  for (const auto& image : response.images()) {
    std::vector<std::string> references(image.references().begin(), image.references().end());
    if (references.empty()) references.emplace_back();
    for (const auto& reference : references) {
      const NameAndTag name = split_reference(reference);
      const std::string full = name.repository + ":" + name.tag;
      if (!run.args.empty() && run.args[0] != name.repository && run.args[0] != full) continue;
      if (!options.filters.equals("dangling", reference.empty() ? "true" : "false")) continue;
      if (!options.filters.prefixes("reference", full)) continue;
      rows.push_back({name.repository, name.tag, image.digest(),
                      options.no_trunc ? image.id() : short_id(image.id()),
                      time_ago(run.world.now_ns(), image.created_at_ns()),
                      format_rfc3339(WallTime{image.created_at_ns()}),
                      std::to_string(image.users()), human_size(image.size_bytes())});
    }
  }
  std::sort(rows.begin(), rows.end());
  for (const auto& row : rows) listing.add(row);
  MUSTER_TRY(options.print(run, listing));
  return 0;
}

Result<int> image_pull(Run& run) {
  bool quiet = false;
  run.flags.toggle("quiet,q", &quiet, "only the name");
  MUSTER_TRY(run.parse(1, 1));
  v1::PullImageRequest request;
  request.set_reference(run.args[0]);
  MUSTER_ASSIGN(*request.mutable_registry_auth(), registry_auth(run, run.args[0]));
  const auto stream = run.client().pull(request);
  const bool live = run.world.out_is_terminal && !quiet;
  std::string last_step;
  v1::Image image;
  for (;;) {
    v1::PullProgress progress;
    while (stream->pop(&progress)) {
      if (progress.has_image()) image = progress.image();
      if (live && progress.bytes_total() > 0)
        run.out(fmt::format("\r\x1b[K{}: {} of {}", progress.step(),
                            human_size(progress.bytes_done()), human_size(progress.bytes_total())));
      else if (!quiet && progress.step() != last_step)
        run.line(progress.step());
      last_step = progress.step();
    }
    if (stream->ended()) break;
    wait_readable({stream->fd()}, std::nullopt);
  }
  if (live) run.out("\r\x1b[K");
  MUSTER_TRY(stream->status());
  if (!quiet && !image.digest().empty()) run.line("Digest: " + image.digest());
  run.line(run.args[0]);
  return 0;
}

Result<int> image_load(Run& run) {
  std::string input;
  bool quiet = false;
  run.flags.value("input,i", &input, "FILE", "archive to read (default: standard input)");
  run.flags.toggle("quiet,q", &quiet, "say nothing");
  MUSTER_TRY(run.parse(0, 0));
  UniqueFd file;
  int fd = run.world.in_fd;
  if (!input.empty()) {
    const std::string path = absolute_path(input, run.world.current_dir);
    file = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    fd = file.get();
    if (fd < 0) return fail(errno_status(errno, input));
  } else if (run.world.in_is_terminal) {
    return fail(usage_error("requested load from stdin, but stdin is empty: give a file with -i"));
  }
  MUSTER_ASSIGN(const auto response, run.client().load([fd, &input]() -> Result<std::string> {
    std::string piece(kPieceBytes, '\0');
    const ssize_t n = ::read(fd, piece.data(), piece.size());
    if (n < 0) return fail(errno_status(errno, input.empty() ? "standard input" : input));
    piece.resize(static_cast<size_t>(n));
    return piece;
  }));
  if (quiet) return 0;
  for (const auto& image : response.images()) {
    for (const auto& reference : image.references()) run.line("Loaded image: " + reference);
    if (image.references().empty()) run.line("Loaded image ID: " + image.id());
  }
  return 0;
}

Result<int> image_rm(Run& run) {
  bool force = false;
  run.flags.toggle("force,f", &force, "even if it is in use");
  MUSTER_TRY(run.parse(1, -1));
  return for_each_name(run, run.args, [&](const std::string& name) -> Status {
    v1::RemoveImageRequest request;
    request.set_reference(name);
    request.set_force(force);
    MUSTER_ASSIGN(const auto response, run.client().call(request));
    for (const auto& untagged : response.untagged()) run.line("Untagged: " + untagged);
    for (const auto& deleted : response.deleted()) run.line("Deleted: " + deleted);
    return ok_status();
  });
}

Result<int> image_prune(Run& run) {
  bool all = false;
  bool force = false;
  run.flags.toggle("all,a", &all, "all unused images, not only those without a name");
  run.flags.toggle("force,f", &force, "do not ask");
  MUSTER_TRY(run.parse(0, 0));
  MUSTER_ASSIGN(const bool go_on, confirm(run, force,
                                          fmt::format("This will remove all {} images.",
                                                      all ? "unused" : "unnamed")));
  if (!go_on) return 1;
  v1::PruneImagesRequest request;
  request.set_all(all);
  MUSTER_ASSIGN(const auto response, run.client().call(request));
  for (const auto& deleted : response.deleted()) run.line("deleted: " + deleted);
  run.line(fmt::format("Total reclaimed space: {}", human_size(response.freed_bytes())));
  return 0;
}

}  // namespace muster::deploy::cli
