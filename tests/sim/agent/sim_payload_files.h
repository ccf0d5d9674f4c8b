#pragma once

#include <fmt/format.h>

#include <map>
#include <string>
#include <vector>

#include "agent/secrets/payload_files.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// Files of secrets and configs, in a host's memory.
class SimPayloadFiles final : public agent::PayloadFiles {
 public:
  explicit SimPayloadFiles(SimMachine& machine) : machine_(machine) {}

  Result<std::vector<std::string>> write(const std::string& container_id,
                                         const std::vector<agent::MemoryFile>& files) override {
    if (!machine_.step(2ms)) return fail(process_is_dead());
    auto& kept = files_[container_id];
    kept.clear();
    std::vector<std::string> paths;
    for (const agent::MemoryFile& file : files) {
      paths.push_back(fmt::format("/run/secrets/{}/{}", container_id, paths.size()));
      kept[paths.back()] = file.data;
    }
    return paths;
  }
  Status remove(const std::string& container_id) override {
    if (!machine_.step(2ms)) return process_is_dead();
    files_.erase(container_id);
    return {};
  }
  std::vector<std::string> list() override { return ids(); }

  std::vector<std::string> ids() const {
    std::vector<std::string> out;
    for (const auto& [id, files] : files_) out.push_back(id);
    return out;
  }

  // What is at a path of a container; null: nothing.
  const std::string* find(const std::string& container_id, const std::string& path) const {
    const auto files = files_.find(container_id);
    if (files == files_.end()) return nullptr;
    const auto file = files->second.find(path);
    return file == files->second.end() ? nullptr : &file->second;
  }
  void power_off() { files_.clear(); }

 private:
  SimMachine& machine_;
  std::map<std::string, std::map<std::string, std::string>> files_;  // by container, by path
};

}  // namespace muster::sim
