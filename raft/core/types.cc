#include "raft/core/types.h"

#include <algorithm>

namespace muster::raft {
namespace {

constexpr uint8_t kMembersVersion = 1;
constexpr uint8_t kVoterBit = 1;
constexpr uint8_t kOutgoingBit = 2;

void put_number(std::string& out, uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<char>(value >> (8 * i)));
}

void put_text(std::string& out, const std::string& text) {
  put_number(out, text.size(), 2);
  out += text;
}

// Reads from the front; once too little is left, everything fails.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  uint64_t number(size_t bytes) {
    uint64_t value = 0;
    for (const char c : take(bytes)) value = value << 8 | static_cast<uint8_t>(c);
    return value;
  }
  std::string text() { return std::string(take(number(2))); }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && rest_.empty(); }

 private:
  std::string_view take(size_t bytes) {
    if (!ok_ || rest_.size() < bytes) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

bool by_id(const Member& member, MemberId id) {
  return member.id < id;
}

template <class Keep>
std::vector<MemberId> select(const std::vector<Member>& list, const Keep& keep) {
  std::vector<MemberId> ids;
  for (const Member& member : list) {
    if (keep(member)) ids.push_back(member.id);
  }
  return ids;
}

}  // namespace

const Member* Members::find(MemberId id) const {
  const auto found = std::lower_bound(list.begin(), list.end(), id, by_id);
  return found != list.end() && found->id == id ? &*found : nullptr;
}

bool Members::is_voter(MemberId id) const {
  const Member* member = find(id);
  return member != nullptr && (member->voter || member->outgoing);
}

bool Members::is_learner(MemberId id) const {
  return find(id) != nullptr && !is_voter(id);
}

bool Members::joint() const {
  return std::any_of(list.begin(), list.end(), [](const Member& m) { return m.outgoing; });
}

std::vector<MemberId> Members::voters() const {
  return select(list, [](const Member& m) { return m.voter; });
}

std::vector<MemberId> Members::outgoing() const {
  return select(list, [](const Member& m) { return m.outgoing; });
}

void Members::put(Member member) {
  const auto at = std::lower_bound(list.begin(), list.end(), member.id, by_id);
  if (at != list.end() && at->id == member.id) {
    *at = std::move(member);
  } else {
    list.insert(at, std::move(member));
  }
}

void Members::remove(MemberId id) {
  std::erase_if(list, [&](const Member& m) { return m.id == id; });
}

std::string encode_members(const Members& members) {
  std::string out;
  put_number(out, kMembersVersion, 1);
  put_number(out, members.list.size(), 2);
  for (const Member& member : members.list) {
    put_number(out, member.id.value, 8);
    put_number(out, (member.voter ? kVoterBit : 0U) | (member.outgoing ? kOutgoingBit : 0U), 1);
    put_text(out, member.node_id);
    put_text(out, member.address);
  }
  return out;
}

Result<Members> decode_members(std::string_view bytes) {
  Reader reader(bytes);
  if (const uint64_t version = reader.number(1); reader.ok() && version != kMembersVersion) {
    return fail(data_loss("members of unknown version {}", version));
  }
  Members members;
  MemberId last;
  const uint64_t count = reader.number(2);
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    Member member;
    member.id.value = reader.number(8);
    const uint64_t bits = reader.number(1);
    member.voter = (bits & kVoterBit) != 0;
    member.outgoing = (bits & kOutgoingBit) != 0;
    member.node_id = reader.text();
    member.address = reader.text();
    if (member.id <= last) return fail(data_loss("members out of order"));
    last = member.id;
    members.list.push_back(std::move(member));
  }
  if (!reader.at_end()) return fail(data_loss("members are cut off or too long"));
  return members;
}

std::string_view to_string(Role role) {
  switch (role) {
    case Role::kFollower: return "follower";
    case Role::kPreCandidate: return "pre-candidate";
    case Role::kCandidate: return "candidate";
    case Role::kLeader: return "leader";
  }
  return "unknown";
}

}  // namespace muster::raft
