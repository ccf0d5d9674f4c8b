#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/status.h"
#include "manager/examiner/examination.h"
#include "manager/store/store.h"

namespace muster::manager::examiner {

// The way to one client; a port. Called on the store's strand; neither call waits.
class ExaminationClient {
 public:
  virtual ~ExaminationClient() = default;
  virtual void send(v1::ExamineNetworksResponse message) = 0;
  // Last: nothing is called afterwards.
  virtual void end(Status status) = 0;
};

// The nodes' sessions; a port, on the store's strand.
class NodeSessions {
 public:
  virtual ~NodeSessions() = default;
  virtual std::set<std::string> nodes() const = 0;
  virtual void send(const std::string& node_id, const v1::ManagerMessage& message) = 0;
};

struct ExaminerDeps {
  Executor& strand;  // the store's
  store::Store& store;
  NodeSessions& sessions;
  Rng& rng;
  Log log;
};

// Has all nodes examine their networks at the same time and tells a client what they find. Works
// while this manager leads, as every session is the leader's then. Nothing of it is in the store: a
// client whose manager goes asks again.
//
// Lives on the store's strand. Bounds: kExaminationsMax at a time, since each of them makes every
// node send frames to the others.
class Examiner : public std::enable_shared_from_this<Examiner> {
 public:
  static constexpr size_t kExaminationsMax = 2;

  explicit Examiner(ExaminerDeps deps) : deps_(std::move(deps)) {}
  ~Examiner();

  void start() { running_ = true; }
  // Ends every client UNAVAILABLE.
  void stop();

  Executor& strand() { return deps_.strand; }
  // A client asks. A refusal is told to it like any other end.
  void examine(const v1::ExamineNetworksRequest& request,
               std::shared_ptr<ExaminationClient> client);
  void client_gone(const ExaminationClient& client);

  // ---- from the nodes

  void found(const std::string& node_id, const v1::NetworkFindings& message);
  void node_gone(const std::string& node_id);

  size_t examinations() const { return running_now_.size(); }

 private:
  struct Running {
    Examination examination;
    std::shared_ptr<ExaminationClient> client;
    Executor::TimerId timer = 0;
  };

  void settle(const std::string& id);
  void drop(const std::string& id, const Status& status);

  ExaminerDeps deps_;
  bool running_ = false;
  std::map<std::string, std::unique_ptr<Running>> running_now_;  // by id
};

}  // namespace muster::manager::examiner
