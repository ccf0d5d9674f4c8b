#include <algorithm>
#include <set>

#include "deploy/cli/commands.h"
#include "deploy/cli/listing.h"

// Completion is done by the program itself: the shells' scripts only call `muster __complete` with
// the words so far and show what it prints, one candidate a line. Anything that fails completes to
// nothing, quietly.
namespace muster::deploy::cli {
namespace {

constexpr std::string_view kBash = R"(# muster: completion for bash
_muster() {
    local cur="${COMP_WORDS[COMP_CWORD]}" line
    COMPREPLY=()
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    while IFS= read -r line; do
        if [[ $line == ":files" ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
            return
        fi
        [[ $line == *= ]] && compopt -o nospace 2>/dev/null
        COMPREPLY+=("$line")
    done < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null)
}
complete -F _muster muster
)";

constexpr std::string_view kZsh = R"(#compdef muster
_muster() {
    local -a candidates
    candidates=("${(@f)$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ ${candidates[1]} == ":files" ]]; then
        _files
        return
    fi
    candidates=(${candidates:#})
    local -a with_equals plain
    with_equals=(${(M)candidates:#*=})
    plain=(${candidates:#*=})
    (( ${#with_equals} )) && compadd -S '' -a with_equals
    (( ${#plain} )) && compadd -a plain
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then _muster "$@"; else compdef _muster muster; fi
)";

void words_of_path(size_t position, const std::vector<std::string>& words,
                   std::set<std::string>* out) {
  for (const Command& command : commands()) {
    if (command.hidden) continue;
    const auto path = split(command.path, ' ');
    if (position == 0) out->insert(path[0]);
    if (position == 1 && path.size() == 2 && path[0] == words[0]) out->insert(path[1]);
  }
}

std::set<std::string> names_of(Run& run, Completes kind) {
  std::set<std::string> names;
  Client& client = run.client();
  switch (kind) {
    case Completes::kService:
      if (const auto list = client.call(v1::ListServicesRequest()))
        for (const auto& entry : list->services())
          names.insert(entry.service().spec().annotations().name());
      break;
    case Completes::kStack:
      if (const auto list = client.call(v1::ListServicesRequest()))
        for (const auto& entry : list->services())
          for (const auto& label : entry.service().spec().annotations().labels())
            if (label.key() == "com.docker.stack.namespace") names.insert(label.value());
      break;
    case Completes::kNode:
      if (const auto list = client.call(v1::ListNodesRequest()))
        for (const auto& node : list->nodes()) names.insert(node.description().hostname());
      break;
    case Completes::kNetwork:
      if (const auto list = client.call(v1::ListNetworksRequest()))
        for (const auto& network : list->networks())
          names.insert(network.spec().annotations().name());
      break;
    case Completes::kVolume:
      if (const auto list = client.call(v1::ListVolumesRequest()))
        for (const auto& volume : list->volumes()) names.insert(volume.name());
      break;
    case Completes::kImage:
      if (const auto list = client.call(v1::ListImagesRequest()))
        for (const auto& image : list->images())
          names.insert(image.references().begin(), image.references().end());
      break;
    case Completes::kTask:
      if (const auto list = client.call(v1::ListTasksRequest()))
        for (const auto& task : list->tasks()) names.insert(task.id());
      break;
    case Completes::kContainer:
      if (const auto list = client.call(v1::ListContainersRequest()))
        for (const auto& container : list->containers()) names.insert(container.task_name());
      break;
    case Completes::kFiles: names.insert(":files"); break;
    case Completes::kNothing: break;
  }
  names.erase("");
  return names;
}

// The command's own options: the command is run just far enough to declare them.
std::vector<std::string> flags_of(const Command& command, World& world) {
  std::string text;
  World quiet = world;
  quiet.out = [&text](std::string_view more) { text += more; };
  quiet.err = [](std::string_view) {};
  Run probe(quiet, command, {"--__flags"}, "");
  (void)command.run(probe);
  return split(text, '\n');
}

// Values of well-known options.
Completes completes_flag(std::string_view flag) {
  if (flag == "--network" || flag == "--network-add" || flag == "--network-rm")
    return Completes::kNetwork;
  if (flag == "--compose-file" || flag == "-c" || flag == "--env-file" || flag == "--input" ||
      flag == "-i")
    return Completes::kFiles;
  if (flag == "--image") return Completes::kImage;
  return Completes::kNothing;
}

}  // namespace

Result<int> completion(Run& run) {
  MUSTER_TRY(run.parse(1, 1));
  if (run.args[0] == "bash")
    run.out(kBash);
  else if (run.args[0] == "zsh")
    run.out(kZsh);
  else
    return fail(usage_error(fmt::format("no completion for \"{}\": bash or zsh", run.args[0])));
  return 0;
}

Result<int> complete(Run& run) {
  MUSTER_TRY(run.parse(0, -1));
  std::vector<std::string> words = run.args;
  if (words.empty()) words.emplace_back();
  const std::string current = words.back();
  words.pop_back();
  std::set<std::string> candidates;
  const Command* command = nullptr;
  for (const Command& candidate : commands()) {
    const auto path = split(candidate.path, ' ');
    if (!candidate.hidden && words.size() >= path.size() &&
        std::equal(path.begin(), path.end(), words.begin()))
      command = &candidate;
  }
  if (command == nullptr) {
    if (words.size() <= 1) words_of_path(words.size(), words, &candidates);
    if (words.empty() && current.starts_with("-"))
      candidates = {"--help", "--socket=", "--version"};
  } else {
    const auto flags = flags_of(*command, run.world);
    const std::string before = words.back();
    const bool takes_value = before.starts_with("-") &&
                             std::find(flags.begin(), flags.end(), before + "=") != flags.end();
    if (takes_value) {
      candidates = names_of(run, completes_flag(before));
    } else if (current.starts_with("-")) {
      for (const auto& flag : flags)
        if (flag.starts_with("--")) candidates.insert(flag);
      candidates.insert("--help");
    } else if (command->path == "completion") {
      candidates = {"bash", "zsh"};
    } else {
      candidates = names_of(run, command->completes);
    }
  }
  for (const auto& candidate : candidates)
    if (candidate == ":files" || candidate.starts_with(current)) run.line(candidate);
  return 0;
}

}  // namespace muster::deploy::cli
