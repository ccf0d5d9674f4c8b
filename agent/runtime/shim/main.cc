// muster-runtime-shim RUNTIME ARGS...: executes an OCI runtime in a view of the host without the
// cgroup2 mount of a hybrid host, which crun refuses to work with ("cgroups in hybrid mode not
// supported"). The view is this process's own mount namespace; mounts made on the host still reach
// it, nothing it does reaches the host.
//
// conmon calls a runtime by one path, so the runtime's own path comes in the environment:
// MUSTER_OCI_RUNTIME.
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

namespace {

int die(const char* what) {
  fprintf(stderr, "muster-runtime-shim: %s: %s\n", what, strerror(errno));
  return 127;
}

}  // namespace

int main(int argc, char** argv) {
  const char* runtime = getenv("MUSTER_OCI_RUNTIME");
  if (runtime == nullptr || argc < 1) {
    fputs("muster-runtime-shim: MUSTER_OCI_RUNTIME is not set\n", stderr);
    return 127;
  }
  if (unshare(CLONE_NEWNS) != 0) return die("new mount namespace");
  if (mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) return die("mount propagation");
  if (umount2("/sys/fs/cgroup/unified", MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT) {
    return die("unmounting /sys/fs/cgroup/unified");
  }
  execv(runtime, argv);
  return die(runtime);
}
