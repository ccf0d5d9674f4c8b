#include "deploy/lab/lab_files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>

#include "base/file.h"
#include "base/time.h"

namespace muster::deploy::lab {
namespace {

constexpr auto kLockPatience = std::chrono::seconds(10);
constexpr int kLockPollMs = 20;

bool is_same_file(int fd, const std::string& path) {
  struct stat held {};
  struct stat there {};
  return fstat(fd, &held) == 0 && stat(path.c_str(), &there) == 0 && held.st_ino == there.st_ino &&
         held.st_dev == there.st_dev;
}

// flock(2) has no time-out of its own.
bool lock_in_time(int fd) {
  const auto deadline = std::chrono::steady_clock::now() + kLockPatience;
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    poll(nullptr, 0, kLockPollMs);
  }
  return true;
}

}  // namespace

std::vector<std::string> list_labs(const std::string& base) {
  std::vector<std::string> out;
  std::error_code error;
  for (std::filesystem::directory_iterator it(base, error), end; !error && it != end;
       it.increment(error)) {
    std::string name = it->path().filename().string();
    if (it->is_directory(error) && check_lab_name(name).ok()) out.push_back(std::move(name));
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<LabState> load_state(const LabFiles& files) {
  if (!std::filesystem::exists(files.dir())) {
    return fail(
        not_found("there is no lab \"{}\" (\"muster lab ls\" shows those there are)", files.name));
  }
  const auto broken = [&](const Status& why) {
    return fail(why.code() == StatusCode::kFailedPrecondition ? why.code() : StatusCode::kDataLoss,
                fmt::format("lab {} is damaged or half made ({}): \"muster lab down --name {}\" "
                            "removes what there is of it",
                            files.name, why.message(), files.name));
  };
  const auto text = read_file(files.state(), 1 << 20);
  if (!text) return broken(text.error());
  auto state = decode_state(*text);
  if (!state) return broken(state.error());
  return state;
}

Status save_state(const LabFiles& files, const LabState& state) {
  return write_file_atomic(files.state(), encode_state(state), 0600, Durability::kNone);
}

Result<UniqueFd> lock_base(const std::string& base) {
  // The last `down` removes the folder, perhaps between our making and our locking it.
  for (int attempt = 0; attempt < 10; ++attempt) {
    MUSTER_TRY(make_directory(base, 0755));
    UniqueFd fd(open(base.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) continue;
    if (!lock_in_time(fd.get()))
      return fail(unavailable("another \"muster lab\" is planning in {} and does not end", base));
    if (is_same_file(fd.get(), base)) return fd;
  }
  return fail(unavailable("{} is removed again and again", base));
}

Result<UniqueFd> lock_lab(const LabFiles& files) {
  UniqueFd fd(open(files.dir().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    return fail(
        not_found("there is no lab \"{}\" (\"muster lab ls\" shows those there are)", files.name));
  }
  if (!lock_in_time(fd.get())) {
    return fail(
        unavailable("another \"muster lab\" command is at work on lab {}: wait for it, or "
                    "end it",
                    files.name));
  }
  if (!is_same_file(fd.get(), files.dir()))
    return fail(not_found("lab \"{}\" was taken down meanwhile", files.name));
  return fd;
}

Status check_paths(const LabFiles& files) {
  const std::string longest = files.socket("manager10");
  if (longest.size() < sizeof(sockaddr_un::sun_path)) return ok_status();
  return invalid_argument("the path {} is too long for a socket: choose a shorter folder", longest);
}

}  // namespace muster::deploy::lab
