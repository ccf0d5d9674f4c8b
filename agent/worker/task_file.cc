#include "agent/worker/task_file.h"

#include <string_view>

namespace muster::agent {
namespace {

constexpr std::string_view kHeader = "muster-task 1\n";
constexpr size_t kRecordBytesMax = 64 << 20;

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
  return files_.write(directory_ + "/" + task.assignment().task().id(), text, 0600,
                      Durability::kNone);
}

Status TaskFiles::remove(const std::string& task_id) {
  return files_.remove(directory_ + "/" + task_id);
}

Result<std::map<std::string, v1::LocalTask>> TaskFiles::load(std::vector<std::string>* damaged) {
  MUSTER_TRY(files_.make_directory(directory_, 0700));
  files_.remove_temporaries(directory_);
  std::map<std::string, v1::LocalTask> out;
  MUSTER_ASSIGN(const std::vector<std::string> names, files_.list(directory_));
  for (const std::string& name : names) {
    if (name.find('.') != std::string::npos) continue;  // moved aside
    const std::string path = directory_ + "/" + name;
    auto text = files_.read(path, kRecordBytesMax);
    auto task = text ? parse(*text) : Result<v1::LocalTask>(fail(text.error()));
    if (task && task->assignment().task().id() == name) {
      out.emplace(name, *std::move(task));
      continue;
    }
    if (damaged != nullptr) damaged->push_back(name);
    MUSTER_TRY(files_.rename(path, path + ".unreadable"));
  }
  return out;
}

}  // namespace muster::agent
