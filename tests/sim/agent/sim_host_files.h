#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/worker/host_files.h"
#include "tests/sim/agent/sim_machine.h"

namespace muster::sim {

// A host's disk. What is not synced is safe after half a minute; a power cut before that loses it,
// leaves what was there before, or half of it.
class SimHostFiles final : public agent::HostFiles {
 public:
  static constexpr Duration kWriteBack = 30s;

  explicit SimHostFiles(SimMachine& machine) : machine_(machine) {}

  Status make_directory(const std::string& path, unsigned mode) override;
  Status write(const std::string& path, std::string_view text, unsigned mode,
               Durability durability) override;
  Result<std::string> read(const std::string& path, size_t bytes_max) override;
  bool exists(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  void remove_temporaries(const std::string&) override {}
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;

  // As list().
  std::set<std::string> names(const std::string& directory) const;
  void power_off();
  // Told of each removal that was asked for, done.
  std::function<void(const std::string& path)> on_removed;

 private:
  struct File {
    std::optional<std::string> text;  // none: deleted
    std::optional<std::string> disk;  // what a power cut leaves
    TimePoint at;                     // of the last change
  };
  // Notes what has reached the disk by now.
  void written_back(File& file) const;
  void put(const std::string& path, std::optional<std::string> text);
  void cut(File& file);

  SimMachine& machine_;
  std::map<std::string, File> files_;
  std::set<std::string> directories_;
};

}  // namespace muster::sim
