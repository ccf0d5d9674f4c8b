#include "agent/worker/task_file.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string_view>

#include "base/file.h"

namespace muster::agent {
namespace {

constexpr std::string_view kHeader = "muster-task 1\n";

Result<v1::LocalTask> parse(const std::string& text) {
  v1::LocalTask task;
  if (text.compare(0, kHeader.size(), kHeader) != 0) {
    return fail(data_loss("not a task record of format 1"));
  }
  if (!task.ParseFromArray(text.data() + kHeader.size(),
                           static_cast<int>(text.size() - kHeader.size()))) {
    return fail(data_loss("damaged task record"));
  }
  return task;
}

}  // namespace

Status TaskFiles::save(const v1::LocalTask& task) {
  std::string text(kHeader);
  if (!task.AppendToString(&text)) return internal_error("cannot serialise a task record");
  return write_file_atomic(directory_ + "/" + task.assignment().task().id(), text, 0600,
                           Durability::kNone);
}

Status TaskFiles::remove(const std::string& task_id) {
  const std::string path = directory_ + "/" + task_id;
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errno_status(errno, path);
  return {};
}

Result<std::map<std::string, v1::LocalTask>> TaskFiles::load(std::vector<std::string>* damaged) {
  MUSTER_TRY(make_directory(directory_, 0700));
  remove_temporaries(directory_);
  std::map<std::string, v1::LocalTask> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    const std::string name = entry.path().filename().string();
    if (name.find('.') != std::string::npos) continue;  // temporary, or moved aside
    auto text = read_file(entry.path());
    auto task = text ? parse(*text) : Result<v1::LocalTask>(fail(text.error()));
    if (task && task->assignment().task().id() == name) {
      out.emplace(name, *std::move(task));
      continue;
    }
    if (damaged != nullptr) damaged->push_back(name);
    std::filesystem::rename(entry.path(), entry.path().string() + ".unreadable", error);
  }
  if (error) return fail(internal_error("{}: {}", directory_, error.message()));
  return out;
}

}  // namespace muster::agent
