#include "overlay/dataplane/host/bridge_netfilter.h"

#include <unistd.h>

#include <string>

#include "base/process.h"
#include "overlay/dataplane/kernel/sysctl.h"
#include "overlay/ipam/port_options.h"

namespace muster::overlay {
namespace {

constexpr const char* kPresent = "/proc/sys/net/bridge/bridge-nf-call-iptables";
constexpr const char* kFamilies[] = {"net.bridge.bridge-nf-call-iptables",
                                     "net.bridge.bridge-nf-call-ip6tables"};
constexpr const char* kArp = "net.bridge.bridge-nf-call-arptables";

Status switch_off() {
  MUSTER_TRY(set_bridge_netfilter(false, nullptr));
  return write_sysctl(kArp, "0");
}

}  // namespace

bool has_bridge_netfilter() {
  return access(kPresent, F_OK) == 0;
}

Status set_bridge_netfilter(bool on, bool* changed) {
  const std::string wanted = on ? "1" : "0";
  for (const char* key : kFamilies) {
    MUSTER_ASSIGN(const std::string now, read_sysctl(key));
    if (now == wanted) continue;
    MUSTER_TRY(write_sysctl(key, wanted));
    if (changed != nullptr) *changed = true;
  }
  return ok_status();
}

Status provide_bridge_netfilter(NamespaceDir& pins) {
  if (has_bridge_netfilter()) return ok_status();
  // What the kernel itself calls when it wants a module; this one it never asks for.
  const auto loader = read_sysctl("kernel.modprobe");
  std::string why = "no program loads modules";
  if (loader && !loader->empty()) {
    ProcessOptions load;
    load.argv = {*loader, "br_netfilter"};
    RunOptions run;
    run.timeout = 10s;
    const auto ran = run_process(std::move(load), run);
    why = !ran ? ran.error().message() : ran->err;
    while (!why.empty() && why.back() == '\n') why.pop_back();
  }
  if (!has_bridge_netfilter()) {
    return failed_precondition(
        "{}{}{}{}: published ports lead to tasks of this node in the nodes' names, not in their "
        "clients'",
        kHidesClients, why.empty() ? "" : " (", why, why.empty() ? "" : ")");
  }
  MUSTER_TRY(switch_off());
  MUSTER_ASSIGN(const auto names, pins.list());
  for (const std::string& name : names) {
    MUSTER_TRY(on_own_thread([&]() -> Status {
      bool created = false;
      MUSTER_TRY(pins.enter(name, &created));
      // It went in the meantime.
      if (created) return pins.remove(name);
      return has_bridge_netfilter() ? switch_off() : ok_status();
    }));
  }
  return ok_status();
}

}  // namespace muster::overlay
