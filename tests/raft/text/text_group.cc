#include "tests/raft/text/text_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <sstream>

namespace muster::raft {
namespace {

struct BadCommand {
  std::string what;
};

uint64_t number(const std::string& word) {
  if (word.empty() || word.find_first_not_of("0123456789") != std::string::npos) {
    throw BadCommand{fmt::format("'{}' is no number", word)};
  }
  return std::stoull(word);
}

MemberId member_id(const std::string& word) {
  return {number(word)};
}

std::string name(MemberId id) {
  return id ? std::to_string(id.value) : "-";
}

Member describe(MemberId id, bool voter) {
  return {.id = id, .node_id = fmt::format("n{}", id.value), .address = "", .voter = voter};
}

// "1 2 3 +4": voters, and learners with a plus.
std::string text_of(const Members& members) {
  std::string out;
  for (const Member& member : members.list) {
    if (!out.empty()) out += ' ';
    if (!member.voter) out += '+';
    out += std::to_string(member.id.value);
  }
  return out;
}

std::string text_of(const Entry& entry) {
  std::string what;
  switch (entry.kind) {
    case EntryKind::kEmpty: what = "empty"; break;
    case EntryKind::kData: what = std::string(entry.bytes()); break;
    case EntryKind::kMembers:
      what = fmt::format("members({})", text_of(*decode_members(entry.bytes())));
      break;
  }
  return fmt::format("{}/{} {}", entry.index, entry.term, what);
}

std::string text_of(const std::vector<Entry>& entries) {
  std::string out;
  for (const Entry& entry : entries) out += (out.empty() ? "" : ", ") + text_of(entry);
  return out;
}

std::string text_of(const Message& m) {
  std::string out =
      fmt::format("{}>{} {} term={}", name(m.from), name(m.to), to_string(m.kind), m.term);
  switch (m.kind) {
    case MessageKind::kAppend:
      out += fmt::format(" after={}/{} commit={} [{}]", m.prev_index, m.prev_term, m.commit,
                         text_of(m.entries));
      break;
    case MessageKind::kAppendReply:
      out += m.reject
                 ? fmt::format(" refused after={} hint={}/{}", m.prev_index, m.index, m.hint_term)
                 : fmt::format(" has={}", m.index);
      break;
    case MessageKind::kHeartbeat:
      out += fmt::format(" commit={} round={}", m.commit, m.read_round);
      break;
    case MessageKind::kHeartbeatReply: out += fmt::format(" round={}", m.read_round); break;
    case MessageKind::kPreVote:
    case MessageKind::kVote:
      out += fmt::format(" last={}/{}{}", m.prev_index, m.prev_term, m.transfer ? " transfer" : "");
      break;
    case MessageKind::kPreVoteReply:
    case MessageKind::kVoteReply: out += m.reject ? " refused" : " granted"; break;
    case MessageKind::kSnapshot:
      out += fmt::format(" at={}/{} group={}", m.snapshot.index, m.snapshot.term,
                         text_of(m.snapshot.members));
      break;
    case MessageKind::kTimeoutNow: break;
  }
  return out;
}

std::string text_of(const Write& write) {
  std::string out;
  if (write.hard_state) {
    out += fmt::format(" term={} vote={}", write.hard_state->term, name(write.hard_state->vote));
  }
  if (write.install)
    out += fmt::format(" snapshot={}/{}", write.install->index, write.install->term);
  if (!write.entries.empty()) out += fmt::format(" [{}]", text_of(write.entries));
  return out;
}

}  // namespace

std::string TextGroup::run(const std::string& command_line) {
  std::istringstream in(command_line);
  Words words;
  for (std::string word; in >> word;) words.push_back(word);
  said_.clear();
  quiet_ = false;
  try {
    if (words.empty()) throw BadCommand{"no command"};
    if (words.back() == "quietly") {
      quiet_ = true;
      words.pop_back();
    }
    if (const std::string error = call(words); !error.empty()) throw BadCommand{error};
  } catch (const BadCommand& bad) {
    return bad.what + "\n";
  }
  return said_.empty() ? "ok\n" : said_;
}

std::string TextGroup::call(const Words& words) {
  const std::string& verb = words[0];
  const auto arg = [&](size_t i) -> const std::string& {
    if (i >= words.size()) throw BadCommand{fmt::format("'{}' wants more words", verb)};
    return words[i];
  };
  if (verb == "found") {
    // "found 3 small": one entry a message; "patient": word of commits waits for entries.
    if (words.size() > 2 && words[2] == "small") tuning_.append_bytes_max = 1;
    if (words.size() > 2 && words[2] == "patient") tuning_.commit_news = 2ms;
    found(number(arg(1)));
  } else if (verb == "stranger") {
    boot(member_id(arg(1)));
  } else if (verb == "campaign") {
    // Its time-out is over; the others' clocks have moved as far.
    Core& c = core(member_id(arg(1)));
    if (c.role() == Role::kLeader) throw BadCommand{"it leads already"};
    for (int i = 0; i < 10 && !c.has_output(); ++i) {
      now_ = std::max(now_, c.next_deadline());
      c.tick(now_);
    }
    drain(c.self());
  } else if (verb == "wait") {
    now_ = now_ + Duration(std::chrono::milliseconds(number(arg(1))));
    for (size_t i = 2; i < words.size(); ++i) {
      core(member_id(words[i])).tick(now_);
      drain(member_id(words[i]));
    }
  } else if (verb == "propose") {
    Core& c = core(member_id(arg(1)));
    if (const auto index = c.propose(now_, arg(2)); !index) say(index.error());
    drain(c.self());
  } else if (verb == "change") {
    change(member_id(arg(1)), words);
  } else if (verb == "read") {
    Core& c = core(member_id(arg(1)));
    const auto ticket = c.read(now_);
    if (ticket) say(fmt::format("{} read {} asked for", arg(1), *ticket));
    if (!ticket) say(ticket.error());
    drain(c.self());
  } else if (verb == "transfer") {
    Core& c = core(member_id(arg(1)));
    if (const Status s = c.transfer_to(now_, member_id(arg(2))); !s.ok()) say(s);
    drain(c.self());
  } else if (verb == "suspect") {
    core(member_id(arg(1))).suspect_leader(now_);
    drain(member_id(arg(1)));
  } else if (verb == "disk") {
    finish_disk(member_id(arg(1)), words.size() > 2 ? number(words[2]) : SIZE_MAX);
  } else if (verb == "deliver" || verb == "lose") {
    move_messages(words, verb == "lose");
  } else if (verb == "stabilize") {
    stabilize(words);
  } else if (verb == "crash") {
    // What its disk had not finished is gone, and so is what was on its way from and to it.
    const MemberId id = member_id(arg(1));
    one(id).core.reset();
    one(id).writing.clear();
    std::erase_if(network_, [&](const Message& m) { return m.from == id || m.to == id; });
  } else if (verb == "restart") {
    boot(member_id(arg(1)));
  } else if (verb == "compact") {
    compact(member_id(arg(1)), number(arg(2)));
  } else if (verb == "log") {
    for (size_t i = 1; i < words.size(); ++i) show_log(member_id(words[i]));
  } else if (verb == "status") {
    show_status();
  } else {
    return fmt::format("unknown command '{}'", verb);
  }
  return {};
}

void TextGroup::found(uint64_t voters) {
  for (uint64_t i = 1; i <= voters; ++i) founders_.put(describe({i}, true));
  for (uint64_t i = 1; i <= voters; ++i) boot({i});
}

void TextGroup::boot(MemberId id) {
  One& m = members_[id];
  m.rng = std::make_unique<SeededRng>(id.value);
  m.writing.clear();
  const Members first = founders_.find(id) != nullptr ? founders_ : Members();
  m.core = std::make_unique<Core>(tuning_, id, m.disk.restored(), first, *m.rng, now_);
  drain(id);
}

TextGroup::One& TextGroup::one(MemberId id) {
  const auto found = members_.find(id);
  if (found == members_.end()) throw BadCommand{fmt::format("there is no member {}", id.value)};
  return found->second;
}

Core& TextGroup::core(MemberId id) {
  One& m = one(id);
  if (m.core == nullptr) throw BadCommand{fmt::format("member {} is down", id.value)};
  return *m.core;
}

void TextGroup::say(std::string line) {
  if (!quiet_) said_ += line + "\n";
}

void TextGroup::say(const Status& status) {
  say(fmt::format("error: {} ({})", status.message(), status.reason()));
}

void TextGroup::drain(MemberId id) {
  One& m = one(id);
  while (m.core->has_output()) {
    Output out = m.core->take();
    if (out.role) {
      say(fmt::format("{} is {} in term {}, leader {}", name(id), to_string(out.role->role),
                      out.role->term, name(out.role->leader)));
    }
    for (Write& write : out.writes) {
      if (!write.nothing()) say(fmt::format("{} writes{}", name(id), text_of(write)));
      m.writing.push_back(std::move(write));
    }
    for (Message& message : out.messages) {
      say(text_of(message));
      const auto to = members_.find(message.to);
      const bool down = to != members_.end() && to->second.core == nullptr;
      if (!down) network_.push_back(std::move(message));
    }
    if (out.restore) {
      say(fmt::format("{} takes the snapshot at {}", name(id), out.restore->index));
      m.core->applied(now_, out.restore->index);
    }
    if (!out.apply.empty()) {
      say(fmt::format("{} applies [{}]", name(id), text_of(out.apply)));
      m.core->applied(now_, out.apply.back().index);
    }
    for (const ReadGrant& grant : out.reads) {
      say(grant.index == 0
              ? fmt::format("{} refuses read {}", name(id), grant.ticket)
              : fmt::format("{} may read {} from {} on", name(id), grant.ticket, grant.index));
    }
    m.core->check_invariants();
  }
}

void TextGroup::finish_disk(MemberId id, size_t steps) {
  core(id);
  One& m = one(id);
  for (; steps > 0 && !m.writing.empty(); --steps) {
    const uint64_t token = m.writing.front().token;
    if (!m.disk.write(m.writing.front())) throw BadCommand{"the write does not fit the disk"};
    m.writing.pop_front();
    m.core->written(now_, token);
    drain(id);
  }
}

void TextGroup::arrive(const Message& message) {
  const auto to = members_.find(message.to);
  if (to == members_.end() || to->second.core == nullptr) return;
  say(fmt::format("  {}", text_of(message)));
  to->second.core->step(now_, message);
  drain(message.to);
}

void TextGroup::stabilize(const Words& words) {
  std::set<MemberId> side;
  for (size_t i = 1; i < words.size(); ++i) side.insert(member_id(words[i]));
  const auto in = [&](MemberId id) {
    return (side.empty() || side.contains(id)) && members_.contains(id) &&
           members_[id].core != nullptr;
  };
  for (int rounds = 0; rounds < 1000; ++rounds) {
    bool any = false;
    for (auto& [id, m] : members_) {
      if (!in(id) || m.writing.empty()) continue;
      finish_disk(id, SIZE_MAX);
      any = true;
    }
    std::deque<Message> present;
    present.swap(network_);
    std::deque<Message> rest;
    for (Message& message : present) {
      if (in(message.from) && in(message.to)) {
        arrive(message);
        any = true;
      } else {
        rest.push_back(std::move(message));
      }
    }
    network_.insert(network_.begin(), rest.begin(), rest.end());
    if (!any) return;
  }
  throw BadCommand{"it does not come to rest"};
}

void TextGroup::move_messages(const Words& words, bool lose) {
  if (words.size() < 2) throw BadCommand{"from whom to whom? (A>B)"};
  const bool all = words[1] == "all";
  MemberId from;
  MemberId to;
  if (!all) {
    const size_t at = words[1].find('>');
    if (at == std::string::npos) throw BadCommand{"from whom to whom? (A>B)"};
    from = member_id(words[1].substr(0, at));
    to = member_id(words[1].substr(at + 1));
  }
  std::deque<Message> present;
  present.swap(network_);
  std::deque<Message> chosen;
  std::deque<Message> rest;
  for (Message& message : present) {
    const bool fits = (all || (message.from == from && message.to == to)) &&
                      (words.size() < 3 || to_string(message.kind) == words[2]);
    (fits ? chosen : rest).push_back(std::move(message));
  }
  network_ = std::move(rest);
  if (lose) return;
  for (const Message& message : chosen) arrive(message);
}

void TextGroup::change(MemberId leader, const Words& words) {
  if (words.size() < 4) throw BadCommand{"change LEADER add|promote|remove MEMBER"};
  Core& c = core(leader);
  Members next = c.members();
  const MemberId id = member_id(words[3]);
  if (words[2] == "add") {
    next.put(describe(id, false));
  } else if (words[2] == "promote") {
    next.put(describe(id, true));
  } else if (words[2] == "remove") {
    next.remove(id);
  } else {
    throw BadCommand{"change LEADER add|promote|remove MEMBER"};
  }
  if (const auto index = c.propose_members(now_, std::move(next)); !index) say(index.error());
  drain(leader);
}

void TextGroup::compact(MemberId id, Index keep_from) {
  Core& c = core(id);
  const Index at = c.applied_index();
  const SnapshotMark mark{at, c.log().term(at).value_or(0), c.members_at(at)};
  sim::RaftImage& disk = one(id).disk;
  disk.snapshot = mark;
  while (!disk.entries.empty() && disk.base_index + 1 < keep_from) {
    disk.base_term = disk.entries.front().term;
    ++disk.base_index;
    disk.entries.erase(disk.entries.begin());
  }
  c.compacted(mark, keep_from);
  say(fmt::format("{} has a snapshot at {}/{} and the log from {}", name(id), mark.index, mark.term,
                  c.log().first()));
  drain(id);
}

void TextGroup::show_log(MemberId id) {
  const Core& c = core(id);
  std::vector<Entry> entries;
  for (Index i = c.log().first(); i <= c.log().last(); ++i) entries.push_back(c.log().at(i));
  say(fmt::format("{}: [{}] durable={} commit={} applied={}", name(id), text_of(entries),
                  c.durable(), c.commit(), c.applied_index()));
}

void TextGroup::show_status() {
  for (const auto& [id, m] : members_) {
    if (m.core == nullptr) {
      say(fmt::format("{} is down", name(id)));
      continue;
    }
    const Core& c = *m.core;
    say(fmt::format("{} {} term={} vote={} leader={} commit={} last={}/{} group={}", name(id),
                    to_string(c.role()), c.term(), name(c.vote()), name(c.leader()), c.commit(),
                    c.log().last(), c.log().last_term(), text_of(c.members())));
  }
}

}  // namespace muster::raft
