#include "agent/worker/feed_files.h"

#include <charconv>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace muster::agent {
namespace {

constexpr std::string_view kHeader = "muster-network 1 ";
constexpr size_t kBytesMax = 256 << 20;

struct Parsed {
  uint64_t number = 0;
  v1::NetworkFeed feed;
};

std::string text_of(uint64_t number, const v1::NetworkFeed& feed) {
  std::string text = fmt::format("{}{}\n", kHeader, number);
  feed.AppendToString(&text);
  return text;
}

std::optional<Parsed> parse(const std::string& text) {
  if (!text.starts_with(kHeader)) return std::nullopt;
  Parsed out;
  const char* const begin = text.data() + kHeader.size();
  const char* const end = text.data() + text.size();
  const auto number = std::from_chars(begin, end, out.number);
  if (number.ec != std::errc() || number.ptr == end || *number.ptr != '\n') return std::nullopt;
  const char* const rest = number.ptr + 1;
  if (!out.feed.ParseFromArray(rest, static_cast<int>(end - rest))) return std::nullopt;
  return out;
}

}  // namespace

Result<std::vector<overlay::NetworkStep>> FeedFiles::load() {
  MUSTER_TRY(files_.make_directory(directory_, 0700));
  files_.remove_temporaries(directory_);
  MUSTER_ASSIGN(const std::vector<std::string> names, files_.list(directory_));
  const auto read = [&](const std::string& name) {
    auto text = files_.read(directory_ + "/" + name, kBytesMax);
    return text ? parse(*text) : std::nullopt;
  };
  std::vector<overlay::NetworkStep> out;
  std::map<std::string, Kept> kept;
  std::set<std::string> useful;
  for (const std::string& id : names) {
    if (id.find('.') != std::string::npos) continue;
    auto whole = read(id);
    if (!whole) continue;
    Kept& about = kept[id];
    about.number = whole->number;
    about.whole = true;
    useful.insert(id);
    out.push_back({id, true, std::move(whole->feed)});
    for (;;) {
      const std::string name = fmt::format("{}.{}", id, about.number + 1);
      auto increment = read(name);
      if (!increment) break;
      useful.insert(name);
      ++about.number;
      ++about.increments;
      out.push_back({id, false, std::move(increment->feed)});
    }
  }
  for (const std::string& name : names) {
    if (!useful.contains(name)) MUSTER_TRY(files_.remove(directory_ + "/" + name));
  }
  std::lock_guard lock(mutex_);
  kept_ = std::move(kept);
  return out;
}

Status FeedFiles::save(const overlay::NetworkStep& step) {
  Kept kept;
  {
    std::lock_guard lock(mutex_);
    const auto at = kept_.find(step.network_id);
    if (at != kept_.end()) kept = at->second;
    if (!kept.whole && !step.complete) return ok_status();
  }
  const uint64_t number = kept.number + 1;
  const std::string name =
      step.complete ? path(step.network_id) : fmt::format("{}.{}", path(step.network_id), number);
  const Status written = files_.write(name, text_of(number, step.feed), 0600, Durability::kNone);
  if (!written.ok()) {
    // What comes next would not follow on what is there.
    (void)remove(step.network_id);
    return written;
  }
  if (step.complete) drop_increments(step.network_id, kept);
  std::lock_guard lock(mutex_);
  kept_[step.network_id] = {number, step.complete ? 0 : kept.increments + 1, true};
  return ok_status();
}

bool FeedFiles::wants_whole(const std::string& network_id) const {
  std::lock_guard lock(mutex_);
  const auto at = kept_.find(network_id);
  return at == kept_.end() || !at->second.whole || at->second.increments >= kIncrementsMax;
}

Status FeedFiles::remove(const std::string& network_id) {
  Kept kept;
  {
    std::lock_guard lock(mutex_);
    const auto at = kept_.find(network_id);
    if (at == kept_.end() || !at->second.whole) return ok_status();
    kept = at->second;
    at->second = {kept.number, 0, false};
  }
  // First what the rest means nothing without.
  const Status removed = files_.remove(path(network_id));
  drop_increments(network_id, kept);
  return removed;
}

void FeedFiles::drop_increments(const std::string& network_id, const Kept& kept) {
  for (size_t i = 0; i < kept.increments; ++i) {
    (void)files_.remove(fmt::format("{}.{}", path(network_id), kept.number - i));
  }
}

}  // namespace muster::agent
