#include "tests/sim/agent/sim_host_files.h"

#include <utility>

namespace muster::sim {
namespace {

// Everything below a directory, in a map or set by path.
template <class Paths, class Each>
void each_below(Paths& paths, const std::string& directory, Each each) {
  const std::string prefix = directory + "/";
  for (auto at = paths.lower_bound(prefix); at != paths.end();) {
    const auto next = std::next(at);
    if constexpr (requires { at->first; }) {
      if (!at->first.starts_with(prefix)) return;
    } else {
      if (!at->starts_with(prefix)) return;
    }
    each(at, prefix.size());
    at = next;
  }
}

}  // namespace

void SimHostFiles::written_back(File& file) const {
  if (machine_.world.now() - file.at >= kWriteBack) file.disk = file.text;
}

void SimHostFiles::put(const std::string& path, std::optional<std::string> text) {
  File& file = files_[path];
  written_back(file);
  file.text = std::move(text);
  file.at = machine_.world.now();
  if (!file.text && !file.disk) files_.erase(path);
}

Status SimHostFiles::make_directory(const std::string& path, unsigned) {
  if (!machine_.process.effect()) return process_is_dead();
  directories_.insert(path);
  return {};
}

Status SimHostFiles::write(const std::string& path, std::string_view text, unsigned,
                           Durability durability) {
  if (!machine_.process.effect()) return process_is_dead();
  put(path, std::string(text));
  if (durability == Durability::kFsync) files_[path].disk = std::string(text);
  return {};
}

Result<std::string> SimHostFiles::read(const std::string& path, size_t) {
  const auto found = files_.find(path);
  if (found == files_.end() || !found->second.text) return fail(not_found("{}", path));
  return *found->second.text;
}

bool SimHostFiles::exists(const std::string& path) {
  const auto found = files_.find(path);
  return directories_.contains(path) || (found != files_.end() && found->second.text);
}

std::set<std::string> SimHostFiles::names(const std::string& directory) const {
  std::set<std::string> names;
  each_below(files_, directory, [&](const auto& at, size_t prefix) {
    if (at->second.text)
      names.insert(at->first.substr(prefix, at->first.find('/', prefix) - prefix));
  });
  each_below(directories_, directory, [&](const auto& at, size_t prefix) {
    names.insert(at->substr(prefix, at->find('/', prefix) - prefix));
  });
  return names;
}

Result<std::vector<std::string>> SimHostFiles::list(const std::string& directory) {
  const std::set<std::string> found = names(directory);
  return std::vector<std::string>(found.begin(), found.end());
}

Status SimHostFiles::rename(const std::string& from, const std::string& to) {
  if (!machine_.process.effect()) return process_is_dead();
  const auto found = files_.find(from);
  if (found == files_.end() || !found->second.text) return not_found("{}", from);
  put(to, *found->second.text);
  put(from, std::nullopt);
  return {};
}

Status SimHostFiles::remove(const std::string& path) {
  if (!machine_.process.effect()) return process_is_dead();
  if (files_.contains(path)) put(path, std::nullopt);
  std::vector<std::string> below;
  each_below(files_, path, [&](const auto& at, size_t) { below.push_back(at->first); });
  for (const std::string& file : below) put(file, std::nullopt);
  directories_.erase(path);
  each_below(directories_, path, [&](const auto& at, size_t) { directories_.erase(at); });
  if (on_removed) on_removed(path);
  return {};
}

void SimHostFiles::cut(File& file) {
  written_back(file);
  if (file.text == file.disk) return;
  switch (machine_.rng.below(4)) {
    case 0: break;  // it had just been written
    case 1:
      if (file.text) {
        file.text = file.text->substr(0, file.text->size() / 2);
        break;
      }
      [[fallthrough]];
    default: file.text = file.disk;
  }
  file.disk = file.text;
}

void SimHostFiles::power_off() {
  for (auto at = files_.begin(); at != files_.end();) {
    cut(at->second);
    at = at->second.text ? std::next(at) : files_.erase(at);
  }
}

}  // namespace muster::sim
