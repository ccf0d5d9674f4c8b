#include "agent/doctor/beacons.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace muster::agent {
namespace {

// magic, kind, heard, size (2 bytes, high first), examination id and sender with a byte of length
// each, zeroes up to the size.
constexpr std::string_view kMagic = "mdoc1";
constexpr uint8_t kAnswerFlag = 0x80;
constexpr uint8_t kHeardSmall = 1;
constexpr uint8_t kHeardFull = 2;
constexpr uint8_t kFinished = 4;  // of the sender, with this peer
constexpr size_t kHeader = 9;

struct Read {
  uint8_t kind = 0;
  bool answer = false;
  uint8_t heard = 0;
  std::string_view examination_id;
  std::string_view sender;
};

std::optional<std::string_view> take_text(std::string_view& rest) {
  if (rest.empty()) return std::nullopt;
  const size_t size = static_cast<uint8_t>(rest.front());
  if (rest.size() < 1 + size) return std::nullopt;
  const std::string_view out = rest.substr(1, size);
  rest.remove_prefix(1 + size);
  return out;
}

std::optional<Read> read_frame(std::string_view content) {
  if (content.size() < kHeader || !content.starts_with(kMagic)) return std::nullopt;
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(content[at]); };
  Read out;
  out.kind = byte(5) & ~kAnswerFlag;
  out.answer = (byte(5) & kAnswerFlag) != 0;
  out.heard = byte(6);
  const size_t size = static_cast<size_t>(byte(7)) << 8 | byte(8);
  // Short frames are padded on some ways; one that lacks something did not arrive.
  if (content.size() < size) return std::nullopt;
  std::string_view rest = content.substr(kHeader);
  const auto id = take_text(rest);
  const auto sender = id ? take_text(rest) : std::nullopt;
  if (!sender) return std::nullopt;
  out.examination_id = *id;
  out.sender = *sender;
  return out;
}

size_t size_of(std::string_view content) {
  return static_cast<size_t>(static_cast<uint8_t>(content[7])) << 8 |
         static_cast<uint8_t>(content[8]);
}

}  // namespace

Beacons::Beacons(std::string examination_id, std::string self,
                 const std::vector<std::string>& peers, size_t full)
    : examination_id_(examination_id.substr(0, 48)),
      self_(self.substr(0, 48)),
      full_(std::clamp<size_t>(full, kFullMin, 65'000)) {
  for (const std::string& peer : peers) {
    if (peer != self_) peers_[peer];
  }
  unfinished_ = peers_.size();
}

std::string Beacons::frame(const Peer& peer, Kind kind, bool answer, size_t size) const {
  std::string out(kMagic);
  out += static_cast<char>(kind | (answer ? kAnswerFlag : 0));
  out += static_cast<char>((peer.heard.small ? kHeardSmall : 0) |
                           (peer.heard.full ? kHeardFull : 0) | (peer.finished() ? kFinished : 0));
  const size_t least = kHeader + 2 + examination_id_.size() + self_.size();
  size = std::max(size, least);
  out += static_cast<char>(size >> 8);
  out += static_cast<char>(size & 0xff);
  for (const std::string* text : {&examination_id_, &self_}) {
    out += static_cast<char>(text->size());
    out += *text;
  }
  out.resize(size, '\0');
  return out;
}

// From just below the full size, where a header more is in the way, down to what every way of IPv4
// carries.
std::vector<size_t> Beacons::ladder() const {
  std::vector<size_t> out;
  for (const size_t less : {4, 8, 20, 50, 100, 150, 200, 300, 400}) {
    if (full_ > less) out.push_back(full_ - less);
  }
  for (const size_t size : {8'900, 4'000, 1'450, 1'422, 1'400, 1'372, 1'350, 1'300, 1'250, 1'200,
                            1'100, 1'000, 800, 526}) {
    if (size < full_) out.push_back(size);
  }
  std::erase_if(out, [](size_t size) { return size < kFullMin; });
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<Beacons::Frame> Beacons::round() {
  std::vector<Frame> out;
  ++rounds_;
  const bool try_sizes = rounds_ > kLadderAfter && rounds_ % kLadderEvery == 0;
  const std::vector<size_t> sizes = try_sizes ? ladder() : std::vector<size_t>();
  for (const auto& [name, peer] : peers_) {
    if (peer.finished()) continue;
    out.push_back({name, frame(peer, kSmall, false, 0)});
    if (peer.told_full) continue;
    out.push_back({name, frame(peer, kFull, false, full_)});
    for (const size_t size : sizes) out.push_back({name, frame(peer, kLadder, false, size)});
  }
  return out;
}

std::vector<Beacons::Frame> Beacons::received(std::string_view content) {
  const auto read = read_frame(content);
  if (!read || read->examination_id != examination_id_) return {};
  const auto at = peers_.find(std::string(read->sender));
  if (at == peers_.end()) return {};
  Peer& peer = at->second;
  const bool was_finished = peer.finished();
  peer.heard.largest = std::max(peer.heard.largest, size_of(content));
  if (read->kind == kSmall) peer.heard.small = true;
  // What is large has passed, so would what is small.
  if (read->kind == kFull) peer.heard.small = peer.heard.full = true;
  if ((read->heard & kHeardSmall) != 0) peer.heard.hears = true;
  if ((read->heard & kHeardFull) != 0) peer.told_full = true;
  if (!was_finished && peer.finished()) --unfinished_;
  // Who goes on asking lacks a frame, or does not know that its own have come. Answers are not
  // answered, and one of the sender's frames is enough.
  if ((read->heard & kFinished) != 0 || read->answer || read->kind != kSmall) return {};
  return {{at->first, frame(peer, kSmall, true, 0)}, {at->first, frame(peer, kFull, true, full_)}};
}

}  // namespace muster::agent
