#include "manager/examiner/examiner.h"

#include <utility>
#include <vector>

#include "base/check.h"

namespace muster::manager::examiner {

Examiner::~Examiner() {
  for (auto& [id, running] : running_now_) deps_.strand.cancel(running->timer);
}

void Examiner::stop() {
  running_ = false;
  while (!running_now_.empty()) {
    const std::string id = running_now_.begin()->first;
    drop(id, unavailable("this manager does not lead the swarm any more: ask again"));
  }
}

void Examiner::examine(const v1::ExamineNetworksRequest& request,
                       std::shared_ptr<ExaminationClient> client) {
  MUSTER_CHECK(deps_.strand.is_current());
  if (!running_) return client->end(unavailable("this manager does not lead the swarm"));
  const auto timeout = Examination::timeout_of(request);
  if (!timeout) return client->end(timeout.error());
  if (running_now_.size() >= kExaminationsMax) {
    return client->end(resource_exhausted(
        "the networks are being examined by {} others already: try again in a moment",
        running_now_.size()));
  }
  auto examinee = read_examinee(deps_.store.snapshot(), request);
  if (!examinee) return client->end(examinee.error());
  const std::string id = deps_.rng.id();
  const Clock& clock = deps_.strand.clock();
  auto made = std::make_unique<Running>(
      Running{Examination(id, *std::move(examinee), deps_.sessions.nodes(), *timeout, clock.now(),
                          clock.wall_now()),
              std::move(client)});
  Running& running = *made;
  running_now_[id] = std::move(made);
  running.timer = deps_.strand.after(*timeout, [weak = weak_from_this(), id] {
    const auto self = weak.lock();
    if (self == nullptr || !self->running_now_.contains(id)) return;
    self->running_now_.at(id)->timer = 0;
    self->settle(id);
  });
  running.client->send(running.examination.first());
  deps_.log->debug("examination {} begins", id);
  const auto asks = running.examination.asks();
  for (const auto& [node_id, ask] : asks) {
    v1::ManagerMessage message;
    *message.mutable_examination() = ask;
    // A session that ends by it is told of by node_gone().
    deps_.sessions.send(node_id, message);
  }
  settle(id);
}

void Examiner::client_gone(const ExaminationClient& client) {
  for (auto& [id, running] : running_now_) {
    if (running->client.get() != &client) continue;
    deps_.strand.cancel(running->timer);
    running_now_.erase(id);
    return;
  }
}

void Examiner::found(const std::string& node_id, const v1::NetworkFindings& message) {
  const auto at = running_now_.find(message.examination_id());
  if (at == running_now_.end()) return;  // over
  Running& running = *at->second;
  v1::ExamineNetworksResponse news;
  for (v1::NetworkFinding& found :
       running.examination.found(node_id, message, deps_.strand.clock().now())) {
    *news.add_findings() = std::move(found);
  }
  if (news.findings_size() > 0) running.client->send(std::move(news));
  settle(std::string(at->first));
}

void Examiner::node_gone(const std::string& node_id) {
  std::vector<std::string> ids;
  for (auto& [id, running] : running_now_) {
    running->examination.gone(node_id);
    ids.push_back(id);
  }
  for (const std::string& id : ids) settle(id);
}

void Examiner::settle(const std::string& id) {
  const auto at = running_now_.find(id);
  if (at == running_now_.end()) return;
  Running& running = *at->second;
  if (!running.examination.over(deps_.strand.clock().now())) return;
  running.client->send(running.examination.conclude());
  drop(id, ok_status());
}

void Examiner::drop(const std::string& id, const Status& status) {
  auto taken = running_now_.extract(id);
  if (taken.empty()) return;
  deps_.strand.cancel(taken.mapped()->timer);
  taken.mapped()->client->end(status);
}

}  // namespace muster::manager::examiner
