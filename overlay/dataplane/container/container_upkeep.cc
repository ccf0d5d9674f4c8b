#include "overlay/dataplane/container/container_upkeep.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <set>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "overlay/dataplane/container/inside_record.h"

namespace muster::overlay {
namespace {

namespace fs = std::filesystem;

constexpr size_t kRecordMax = 1 << 20;

void forget_interface(InsideState& state, int index) {
  state.links.erase(index);
  std::erase_if(state.addresses, [&](const InsideAddress& a) { return a.interface == index; });
  std::erase_if(state.routes, [&](const InsideRoute& r) { return r.route.interface == index; });
  std::erase_if(state.neighbours, [&](const InsideNeighbour& n) { return n.interface == index; });
}

void add(InsideState& state, InsideState more) {
  state.links.merge(more.links);
  std::move(more.addresses.begin(), more.addresses.end(), std::back_inserter(state.addresses));
  std::move(more.routes.begin(), more.routes.end(), std::back_inserter(state.routes));
  std::move(more.rules.begin(), more.rules.end(), std::back_inserter(state.rules));
  std::move(more.neighbours.begin(), more.neighbours.end(), std::back_inserter(state.neighbours));
}

// Interfaces with a route to one address, their other end, which is the node's: the way there.
std::set<int> ways_of(const InsideState& state) {
  std::set<int> out;
  for (const auto& [route, fixed] : state.routes) {
    const Prefix& to = route.destination;
    const bool one = to.length == to.base.bits() && !route.gateway;
    if (one && route.table == RT_TABLE_MAIN) out.insert(route.interface);
  }
  return out;
}

}  // namespace

Status ContainerUpkeep::open(const std::vector<std::string>& container_ids) {
  MUSTER_TRY(make_directory(records_, 0700));
  remove_temporaries(records_);
  const std::set<std::string> known(container_ids.begin(), container_ids.end());
  std::error_code error;
  for (const auto& file : fs::directory_iterator(records_, error)) {
    if (!known.contains(file.path().filename())) fs::remove(file.path(), error);
  }
  return ok_status();
}

Status ContainerUpkeep::remove_directory() {
  std::error_code error;
  fs::remove_all(records_, error);
  if (!error) return ok_status();
  return internal_error("cannot remove {}: {}", records_, error.message());
}

// A container runs as well without its record; one that says something else than it was given would
// be worse than none.
void ContainerUpkeep::save(const std::string& container_id, const InsideState& wanted,
                           bool changing) {
  const std::string path = record_path(container_id);
  const Status saved =
      write_file_atomic(path, format_inside_record({wanted, changing}), 0600, Durability::kNone);
  if (saved.ok()) return;
  std::error_code error;
  fs::remove(path, error);
  log_->warn("container {}: what it was given is not remembered: {}", container_id,
             saved.message());
}

Status ContainerUpkeep::attach(const std::string& container_id, const AttachPlan& plan) {
  Kept kept;
  MUSTER_ASSIGN(kept.wanted, planned_inside(plan));
  MUSTER_TRY(in_namespace(pins_.path(container_id), [&]() -> Status {
    MUSTER_ASSIGN(kept.watch, ChangeWatch::open());
    return ok_status();
  }));
  save(container_id, kept.wanted, false);
  std::lock_guard lock(mutex_);
  kept_.insert_or_assign(container_id, std::move(kept));
  return ok_status();
}

Status ContainerUpkeep::adopt_here(const std::string& container_id, Kept& kept,
                                   std::vector<std::string>& said) {
  MUSTER_ASSIGN(kept.watch, ChangeWatch::open());
  MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
  MUSTER_ASSIGN(InsideState found, read_inside(socket));
  Result<InsideRecord> record = fail(not_found("none"));
  const auto text = read_file(record_path(container_id), kRecordMax);
  if (text) {
    record = parse_inside_record(*text);
    if (!record) log_->warn("container {}: {}", container_id, record.error().message());
  }
  if (!record) {
    kept.wanted = ours_of(std::move(found));
    save(container_id, kept.wanted, false);
    return ok_status();
  }
  kept.wanted = std::move(record->wanted);
  // Whoever was changing it is dead, and begins anew.
  std::set<int> gone;
  for (const auto& [index, link] : kept.wanted.links) {
    if (record->changing && !found.links.contains(index)) gone.insert(index);
  }
  for (const int index : gone) forget_interface(kept.wanted, index);
  return mend(container_id, kept, found, socket, said);
}

Status ContainerUpkeep::adopt(const std::string& container_id) {
  Kept kept;
  std::vector<std::string> said;
  kept.behind = false;
  const Status adopted =
      in_namespace(pins_.path(container_id), [&] { return adopt_here(container_id, kept, said); });
  if (!kept.watch) return adopted;
  // What could not be put back is tried again.
  kept.behind = !adopted.ok();
  std::lock_guard lock(mutex_);
  kept_.insert_or_assign(container_id, std::move(kept));
  std::move(said.begin(), said.end(), std::back_inserter(adopted_));
  return adopted;
}

void ContainerUpkeep::detach(const std::string& container_id) {
  std::error_code error;
  fs::remove(record_path(container_id), error);
  std::lock_guard lock(mutex_);
  kept_.erase(container_id);
}

void ContainerUpkeep::begin_change(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  const auto at = kept_.find(container_id);
  if (at == kept_.end()) return;
  at->second.changing = true;
  save(container_id, at->second.wanted, true);
}

Status ContainerUpkeep::changed(const std::string& container_id, const AttachPlan& made,
                                const std::vector<std::string>& left, bool way_left) {
  MUSTER_ASSIGN(InsideState more, planned_inside(made));
  std::lock_guard lock(mutex_);
  const auto at = kept_.find(container_id);
  if (at == kept_.end()) return ok_status();
  Kept& kept = at->second;
  std::set<int> gone;
  for (const auto& [index, link] : kept.wanted.links) {
    const bool named = std::find(left.begin(), left.end(), link.name) != left.end();
    // One that was made anew has another index.
    const bool again = std::any_of(more.links.begin(), more.links.end(),
                                   [&](const auto& item) { return item.second.name == link.name; });
    if (named || again) gone.insert(index);
  }
  if (way_left) gone.merge(ways_of(kept.wanted));
  for (const int index : gone) forget_interface(kept.wanted, index);
  std::erase_if(more.rules, [&](const PolicyRule& rule) {
    return std::find(kept.wanted.rules.begin(), kept.wanted.rules.end(), rule) !=
           kept.wanted.rules.end();
  });
  add(kept.wanted, std::move(more));
  kept.changing = false;
  kept.behind = true;
  save(container_id, kept.wanted, false);
  return ok_status();
}

void ContainerUpkeep::tell(const std::string& container_id, Kept& kept,
                           const std::string& sentence) {
  if (std::exchange(kept.told, sentence) == sentence || sentence.empty()) return;
  log_->warn("container {}: {}", container_id, sentence);
}

// On a socket of the container's namespace.
Status ContainerUpkeep::mend(const std::string& container_id, Kept& kept, const InsideState& now,
                             NetlinkSocket& socket, std::vector<std::string>& said) {
  const InsideMending mending = mend_inside(kept.wanted, now);
  tell(container_id, kept,
       mending.left.empty()
           ? std::string()
           : fmt::format("{} is down or gone, and is left so", fmt::join(mending.left, ", ")));
  MUSTER_TRY(socket.run(mending.requests));
  for (const std::string& difference : mending.said) {
    said.push_back(fmt::format("container {} {}", container_id, difference));
  }
  return ok_status();
}

Status ContainerUpkeep::look(const std::string& container_id, Kept& kept,
                             std::vector<std::string>& said) {
  return in_namespace(pins_.path(container_id), [&]() -> Status {
    MUSTER_ASSIGN(NetlinkSocket socket, NetlinkSocket::open(NETLINK_ROUTE));
    MUSTER_ASSIGN(const InsideState now, read_inside(socket));
    return mend(container_id, kept, now, socket, said);
  });
}

void ContainerUpkeep::repair(std::vector<std::string>& said) {
  std::lock_guard lock(mutex_);
  std::move(adopted_.begin(), adopted_.end(), std::back_inserter(said));
  adopted_.clear();
  for (auto& [container_id, kept] : kept_) {
    // What it tells of is older than what is listed then.
    const bool moved = kept.watch.moved();
    kept.behind = kept.behind || moved;
    if (!kept.behind || kept.changing) continue;
    const Status looked = look(container_id, kept, said);
    kept.behind = !looked.ok();
    if (!looked.ok()) tell(container_id, kept, looked.message());
  }
}

}  // namespace muster::overlay
