#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "deploy/cli/commands.h"
#include "deploy/cli/paths.h"
#include "deploy/cli/swarm_text.h"

namespace muster::deploy::cli {
namespace {

constexpr size_t kPieceBytes = 256 << 10;

// From the file, or from the user: twice when the passphrase is a new one, since nothing can tell a
// mistyped one later.
Result<std::string> passphrase_of(Run& run, Signals& signals, const std::string& file,
                                  bool is_new) {
  std::string passphrase;
  if (!file.empty()) {
    MUSTER_ASSIGN(passphrase, read_file(absolute_path(file, run.world.current_dir), 4096));
    passphrase = passphrase.substr(0, passphrase.find('\n'));
  } else {
    MUSTER_ASSIGN(passphrase, read_hidden_line(run, signals, "Passphrase of the backup: "));
    if (is_new && run.world.in_is_terminal) {
      MUSTER_ASSIGN(const std::string again, read_hidden_line(run, signals, "Once more: "));
      if (again != passphrase) return fail(invalid_argument("the passphrases differ"));
    }
  }
  if (passphrase.empty())
    return fail(invalid_argument("the passphrase is empty: a backup holds every secret there is"));
  return passphrase;
}

// Written beside its name and renamed when it is whole: a backup that was cut off must not look
// like one.
class BackupFile {
 public:
  // One that is there is replaced only with `replace`.
  BackupFile(std::string path, bool replace)
      : path_(std::move(path)), part_(path_ + ".part"), replace_(replace) {}
  ~BackupFile() {
    if (fd_) ::unlink(part_.c_str());
  }
  Status open() {
    struct stat about {};
    if (!replace_ && ::lstat(path_.c_str(), &about) == 0) return exists();
    fd_ = UniqueFd(::open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    return fd_ ? ok_status() : errno_status(errno, path_);
  }
  Status write(std::string_view data) {
    while (!data.empty()) {
      const ssize_t n = ::write(fd_.get(), data.data(), data.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno_status(errno, path_);
      data.remove_prefix(static_cast<size_t>(n));
    }
    return ok_status();
  }
  Status finish() {
    if (::fsync(fd_.get()) != 0) return errno_status(errno, path_);
    if (replace_) {
      if (::rename(part_.c_str(), path_.c_str()) != 0) return errno_status(errno, path_);
    } else {
      // Not over one that somebody has put there meanwhile.
      if (::link(part_.c_str(), path_.c_str()) != 0)
        return errno == EEXIST ? exists() : errno_status(errno, path_);
      if (::unlink(part_.c_str()) != 0) return errno_status(errno, part_);
    }
    fd_ = UniqueFd();
    const size_t slash = path_.rfind('/');
    return sync_directory(slash == 0 ? "/" : path_.substr(0, slash));
  }

 private:
  Status exists() const {
    return already_exists("{} exists already: name another file, or give --force to replace it",
                          path_);
  }

  std::string path_;
  std::string part_;
  bool replace_;
  UniqueFd fd_;
};

// What is in an outage is worth keeping, but nobody can say then whether it is the newest.
void warn_without_leader(Run& run) {
  const auto info = run.client().call(v1::GetInfoRequest());
  if (!info || !info->control_available() || !info->leader_node_id().empty()) return;
  run.warn(
      "WARNING: the swarm does not have a leader: nobody confirms that this manager's copy of the "
      "state, which the backup is of, is the newest");
}

}  // namespace

Result<int> swarm_backup(Run& run) {
  std::string passphrase_file;
  bool force = false;
  run.flags.toggle("force", &force, "replace a file that is there");
  run.flags.value("passphrase-file", &passphrase_file, "FILE",
                  "read the passphrase from its first line");
  MUSTER_TRY(run.parse(1, 1));
  Signals signals({SIGINT, SIGTERM});
  v1::BackupSwarmRequest request;
  MUSTER_ASSIGN(*request.mutable_passphrase(), passphrase_of(run, signals, passphrase_file, true));
  BackupFile file(absolute_path(run.args[0], run.world.current_dir), force);
  MUSTER_TRY(file.open());
  warn_without_leader(run);
  auto stream = run.client().backup(request);
  for (;;) {
    v1::BackupSwarmResponse response;
    if (stream->pop(&response)) {
      MUSTER_TRY(file.write(response.chunk()));
      continue;
    }
    if (stream->ended()) break;
    wait_readable({stream->fd(), signals.fd()}, std::nullopt);
    if (signals.pop() != 0) return fail(Status(StatusCode::kCancelled, "interrupted"));
  }
  MUSTER_TRY(stream->status());
  MUSTER_TRY(file.finish());
  run.line(fmt::format("The swarm's state is in {}.", run.args[0]));
  return 0;
}

Result<int> swarm_restore(Run& run) {
  v1::RestoreSwarmRequest request;
  std::string passphrase_file, listen, advertise, data_path;
  run.flags.value("passphrase-file", &passphrase_file, "FILE",
                  "read the passphrase from its first line");
  run.flags.value("listen-addr", &listen, "ADDR[:PORT]", "address to listen on (0.0.0.0:2377)");
  run.flags.value("advertise-addr", &advertise, "ADDR|IFACE[:PORT]",
                  "address that other nodes reach this one at");
  run.flags.value("data-path-addr", &data_path, "ADDR|IFACE", "address for the tasks' traffic");
  MUSTER_TRY(run.parse(1, 1));
  const std::string path = absolute_path(run.args[0], run.world.current_dir);
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail(errno_status(errno, path));
  {
    // Afterwards they end this process: the node goes on or gives up by itself.
    Signals signals({SIGINT, SIGTERM});
    MUSTER_ASSIGN(*request.mutable_passphrase(),
                  passphrase_of(run, signals, passphrase_file, false));
  }
  request.set_listen_addr(listen);
  request.set_advertise_addr(advertise);
  request.set_data_path_addr(data_path);
  MUSTER_ASSIGN(const auto restored, run.client().restore(request, [&]() -> Result<std::string> {
    std::string piece(kPieceBytes, '\0');
    const ssize_t n = ::read(file.get(), piece.data(), piece.size());
    if (n < 0) return fail(errno_status(errno, path));
    piece.resize(static_cast<size_t>(n));
    return piece;
  }));
  run.line(fmt::format("Swarm restored: current node ({}) is now its only manager.",
                       restored.node_id()));
  return 0;
}

}  // namespace muster::deploy::cli
