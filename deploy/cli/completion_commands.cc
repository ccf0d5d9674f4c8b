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
    # Readline breaks words at these, muster does not ("web=3", "127.0.0.1:5000/app:1").
    local words=() word glue= cur prefix line i
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((${#words[@]})) && [[ $glue || $word == [=:@]* ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        glue=
        [[ $word == *[=:@] ]] && glue=1
    done
    cur=${words[-1]}
    prefix=${cur%"${cur##*[=:@]}"}
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == ":files" ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done \
                < <(compgen -f -- "${cur##*=}")
            return
        fi
        [[ $line == *= ]] && compopt -o nospace 2>/dev/null
        COMPREPLY+=("${line#"$prefix"}")
    done < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null)
}
complete -F _muster muster
)";

constexpr std::string_view kZsh = R"(#compdef muster
_muster() {
    local -a candidates
    candidates=("${(@f)$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ ${candidates[1]} == ":files" ]]; then
        compset -P '*='
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
    case Completes::kSecret:
      if (const auto list = client.call(v1::ListSecretsRequest()))
        for (const auto& secret : list->secrets()) names.insert(secret.spec().annotations().name());
      break;
    case Completes::kConfig:
      if (const auto list = client.call(v1::ListConfigsRequest()))
        for (const auto& config : list->configs()) names.insert(config.spec().annotations().name());
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

struct FlagWord {
  std::string word;    // "--name", or "-n"
  std::string values;  // "NAME", "active|pause|drain"; empty for switches
};

// The command's own options: the command is run just far enough to declare them.
std::vector<FlagWord> flags_of(const Command& command, World& world) {
  std::string text;
  World quiet = world;
  quiet.out = [&text](std::string_view more) { text += more; };
  quiet.err = [](std::string_view) {};
  Run probe(quiet, command, {"--__flags"}, Endpoint{});
  (void)command.run(probe);
  std::vector<FlagWord> flags;
  for (const std::string& line : split(text, '\n')) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos) flags.push_back({line.substr(0, tab), line.substr(tab + 1)});
  }
  return flags;
}

const FlagWord* find_flag(const std::vector<FlagWord>& flags, std::string_view word) {
  const auto it = std::find_if(flags.begin(), flags.end(),
                               [&](const FlagWord& flag) { return flag.word == word; });
  return it == flags.end() ? nullptr : &*it;
}

// "active|pause|drain" are the words to choose from; "ADDR|IFACE" and "NAME" are not.
std::set<std::string> choices(std::string_view text) {
  const bool literal =
      text.find('|') != std::string_view::npos && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '|';
      });
  if (!literal) return {};
  const auto words = split(text, '|');
  return {words.begin(), words.end()};
}

// Values of an option.
std::set<std::string> values_of(Run& run, const FlagWord& flag) {
  const std::string& word = flag.word;
  if (word == "--network" || word == "--network-add" || word == "--network-rm")
    return names_of(run, Completes::kNetwork);
  if (word == "--secret" || word == "--secret-add" || word == "--secret-rm")
    return names_of(run, Completes::kSecret);
  if (word == "--config" || word == "--config-add" || word == "--config-rm")
    return names_of(run, Completes::kConfig);
  if (word == "--compose-file" || word == "-c" || word == "--env-file" || word == "--input" ||
      word == "-i")
    return names_of(run, Completes::kFiles);
  if (word == "--image") return names_of(run, Completes::kImage);
  return choices(flag.values);
}

// What may stand in the place of the command's next argument after `given` ones.
std::set<std::string> arguments_of(Run& run, const Command& command, size_t given) {
  // A new name, then a file.
  if (command.path == "secret create" || command.path == "config create")
    return given == 1 ? names_of(run, Completes::kFiles) : std::set<std::string>();
  const std::string_view first = command.arguments.substr(0, command.arguments.find(' '));
  if (given > 0 && !first.ends_with("...")) return {};
  if (command.completes == Completes::kNothing) return choices(command.arguments);
  std::set<std::string> names = names_of(run, command.completes);
  if (command.path != "service scale") return names;
  std::set<std::string> with_equals;
  for (const auto& name : names) with_equals.insert(name + "=");
  return with_equals;
}

const Command* command_of(const std::vector<std::string>& words) {
  for (const Command& command : commands()) {
    const auto path = split(command.path, ' ');
    if (!command.hidden && words.size() >= path.size() &&
        std::equal(path.begin(), path.end(), words.begin()))
      return &command;
  }
  return nullptr;
}

// The candidates for `current` after the words of a command's path, options and arguments.
std::set<std::string> candidates_of(Run& run, const Command& command,
                                    const std::vector<std::string>& words,
                                    const std::string& current) {
  const auto flags = flags_of(command, run.world);
  size_t given = 0;
  const FlagWord* open = nullptr;  // the option whose value comes next
  const bool stops = command.path == "service create" || command.path == "exec";
  for (size_t i = split(command.path, ' ').size(); i < words.size(); ++i) {
    if (open != nullptr) {
      open = nullptr;
    } else if (words[i].starts_with("-") && !(stops && given > 0)) {
      open = find_flag(flags, words[i]);
      if (open != nullptr && open->values.empty()) open = nullptr;
    } else {
      ++given;
    }
  }
  if (open != nullptr) return values_of(run, *open);
  if (!current.starts_with("-")) return arguments_of(run, command, given);
  if (stops && given > 0) return {};
  std::set<std::string> out = {"--help"};
  if (const size_t equals = current.find('='); equals != std::string::npos) {
    const FlagWord* flag = find_flag(flags, current.substr(0, equals));
    if (flag == nullptr) return {};
    out.clear();
    for (const auto& value : values_of(run, *flag))
      out.insert(value == ":files" ? value : current.substr(0, equals + 1) + value);
    return out;
  }
  for (const auto& flag : flags)
    if (flag.word.starts_with("--")) out.insert(flag.word + (flag.values.empty() ? "" : "="));
  return out;
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
  EndpointOptions where = endpoint_of_environment(run.world.environment);
  while (!words.empty() && words[0].starts_with("-")) {
    const auto taken = take_endpoint_option(&words, &where);
    if (!taken) {
      run.line(":files");
      return 0;
    }
    if (!*taken) break;
  }
  // Names cannot be asked for at an address that is none; options still can.
  auto endpoint = resolve_endpoint(where, run.world.current_dir);
  Run asking(run.world, run.command(), {}, endpoint ? *std::move(endpoint) : run.endpoint());
  std::set<std::string> candidates;
  if (const Command* command = command_of(words)) {
    candidates = candidates_of(asking, *command, words, current);
  } else {
    if (words.size() <= 1) words_of_path(words.size(), words, &candidates);
    if (words.empty() && current.starts_with("-"))
      candidates = {
          "--help", "--host=", "--socket=", "--tlscacert=", "--tlscert=", "--tlskey=", "--version"};
  }
  for (const auto& candidate : candidates)
    if (candidate == ":files" || candidate.starts_with(current)) run.line(candidate);
  return 0;
}

}  // namespace muster::deploy::cli
