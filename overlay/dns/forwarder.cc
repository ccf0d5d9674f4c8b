#include "overlay/dns/forwarder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "overlay/dns/resolver.h"

namespace muster::overlay::dns {
namespace {

std::string server_key(const std::string& container, const Upstream& server) {
  return server.from_node ? "node " + server.address.str() : container + " " + server.address.str();
}

std::string question_key(const Query& query) {
  return fmt::format("{} {} {} {}{}{}{}", query.name_wire, query.type, query.klass,
                     query.dnssec_ok ? 'D' : '-', query.checking_disabled ? 'C' : '-',
                     query.authentic_data ? 'A' : '-', query.recursion_desired ? 'R' : '-');
}

// What one container learned another may not know (its own servers may say other things to it),
// unless both asked the node's.
std::string cache_scope(const std::string& container, const std::vector<Upstream>& servers) {
  const bool shared = std::all_of(servers.begin(), servers.end(),
                                  [](const Upstream& server) { return server.from_node; });
  return shared ? "" : container;
}

}  // namespace

void Forwarder::ask(TimePoint now, Request request, Done done) {
  // The letters' case belongs to whoever asks and is restored in the answer.
  Query asked = request.query;
  asked.name_wire = lower_case(asked.name_wire);
  const std::string what = question_key(asked);
  const std::string cache_key = cache_scope(request.container, request.servers) + "/" + what;
  if (const auto found = cache_.get(now, cache_key)) {
    return done(relay_answer(found->packet, request.query, found->age, request.bytes_max));
  }
  size_t& of_container = per_container_[request.container];
  if (request.servers.empty() || waiting_count_ >= kWaitingMax ||
      of_container >= kWaitingPerContainerMax) {
    if (of_container == 0) per_container_.erase(request.container);
    return done(failure_answer(request.query, kServerFailure));
  }
  ++of_container;
  ++waiting_count_;
  const std::string key = request.container + "/" + what;
  const auto [it, fresh] = questions_.try_emplace(key);
  Question& question = it->second;
  question.waiters.push_back({std::move(request.query), request.bytes_max, std::move(done)});
  if (!fresh) return;
  question.key = key;
  question.cache_key = cache_key;
  question.container = request.container;
  question.query = std::move(asked);
  question.servers = std::move(request.servers);
  // Those that failed lately come last; else the order is the administrator's.
  std::stable_partition(
      question.servers.begin(), question.servers.end(), [&](const Upstream& server) {
        const auto found = shunned_until_.find(server_key(question.container, server));
        return found == shunned_until_.end() || found->second <= now;
      });
  const auto servers = static_cast<int64_t>(question.servers.size());
  question.wait = std::min(kFirstWait, kPatience / (2 * servers));
  question.end = now + kPatience;
  ask_next(now, question);
}

void Forwarder::ask_next(TimePoint now, Question& question) {
  if (question.next_server >= question.servers.size() && !question.again) {
    question.again = true;
    question.servers = std::exchange(question.silent, {});
    question.next_server = 0;
    if (!question.servers.empty()) {
      question.wait = (question.end - now) / static_cast<int64_t>(question.servers.size());
    }
  }
  if (question.next_server >= question.servers.size() || now >= question.end) {
    const std::string refusal = std::move(question.last_refusal);
    return finish(question, refusal);
  }
  question.tcp = false;
  question.edns = true;
  send(now, question);
}

void Forwarder::send(TimePoint now, Question& question) {
  question.id = static_cast<uint16_t>(rng_.next());
  question.exchange = next_exchange_++;
  question.deadline = std::min(now + (question.tcp ? kTcpTimeout : question.wait), question.end);
  exchanges_[question.exchange] = question.key;
  deadlines_.emplace(question.deadline, question.exchange);
  port_.send(question.exchange, question.container, question.servers[question.next_server],
             question.tcp, build_upstream_query(question.query, question.id, question.edns));
}

void Forwarder::end_exchange(Question& question) {
  if (question.exchange == 0) return;
  deadlines_.erase({question.deadline, question.exchange});
  exchanges_.erase(question.exchange);
  port_.close(question.exchange);
  question.exchange = 0;
}

void Forwarder::shun(TimePoint now, const Question& question) {
  // Keys of containers that are gone go with time.
  std::erase_if(shunned_until_, [&](const auto& entry) { return entry.second <= now; });
  shunned_until_[server_key(question.container, question.servers[question.next_server])] =
      now + kShunned;
}

void Forwarder::next_after(TimePoint now, Question& question) {
  end_exchange(question);
  ++question.next_server;
  ask_next(now, question);
}

Forwarder::Question* Forwarder::by_exchange(uint64_t exchange) {
  const auto found = exchanges_.find(exchange);
  return found == exchanges_.end() ? nullptr : &questions_.at(found->second);
}

void Forwarder::received(TimePoint now, uint64_t exchange, std::string_view packet) {
  Question* question = by_exchange(exchange);
  if (question == nullptr) return;
  const auto answer = parse_upstream_answer(packet, question->query, question->id);
  if (!answer) {
    // Over UDP anybody can send; the real answer may still come. A connection has no second one.
    if (question->tcp) next_after(now, *question);
    return;
  }
  if (answer->truncated && !question->tcp) {
    end_exchange(*question);
    question->tcp = true;
    return send(now, *question);
  }
  if (question->edns && (answer->rcode == kFormatError || answer->rcode == kNotImplemented)) {
    // An old server, which does not know EDNS.
    end_exchange(*question);
    question->edns = false;
    return send(now, *question);
  }
  if (answer->rcode != kNoError && answer->rcode != kNameError) {
    question->last_refusal = packet;
    return next_after(now, *question);
  }
  cache_.put(now, question->cache_key, std::string(packet), answer->ttl);
  finish(*question, std::string(packet));
}

void Forwarder::failed(TimePoint now, uint64_t exchange) {
  Question* question = by_exchange(exchange);
  if (question == nullptr) return;
  shun(now, *question);
  next_after(now, *question);
}

void Forwarder::timed_out(TimePoint now, Question& question) {
  shun(now, question);
  if (!question.again) question.silent.push_back(question.servers[question.next_server]);
  next_after(now, question);
}

void Forwarder::finish(Question& question, const std::string& packet) {
  end_exchange(question);
  auto node = questions_.extract(question.key);
  Question& ended = node.mapped();
  const auto counted = per_container_.find(ended.container);
  counted->second -= ended.waiters.size();
  waiting_count_ -= ended.waiters.size();
  if (counted->second == 0) per_container_.erase(counted);
  for (Waiter& waiter : ended.waiters) {
    waiter.done(packet.empty() ? failure_answer(waiter.query, kServerFailure)
                               : relay_answer(packet, waiter.query, Duration(0), waiter.bytes_max));
  }
}

void Forwarder::forget(const std::string& container) {
  for (auto it = questions_.lower_bound(container + "/"); it != questions_.end();) {
    if (it->second.container != container) break;
    end_exchange(it->second);
    waiting_count_ -= it->second.waiters.size();
    it = questions_.erase(it);
  }
  per_container_.erase(container);
}

std::optional<TimePoint> Forwarder::next_deadline() const {
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

void Forwarder::tick(TimePoint now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    timed_out(now, *by_exchange(deadlines_.begin()->second));
  }
}

}  // namespace muster::overlay::dns
